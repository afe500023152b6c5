//! Makes `src/generated/` of this package anew from `schema/`, or writes the same to the folder that is named.

#[path = "../codegen.rs"]
mod codegen;

use std::path::{Path, PathBuf};

fn main() -> capnp::Result<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = std::env::args_os().nth(1).map_or_else(|| package.join("src/generated"), PathBuf::from);
    codegen::generate(package, &output)
}
