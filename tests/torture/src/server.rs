//! A real server process: started, watched until it is ready, stopped or killed.

use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long a start may take. A restart replays at most about a second's worth of log; checks and mounts come on top.
const START_MAX: Duration = Duration::from_mins(1);
/// How long a clean stop may take.
const STOP_MAX: Duration = Duration::from_mins(1);

/// How servers are started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// The program `pinion`.
    pub(crate) program: PathBuf,
    /// Further arguments of `pinion server`.
    pub(crate) arguments: Vec<String>,
    /// Standard error of all servers, one after the other.
    pub(crate) log: PathBuf,
}

/// A server process that has not said yet that it is ready.
pub(crate) struct Starting {
    child: Child,
    lines: Receiver<String>,
    began: Instant,
    log: PathBuf,
}

/// A server that serves. It is killed when dropped.
pub(crate) struct Server {
    child: Child,
    addresses: Vec<String>,
    start_took: Duration,
}

impl Launch {
    /// Starts a server on `data_dir`, with ports of its own choice.
    pub(crate) fn start(&self, data_dir: &Path) -> Result<Starting> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(["server", "--listen", "127.0.0.1:0", "--cpus", "none", "--data-dir"]).arg(data_dir);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let began = Instant::now();
        let mut child = command.spawn().with_context(|| self.program.display().to_string())?;
        let stdout = child.stdout.take().context("the server's output was asked for")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens any more once the server is ready, yet its pipe must not fill up.
                let _ = sender.send(line);
            }
        });
        Ok(Starting { child, lines, began, log: self.log.clone() })
    }
}

impl Starting {
    /// Waits until the server says that it is ready.
    pub(crate) fn ready(mut self) -> Result<Server> {
        let deadline = self.began + START_MAX;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(addresses) = addresses(&line) {
                        let start_took = self.began.elapsed();
                        return Ok(Server { child: self.child, addresses, start_took });
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    kill(&mut self.child)?;
                    bail!("the server was not ready after {START_MAX:?}; see {}", self.log.display());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!("the server ended before it was ready: {status}; see {}", self.log.display());
                }
            }
        }
    }

    /// Waits for `after` since the start, unless the server is ready before. The answer is whether it is still starting.
    pub(crate) fn still_starting_after(&self, after: Duration) -> Result<bool> {
        let left = (self.began + after).saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(_) => Ok(false),
            Err(RecvTimeoutError::Timeout) => Ok(true),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the server ended before it was ready; see {}", self.log.display())
            }
        }
    }

    /// Kills the process with -9.
    pub(crate) fn kill(mut self) -> Result<()> {
        kill(&mut self.child)
    }
}

impl Server {
    /// Where the cores listen, in their order.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// How long it took from the start to `ready`.
    pub(crate) fn start_took(&self) -> Duration {
        self.start_took
    }

    /// Fails when the process has ended by itself.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server ended by itself: {status}");
        }
        Ok(())
    }

    /// The process, as an argument of kill(1). It is ours until it is waited for, so the number cannot become another's.
    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Kills the process with -9, unless it is dead, and waits for its end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        kill(&mut self.child)
    }

    /// Stops the process with SIGTERM and waits for its clean end.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = self.pid();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "kill -TERM {pid} failed");
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "after SIGTERM the server ended with {status}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the server did not stop within {STOP_MAX:?} of SIGTERM")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = kill(&mut self.child);
    }
}

fn kill(child: &mut Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// The addresses in the line `ready store=1 listen=A,B`.
fn addresses(line: &str) -> Option<Vec<String>> {
    let fields = line.strip_prefix("ready ")?;
    let listen = fields.split(' ').find_map(|field| field.strip_prefix("listen="))?;
    Some(listen.split(',').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_every_core() {
        let found = addresses("ready store=1 listen=127.0.0.1:20160,127.0.0.1:20161").unwrap();
        assert_eq!(found, ["127.0.0.1:20160", "127.0.0.1:20161"]);
        assert_eq!(addresses("warning: not ready listen=x"), None);
    }

    fn launch(folder: &Path, script: &str) -> Launch {
        let program = folder.join("server.sh");
        // Written by a child: a file that this process writes may be open for writing in a child that another test starts just then, and can't
        // be executed.
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod +x "$0""#;
        assert!(Command::new("sh").args(["-c", write]).arg(&program).arg(script).status().unwrap().success());
        Launch { program, arguments: Vec::new(), log: folder.join("log") }
    }

    #[test]
    fn a_server_that_ends_before_it_is_ready_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(launch(folder.path(), "exit 3").start(folder.path()).unwrap().ready().is_err());
    }

    #[test]
    fn a_server_is_stopped_cleanly_or_killed() {
        let folder = tempfile::tempdir().unwrap();
        let script =
            "trap 'exit 0' TERM; echo ready store=1 listen=127.0.0.1:1; while true; do sleep 0.01; done";
        let launch = launch(folder.path(), script);
        let mut server = launch.start(folder.path()).unwrap().ready().unwrap();
        assert_eq!(server.addresses(), ["127.0.0.1:1"]);
        assert!(server.check_running().is_ok());
        assert!(server.stop().is_ok());
        let mut server = launch.start(folder.path()).unwrap().ready().unwrap();
        server.kill().unwrap();
        assert!(server.check_running().is_err());
    }

    #[test]
    fn a_start_can_be_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let starting = launch(folder.path(), "sleep 10").start(folder.path()).unwrap();
        assert!(starting.still_starting_after(Duration::from_millis(20)).unwrap());
        starting.kill().unwrap();
    }
}
