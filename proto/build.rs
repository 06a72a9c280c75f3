//! Compiles the .proto files with protox (pure Rust), so that no protoc is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 3] =
    ["quorate/v1/log.proto", "quorate/admin/v1/admin.proto", "quorate/raft/v1/peer.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Served by gRPC reflection.
    fs::write(out.join("descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Payloads are reference-counted slices of the received message: no copy.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
