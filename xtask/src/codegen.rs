//! `cargo xtask codegen`: Rust from the Cap'n Proto schemas. The result is checked in, so that only who changes a schema needs the
//! schema compiler.

use crate::{setup, shell, workspace};
use anyhow::{Context, Result, bail};
use std::path::Path;

const GENERATED: &str = "capnp/src/generated";

pub(crate) fn run(check: bool) -> Result<()> {
    setup::debian(&["capnproto"])?;
    let checked_in = workspace::root().join(GENERATED);
    if !check {
        generate(&checked_in)?;
        println!("wrote {GENERATED}");
        return Ok(());
    }
    let fresh = workspace::target().join("codegen-check");
    generate(&fresh)?;
    let differing = differing(&checked_in, &fresh)?;
    if !differing.is_empty() {
        bail!("not what the schemas give: {}; run `cargo xtask codegen`", differing.join(", "));
    }
    println!("{GENERATED} is fresh");
    Ok(())
}

fn generate(output: &Path) -> Result<()> {
    std::fs::create_dir_all(output)?;
    let mut compiler =
        shell::cargo(["run", "--quiet", "--package", "pinion-capnp", "--example", "codegen", "--"]);
    shell::run(compiler.arg(output))
}

/// Names of the files that are not alike in both folders.
fn differing(left: &Path, right: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in [left, right] {
        for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let name = entry?.file_name();
            if name.to_string_lossy().ends_with("_capnp.rs")
                && std::fs::read(left.join(&name)).ok() != std::fs::read(right.join(&name)).ok()
            {
                names.push(name.to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_one_folder_lacks_differs() {
        let (left, right) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&left, &right] {
            std::fs::write(folder.path().join("same_capnp.rs"), "a").unwrap();
            std::fs::write(folder.path().join("mod.rs"), folder.path().to_string_lossy().as_bytes()).unwrap();
        }
        std::fs::write(right.path().join("more_capnp.rs"), "b").unwrap();
        assert_eq!(differing(left.path(), right.path()).unwrap(), ["more_capnp.rs"]);
    }
}
