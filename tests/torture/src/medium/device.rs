//! ext4 on a block device that loses power: device/powercut.c under nbdkit, made a file by nbdfuse, made a device by loop.
//!
//! Unlike a filesystem that is shut down, it also loses what the filesystem has written to the device but not flushed there, whole or
//! sector by sector.

use super::{Medium, Mount, run, text};
use anyhow::{Context, Result, bail, ensure};
use pinion_workload::Random;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SIZE_BYTES: u64 = 4 << 30;
const START_MAX: Duration = Duration::from_secs(10);
const STOP_MAX: Duration = Duration::from_secs(30);

/// A device that loses power, with ext4 on it.
pub(crate) struct Device {
    work: PathBuf,
    plugin: PathBuf,
    // In the order in which they are let go.
    mount: Option<Mount>,
    processes: Option<Processes>,
}

/// nbdkit with the plugin, and nbdfuse that shows it as a file.
struct Processes {
    nbdkit: Child,
    nbdfuse: Child,
    fuse: PathBuf,
}

impl Device {
    pub(crate) fn new(work: &Path, plugin: &Path) -> Result<Self> {
        File::create(work.join("device.image"))?.set_len(SIZE_BYTES)?;
        let mut device =
            Self { work: work.to_owned(), plugin: plugin.to_owned(), mount: None, processes: None };
        let mut mount = device.power_on()?;
        run("mkfs.ext4", &["-q", "-E", "nodiscard", mount.device()?])?;
        mount.mount()?;
        device.mount = Some(mount);
        Ok(device)
    }

    /// Starts the device; its filesystem is not mounted yet.
    fn power_on(&mut self) -> Result<Mount> {
        let (socket, control) = (self.work.join("nbd.socket"), self.work.join("control.socket"));
        let fuse = self.work.join("fuse");
        std::fs::create_dir_all(&fuse)?;
        if socket.exists() {
            std::fs::remove_file(&socket)?;
        }
        let mut nbdkit = Command::new("nbdkit");
        nbdkit.args(["--foreground", "--unix"]).arg(&socket).arg(&self.plugin);
        nbdkit.arg(format!("image={}", text(&self.work.join("device.image"))?));
        nbdkit.arg(format!("control={}", text(&control)?));
        let nbdkit = nbdkit.stdin(Stdio::null()).spawn().context("nbdkit")?;
        wait_for(&socket)?;
        wait_for(&control)?;
        let file = fuse.join("disk");
        let mut nbdfuse = Command::new("nbdfuse");
        nbdfuse.arg(&file).arg("--unix").arg(&socket);
        // After a cut it says of every request that it failed, which is what a cut is.
        let nbdfuse = nbdfuse.stdin(Stdio::null()).stderr(Stdio::null()).spawn().context("nbdfuse")?;
        self.processes = Some(Processes { nbdkit, nbdfuse, fuse });
        wait_for(&file)?;
        Mount::attach(&file, &self.work.join("ext4"))
    }

    /// One command to the plugin, and its answer.
    fn control(&self, command: &str) -> Result<String> {
        let mut socket = UnixStream::connect(self.work.join("control.socket"))?;
        socket.write_all(format!("{command}\n").as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer.trim().to_owned())
    }
}

impl Medium for Device {
    fn data_dir(&self) -> PathBuf {
        self.work.join("ext4/data")
    }

    fn fail(&mut self, random: &mut Random) -> Result<()> {
        let answer = self.control(&format!("cut {}", random.number()))?;
        ensure!(answer.contains("\"failed\":false"), "the device could not be cut: {answer}");
        eprintln!("  cut: {answer}");
        Ok(())
    }

    fn recover(&mut self) -> Result<()> {
        if let Some(mut mount) = self.mount.take() {
            mount.detach()?;
        }
        drop(self.processes.take());
        let mut mount = self.power_on()?;
        mount.mount()?;
        self.mount = Some(mount);
        Ok(())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        drop(self.mount.take());
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("clean up by hand: {error:#}");
        }
    }
}

impl Processes {
    fn end(&mut self) -> Result<()> {
        // The loop device lets go of the file a moment after it was detached.
        let deadline = Instant::now() + STOP_MAX;
        while let Err(error) = run("fusermount3", &["-u", text(&self.fuse)?]) {
            if Instant::now() > deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.nbdfuse.wait()?;
        self.nbdkit.kill()?;
        self.nbdkit.wait()?;
        Ok(())
    }
}

fn wait_for(path: &Path) -> Result<()> {
    let deadline = Instant::now() + START_MAX;
    while !path.exists() {
        if Instant::now() > deadline {
            bail!("{} did not appear within {START_MAX:?}", path.display());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
