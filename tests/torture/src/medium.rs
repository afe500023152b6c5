//! What the data lies on, and how it fails under a running server.

pub(crate) mod device;
pub(crate) mod filesystem;

use anyhow::{Context, Result, bail};
use pinion_workload::Random;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a file system may stay busy after the last process that used it is gone.
const BUSY_WAIT: Duration = Duration::from_secs(30);
const BUSY_LOOK_EVERY: Duration = Duration::from_millis(200);

/// A place for a data directory that can fail and come back with what it kept.
pub(crate) trait Medium {
    /// Where the server keeps its data.
    fn data_dir(&self) -> PathBuf;

    /// Fails at once, while the server runs. From here on nothing that the server writes is kept.
    fn fail(&mut self, random: &mut Random) -> Result<()>;

    /// Comes back; the server is gone by now.
    fn recover(&mut self) -> Result<()>;
}

/// A folder that never fails: the server's end alone is the trouble.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(work: &Path) -> Self {
        Self(work.join("data"))
    }
}

impl Medium for Folder {
    fn data_dir(&self) -> PathBuf {
        self.0.clone()
    }

    fn fail(&mut self, _: &mut Random) -> Result<()> {
        Ok(())
    }

    fn recover(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Runs a program and gives what it prints; an error carries what it said.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let line = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).output().with_context(|| line.clone())?;
    if !output.status.success() {
        bail!("`{line}`: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// A filesystem mounted from a loop device; both are let go when it is dropped.
pub(crate) struct Mount {
    loop_device: Option<String>,
    target: PathBuf,
    mounted: bool,
}

impl Mount {
    /// Makes `backing` a loop device; nothing is mounted yet.
    pub(crate) fn attach(backing: &Path, target: &Path) -> Result<Self> {
        std::fs::create_dir_all(target)?;
        let device = run("losetup", &["--find", "--show", text(backing)?])?;
        Ok(Self { loop_device: Some(device), target: target.to_owned(), mounted: false })
    }

    /// The loop device.
    pub(crate) fn device(&self) -> Result<&str> {
        self.loop_device.as_deref().context("the loop device is let go")
    }

    pub(crate) fn mount(&mut self) -> Result<()> {
        run("mount", &[self.device()?, text(&self.target)?])?;
        self.mounted = true;
        Ok(())
    }

    pub(crate) fn unmount(&mut self) -> Result<()> {
        if self.mounted {
            let target = text(&self.target)?;
            let deadline = Instant::now() + BUSY_WAIT;
            // The kernel lets go of a killed process's io_uring, and of the files that it holds, some time after the process is gone.
            while let Err(error) = run("umount", &[target]) {
                if Instant::now() > deadline {
                    return Err(error);
                }
                std::thread::sleep(BUSY_LOOK_EVERY);
            }
            self.mounted = false;
        }
        Ok(())
    }

    /// Lets go of the loop device, too.
    pub(crate) fn detach(&mut self) -> Result<()> {
        self.unmount()?;
        if let Some(device) = self.loop_device.take() {
            run("losetup", &["--detach", &device])?;
        }
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            eprintln!("clean up by hand: {error:#}");
        }
    }
}
