//! What there is in the workspace: its root, its packages and their targets.

use crate::shell;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// The folder with the workspace's Cargo.toml.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Cargo's target folder, wherever the environment puts it.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Builds the program `binary` of `package` optimised, and gives its path.
pub(crate) fn build_release(package: &str, binary: &str, features: &[&str]) -> Result<PathBuf> {
    let mut cargo = shell::cargo(["build", "--release", "--package", package, "--bin", binary]);
    if !features.is_empty() {
        cargo.arg("--features").arg(features.join(","));
    }
    shell::run(&mut cargo)?;
    let path = target().join("release").join(binary);
    if !path.exists() {
        bail!("cargo built {binary}, but not at {}", path.display());
    }
    Ok(path)
}
