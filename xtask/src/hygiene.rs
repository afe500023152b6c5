//! The repository's own rules, as far as a program can see them.
//!
//! - A Rust file begins with documentation of its module, and is no longer than [`LINES_MAX`] lines.
//! - No test is ignored.
//! - No trailing blanks, no tabs in Rust, every file ends with one newline.
//! - Links in Markdown lead somewhere.

use crate::shell;
use anyhow::{Context, Result};
use std::fmt;
use std::path::{Path, PathBuf};

/// Lines that a Rust file may have. What is longer has more than one subject.
const LINES_MAX: usize = 800;

/// One place where the tree breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    path: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.what)
    }
}

/// Every fault in the files that git knows under `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<Fault>> {
    let listed = shell::output(
        shell::command("git", ["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root),
    )?;
    let mut faults = Vec::new();
    for path in listed.lines().map(Path::new) {
        let Some(extension) = path.extension().and_then(|extension| extension.to_str()) else { continue };
        // Generated code, and files that are deleted but not yet committed so.
        if path.components().any(|part| part.as_os_str() == "generated") || !root.join(path).exists() {
            continue;
        }
        if !matches!(extension, "rs" | "md" | "toml" | "capnp" | "py" | "c" | "sh") {
            continue;
        }
        let text = std::fs::read_to_string(root.join(path)).with_context(|| path.display().to_string())?;
        check_text(path, &text, &mut faults);
        match extension {
            "rs" => check_rust(path, &text, &mut faults),
            "md" => check_links(root, path, &text, &mut faults),
            _ => {}
        }
    }
    Ok(faults)
}

fn check_text(path: &Path, text: &str, faults: &mut Vec<Fault>) {
    let mut fault =
        |line: usize, what: &str| faults.push(Fault { path: path.to_owned(), line, what: what.to_owned() });
    for (index, line) in text.lines().enumerate() {
        if line.ends_with([' ', '\t']) {
            fault(index + 1, "a blank at the end of the line");
        }
    }
    if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
        fault(text.lines().count(), "a file ends with one newline");
    }
}

fn check_rust(path: &Path, text: &str, faults: &mut Vec<Fault>) {
    let mut fault = |line: usize, what: String| faults.push(Fault { path: path.to_owned(), line, what });
    if !text.starts_with("//!") && !path.ends_with("build.rs") {
        fault(1, "a file begins with documentation of its module (//!)".to_owned());
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        fault(lines, format!("{lines} lines: a file has one subject and at most {LINES_MAX} lines"));
    }
    for (index, line) in text.lines().enumerate() {
        let code = line.trim_start();
        if line.contains('\t') {
            fault(index + 1, "a tab".to_owned());
        }
        if code.starts_with("#[ignore") {
            fault(index + 1, "an ignored test tests nothing: make it run, or remove it".to_owned());
        }
    }
}

/// Relative links of a Markdown file must name something that exists.
fn check_links(root: &Path, path: &Path, text: &str, faults: &mut Vec<Fault>) {
    let folder = root.join(path.parent().unwrap_or(Path::new("")));
    for (index, line) in text.lines().enumerate() {
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or(link);
            if target.is_empty() || target.contains("://") || folder.join(target).exists() {
                continue;
            }
            faults.push(Fault {
                path: path.to_owned(),
                line: index + 1,
                what: format!("no such file: {target}"),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of_rust(text: &str) -> Vec<usize> {
        let mut faults = Vec::new();
        check_text(Path::new("a.rs"), text, &mut faults);
        check_rust(Path::new("a.rs"), text, &mut faults);
        faults.into_iter().map(|fault| fault.line).collect()
    }

    #[test]
    fn a_clean_file_has_no_fault() {
        assert_eq!(faults_of_rust("//! What it is.\n\nfn f() {}\n"), [] as [usize; 0]);
    }

    #[test]
    fn faults_name_their_line() {
        assert_eq!(faults_of_rust("fn f() {}\n"), [1]);
        assert_eq!(faults_of_rust("//! Doc.\nfn f() {} \n"), [2]);
        assert_eq!(faults_of_rust("//! Doc.\n\n"), [2]);
        assert_eq!(faults_of_rust("//! Doc.\n#[ignore]\n"), [2]);
    }

    #[test]
    fn a_file_that_is_too_long_is_a_fault() {
        let text = format!("//! Doc.\n{}", "// More.\n".repeat(LINES_MAX));
        assert_eq!(faults_of_rust(&text), [LINES_MAX + 1]);
    }

    #[test]
    fn links_must_lead_somewhere() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("there.md"), "").unwrap();
        let text = "[a](there.md) [b](there.md#part)\n[c](nowhere.md) [d](https://example.org/x)\n";
        let mut faults = Vec::new();
        check_links(root.path(), Path::new("README.md"), text, &mut faults);
        assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [2]);
    }
}
