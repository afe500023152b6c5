//! One store's process: started, killed, paused, stopped; and whether it died by itself.

use crate::network::{self, within};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(30);
/// How long a clean stop may take.
const STOP_MAX: Duration = Duration::from_secs(30);
/// A store: its directory, and the process when there is one.
pub struct Store {
    /// Which host it is on; its id in the cluster, too.
    pub number: u8,
    /// The namespace of that host.
    space: String,
    program: PathBuf,
    directory: PathBuf,
    process: Option<Process>,
}

struct Process {
    child: Child,
    lines: Receiver<String>,
    began: Instant,
    is_ready: bool,
}

impl Store {
    /// A store in a namespace, never started, with these settings and all of its files in `directory`.
    pub(crate) fn new(
        number: u8,
        space: String,
        program: &Path,
        settings: &str,
        directory: PathBuf,
    ) -> Result<Self> {
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("pinion.toml"), settings)?;
        Ok(Self { number, space, program: program.to_owned(), directory, process: None })
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// What it has logged, over all its lives.
    pub fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Starts the process; see [`Store::wait_until_ready`].
    pub fn start(&mut self, join: Option<u8>) -> Result<()> {
        assert!(self.process.is_none(), "store {} runs already", self.number);
        let program = self.program.to_str().context("the program's path is UTF-8")?;
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = within(&self.space, program, &["server", "--config"]);
        command.arg(self.directory.join("pinion.toml")).arg("--data-dir").arg(self.data());
        command.args(["--listen", &network::listener(self.number).to_string()]);
        if let Some(join) = join {
            command.args(["--join", &network::listener(join).to_string()]);
        }
        // A group of its own: what interrupts the campaign does not reach it.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().context("the server cannot be started")?;
        let stdout = child.stdout.take().context("the server's output was asked for")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens any more once the server is ready, yet its pipe must not fill up.
                let _ = sender.send(line);
            }
        });
        self.process = Some(Process { child, lines, began: Instant::now(), is_ready: false });
        Ok(())
    }

    /// Waits until a process that was started says that it serves.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let (number, log) = (self.number, self.log());
        let process = self.process.as_mut().context("the store was not started")?;
        while !process.is_ready {
            let left = (process.began + START_MAX).saturating_duration_since(Instant::now());
            match process.lines.recv_timeout(left) {
                Ok(line) => process.is_ready = line.starts_with("ready "),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("store {number} is not ready after {START_MAX:?}; see {}", log.display())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = process.child.wait()?;
                    bail!("store {number} ended before it was ready: {status}; see {}", log.display());
                }
            }
        }
        Ok(())
    }

    /// Fails when the process has ended by itself.
    pub fn check_running(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process
            && let Some(status) = process.child.try_wait()?
        {
            bail!("store {} ended by itself: {status}; see {}", self.number, self.log().display());
        }
        Ok(())
    }

    /// Kills the process with -9 and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        self.check_running()?;
        if let Some(mut process) = self.process.take() {
            process.child.kill()?;
            process.child.wait()?;
        }
        Ok(())
    }

    /// Whether there is a process.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// SIGSTOP.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGTERM; the process must end in time, and with success.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let mut process = self.process.take().context("the store does not run")?;
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if let Some(status) = process.child.try_wait()? {
                ensure!(status.success(), "after SIGTERM store {} ended with {status}", self.number);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.process = Some(process);
        bail!("store {} did not stop within {STOP_MAX:?} of SIGTERM", self.number)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.as_ref().context("the store does not run")?;
        // The process is ours until it is waited for, so the number cannot become another's.
        kill_process(Pid::from_child(&process.child), signal)?;
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may be gone already.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}
