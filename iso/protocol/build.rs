//! Generates the gRPC types; needs `protoc` (Debian: protobuf-compiler).

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        .compile_protos(&["proto/agent.proto", "proto/signer.proto"], &["proto"])
}
