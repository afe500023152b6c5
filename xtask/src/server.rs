//! Servers under test, and what their clients print.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A server process that ends with its owner.
pub(crate) struct Server(Child);

impl Server {
    /// Starts a server.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        Ok(Self(command.spawn().with_context(|| format!("cannot start {command:?}"))?))
    }

    /// Starts `pinion server` on a free port and waits until it serves; gives its first address too.
    pub(crate) fn start(command: &mut Command) -> Result<(Self, String)> {
        command.args(["--listen", "127.0.0.1:0"]);
        let mut server = Self::spawn(command.stdout(Stdio::piped()))?;
        let address = ready_address(&mut server.0)?;
        Ok((server, address))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after the wait.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `program` on one processor.
pub(crate) fn pinned(cpu: usize, program: &Path) -> Command {
    let mut command = shell::command("taskset", ["--cpu-list", &cpu.to_string()]);
    command.arg(program);
    command
}

pub(crate) fn fresh(directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port().to_string())
}

/// The first address of the line `ready store=1 listen=A,B`.
fn ready_address(server: &mut Child) -> Result<String> {
    let stdout = server.stdout.take().context("the server's output was asked for")?;
    for line in BufReader::new(stdout).lines() {
        if let Some(address) = listen_of(&line?) {
            return Ok(address);
        }
    }
    bail!("pinion server ended before it was ready")
}

fn listen_of(line: &str) -> Option<String> {
    let fields = line.strip_prefix("ready ")?;
    let listen = fields.split(' ').find_map(|field| field.strip_prefix("listen="))?;
    listen.split(',').next().map(str::to_owned)
}

/// Operations a second in the JSON line of `pinion bench raw`.
pub(crate) fn operations_per_second(printed: &str) -> Result<f64> {
    figure(printed, "/operations_per_second")
}

/// The number at `pointer` (RFC 6901) in the JSON line of `pinion bench raw`.
pub(crate) fn figure(printed: &str, pointer: &str) -> Result<f64> {
    let found = || {
        let line = printed.lines().rev().find(|line| line.starts_with('{'))?;
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line.pointer(pointer)?.as_f64()
    };
    found().with_context(|| format!("pinion bench raw printed no {pointer}: {printed}"))
}

/// The middle of several runs.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_the_client_prints() {
        let printed = "text\n{\"operations_per_second\":123.5,\"latency_us\":{\"update\":{\"p99.9\":7}}}\n";
        assert_eq!(operations_per_second(printed).unwrap().to_string(), "123.5");
        assert_eq!(figure(printed, "/latency_us/update/p99.9").unwrap().to_string(), "7");
        assert!(operations_per_second("{}").is_err());
    }

    #[test]
    fn the_ready_line_names_the_first_address() {
        let line = "ready store=1 listen=127.0.0.1:20160,127.0.0.1:20161";
        assert_eq!(listen_of(line).as_deref(), Some("127.0.0.1:20160"));
        assert_eq!(listen_of("listening"), None);
    }

    #[test]
    fn the_median_of_nothing_is_nothing() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
    }
}
