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
        // A machine that boots has them in its settings, as JSON.
        .type_attribute(
            ".coracle.folders.v1.Folder",
            "#[derive(serde::Serialize, serde::Deserialize)] #[serde(deny_unknown_fields)]",
        )
        .compile_protos(&files, &["proto"])
}
