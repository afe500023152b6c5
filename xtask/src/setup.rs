//! Installing what a task needs, on Debian and as root; elsewhere the task says what is missing.

use crate::{shell, workspace};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Makes sure that these Debian packages are installed.
pub(crate) fn debian(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !shell::succeeds(&mut shell::command("apt-get", ["--version"])) {
        bail!("this task needs Debian's packages {list}, and there is no apt-get here: install them by hand");
    }
    let mut update = privileged("apt-get")?;
    shell::run(update.args(["update", "-qq"]))?;
    let mut install = privileged("apt-get")?;
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing);
    shell::run(install.env("DEBIAN_FRONTEND", "noninteractive"))
        .with_context(|| format!("this task needs Debian's packages {list}"))
}

fn installed(package: &str) -> bool {
    shell::output(&mut shell::command("dpkg-query", ["-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

/// `program` as root: directly, or through sudo.
fn privileged(program: &str) -> Result<Command> {
    if is_root()? {
        return Ok(Command::new(program));
    }
    if shell::succeeds(&mut shell::command("sudo", ["-n", "true"])) {
        return Ok(shell::command("sudo", [program]));
    }
    bail!("`{program}` needs root, and there is no sudo without a password here: run this task as root")
}

/// Whether this process is root.
pub(crate) fn is_root() -> Result<bool> {
    Ok(shell::output(&mut shell::command("id", ["-u"]))?.trim() == "0")
}

/// A Python of our own with the packages of `requirements`, made once; gives the path of its interpreter.
pub(crate) fn python(requirements: &str) -> Result<PathBuf> {
    let requirements = workspace::root().join(requirements);
    let wanted = std::fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let folder = workspace::target().join("python");
    let interpreter = folder.join("bin/python");
    let stamp = folder.join("requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(interpreter);
    }
    if !shell::succeeds(&mut shell::command("python3", ["-c", "import venv, ensurepip"])) {
        debian(&["python3", "python3-venv"])?;
    }
    let mut venv = shell::command("python3", ["-m", "venv", "--clear"]);
    shell::run(venv.arg(&folder))?;
    let mut pip = Command::new(&interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    shell::run(pip.arg(&requirements))?;
    std::fs::write(stamp, wanted)?;
    Ok(interpreter)
}
