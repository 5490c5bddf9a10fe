//! Generates the gRPC types; needs `protoc` (Debian: protobuf-compiler).

fn main() -> std::io::Result<()> {
    let files = [
        "proto/agent.proto",
        "proto/folders.proto",
        "proto/signer.proto",
    ];
    tonic_prost_build::configure()
        // What files hold goes from message to message without a copy.
        .bytes(".coracle.folders.v1")
        .compile_protos(&files, &["proto"])
}
