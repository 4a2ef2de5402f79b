//! Generates the client of words.proto; protox is a protoc in Rust.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const PROTOS: &str = "../../../protos";
    println!("cargo:rerun-if-changed={PROTOS}/demo/v1/words.proto");
    let files = protox::compile(["demo/v1/words.proto"], [PROTOS])?;
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(files)?;
    Ok(())
}
