//! Makes `capnp/src/generated/` anew from `capnp/schema/`.

#[path = "../codegen.rs"]
mod codegen;

fn main() -> capnp::Result<()> {
    let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    codegen::generate(package, &package.join("src/generated"))
}
