//! The real binary: servers and commands.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

pub(crate) const PINION: &str = env!("CARGO_BIN_EXE_pinion");

/// A server of one core on a free port, killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: String,
}

impl Server {
    /// Starts a server on `directory` and waits until it is ready.
    pub(crate) fn start(directory: &Path, more: &[&str]) -> Self {
        Self::start_at(directory, "127.0.0.1:0", more)
    }

    /// The same at an address.
    pub(crate) fn start_at(directory: &Path, listen: &str, more: &[&str]) -> Self {
        Self::begin(server(directory, listen, more))
    }

    /// Runs a server's command and waits until it is ready.
    pub(crate) fn begin(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let addresses = ready.trim().rsplit_once("listen=").expect(&ready).1;
        let address = addresses.split(',').next().unwrap().to_owned();
        Self { child, address }
    }

    /// `pinion raw` with these arguments.
    pub(crate) fn raw(&self, arguments: &[&str]) -> Output {
        run(&[&["raw", "--connect", &self.address], arguments].concat())
    }

    /// `pinion raw` with these arguments, and this on its standard input.
    pub(crate) fn raw_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(PINION)
            .args(["raw", "--connect", &self.address])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that refuses its arguments does not read.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// The bytes that the server has in memory.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Server {
    /// Stops it with SIGTERM, and gives how it ended.
    pub(crate) fn stop(mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // kill -9; the test looks at what is left.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command of a server, of one core unless it is said otherwise.
pub(crate) fn server(directory: &Path, listen: &str, more: &[&str]) -> Command {
    let mut command = Command::new(PINION);
    command.args(["server", "--listen", listen, "--cpus", "none", "--data-dir"]);
    command.arg(directory).args(more);
    if !more.contains(&"--cores") {
        command.args(["--cores", "1"]);
    }
    command
}

/// Runs the binary with these arguments to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(PINION).args(arguments).output().unwrap()
}

/// A directory of the test's own.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asserts that a command ended with `status`, and that its messages hold all of `said`.
#[track_caller]
pub(crate) fn assert_refused(output: &Output, status: i32, said: &[&str]) {
    let messages = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{messages}");
    for part in said {
        assert!(messages.contains(part), "{part:?} is not in {messages:?}");
    }
}
