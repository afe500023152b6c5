//! Makes `src/generated/` from `schema/`. Needs the Cap'n Proto compiler (Debian: `capnproto`), unlike every other build step.

use std::path::Path;

/// The schemas, each by its stem.
pub(crate) const SCHEMAS: [&str; 5] = ["common", "raw", "admin", "link", "pinion"];

/// Writes one `NAME_capnp.rs` for each schema of `package` (the folder of pinion-capnp) to `output`.
pub(crate) fn generate(package: &Path, output: &Path) -> capnp::Result<()> {
    let schema = package.join("schema");
    let mut command = capnpc::CompilerCommand::new();
    command
        .src_prefix(&schema)
        .import_path(schema.join("include"))
        .no_standard_import()
        .default_parent_module(vec!["generated".into()])
        .output_path(output);
    for name in SCHEMAS {
        command.file(schema.join(format!("{name}.capnp")));
    }
    command.run()
}
