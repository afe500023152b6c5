//! `cargo xtask planted`: a checker proves itself on bugs that were planted.
//!
//! tests/planted/NAME.patch is a patch against the tree. Its text before the first `diff` or `---` line says what the bug is, and has one
//! line `test: COMMAND…`, run by sh at the root of a copy of the tree, that passes without the patch and must fail with it.

use crate::{shell, workspace};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn run(names: &[String]) -> Result<()> {
    let patches = patches(names)?;
    ensure!(!patches.is_empty(), "there are no patches under tests/planted");
    let copy = workspace::target().join("planted/tree");
    let mut missed = Vec::new();
    for patch in &patches {
        fresh_copy(&copy)?;
        shell::run(shell::command("git", ["apply", "--whitespace=nowarn"]).arg(patch).current_dir(&copy))?;
        let content = std::fs::read_to_string(patch)?;
        let test = test_of(&content).with_context(|| format!("{}: no line `test: …`", patch.display()))?;
        let in_copy = |line: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", line]).current_dir(&copy);
            command.env("CARGO_TARGET_DIR", workspace::target().join("planted/target"));
            command
        };
        let name = patch.file_stem().unwrap_or_default().to_string_lossy();
        eprintln!("planted {name}: $ {test}");
        // A build that fails would look like a bug that was caught.
        if let Some(build) = build_of(test) {
            shell::run(&mut in_copy(&build))?;
        }
        let output = in_copy(test).output()?;
        if output.status.success() {
            println!("planted {name}: missed: `{test}` passes although the bug is there");
            missed.push(name.into_owned());
        } else {
            println!("planted {name}: caught: {}", reason(&output));
        }
    }
    println!("{} passed, {} failed", patches.len() - missed.len(), missed.len());
    ensure!(missed.is_empty(), "no test fails with {}", missed.join(", "));
    Ok(())
}

/// Whether every patch fits the tree as it is.
pub(crate) fn check() -> Result<()> {
    for patch in patches(&[])? {
        let mut apply = shell::command("git", ["apply", "--check"]);
        shell::run(apply.arg(&patch).current_dir(workspace::root()))
            .with_context(|| format!("{} does not fit the tree any more", patch.display()))?;
    }
    Ok(())
}

/// What the test said when it failed: the line behind that of a panic.
fn reason(output: &std::process::Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let mut lines = text.lines().skip_while(|line| !line.contains("panicked at"));
    lines.nth(1).unwrap_or("the test failed").trim().to_owned()
}

fn patches(names: &[String]) -> Result<Vec<PathBuf>> {
    let folder = workspace::root().join("tests/planted");
    if !names.is_empty() {
        return Ok(names.iter().map(|name| folder.join(format!("{name}.patch"))).collect());
    }
    let mut patches = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            patches.push(path);
        }
    }
    patches.sort();
    Ok(patches)
}

/// The tree as it is committed, in a folder of its own. What is there from the patch before, and is the same, keeps its time: cargo builds only
/// what differs.
fn fresh_copy(copy: &Path) -> Result<()> {
    if copy.join(".git").exists() {
        let git = |arguments: &[&str]| {
            let mut git = shell::command("git", []);
            git.args(arguments).current_dir(copy);
            git
        };
        shell::run(git(&["fetch", "--quiet"]).arg(workspace::root()).arg("HEAD"))?;
        shell::run(&mut git(&["reset", "--quiet", "--hard", "FETCH_HEAD"]))?;
        return shell::run(&mut git(&["clean", "--quiet", "-ffdx"]));
    }
    if copy.exists() {
        std::fs::remove_dir_all(copy)?;
    }
    std::fs::create_dir_all(copy)?;
    let mut clone = shell::command("git", ["clone", "--quiet", "--shared", "--no-tags"]);
    shell::run(clone.arg(workspace::root()).arg(copy))
}

/// The command behind `test:` in a patch's text.
fn test_of(patch: &str) -> Option<&str> {
    patch
        .lines()
        .take_while(|line| !line.starts_with("diff ") && !line.starts_with("--- "))
        .find_map(|line| line.strip_prefix("test: "))
}

/// The command that builds what `test` runs, for `cargo test`.
fn build_of(test: &str) -> Option<String> {
    let (environment, rest) = test.split_once("cargo test ")?;
    let options = rest.split(" -- ").next().unwrap_or(rest);
    Some(format!("{environment}cargo test --no-run {options}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_stands_before_the_patch() {
        let patch = "Forgets to sync.\ntest: cargo test -p pinion-engine log -- --nocapture\n\ndiff --git a/x b/x\ntest: no\n";
        let test = test_of(patch).unwrap();
        assert_eq!(test, "cargo test -p pinion-engine log -- --nocapture");
        assert_eq!(build_of(test).unwrap(), "cargo test --no-run -p pinion-engine log");
        assert_eq!(build_of("SEEDS=1 cargo test -p x").unwrap(), "SEEDS=1 cargo test --no-run -p x");
        assert_eq!(test_of("diff --git a/x b/x\ntest: no\n"), None);
    }
}
