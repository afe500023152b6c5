//! `cargo xtask check`: what must hold of the tree before anybody reads it.

use crate::{hygiene, planted, shell, workspace};
use anyhow::Result;

pub(crate) fn run() -> Result<()> {
    // The workspaces besides the main one.
    for folder in [".", "benches/peers", "tests/fuzz"] {
        let mut format = shell::command("cargo", ["fmt", "--all", "--check"]);
        shell::run(format.current_dir(workspace::root().join(folder)))?;
    }
    let faults = hygiene::check(workspace::root())?;
    for fault in &faults {
        eprintln!("{fault}");
    }
    anyhow::ensure!(faults.is_empty(), "{} faults against the repository's own rules", faults.len());
    planted::check()?;
    shell::run(&mut shell::cargo(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    shell::run(
        shell::cargo(["doc", "--workspace", "--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private_intra_doc_links"),
    )?;
    dependencies()
}

/// Licences, sources and duplicates of the dependencies, as deny.toml wants them.
fn dependencies() -> Result<()> {
    if !shell::succeeds(&mut shell::cargo(["deny", "--version"])) {
        eprintln!(
            "cargo-deny is not installed: licences and sources of dependencies go unchecked (cargo install cargo-deny)"
        );
        return Ok(());
    }
    shell::run(&mut shell::cargo(["deny", "--workspace", "check", "bans", "licenses", "sources"]))
}
