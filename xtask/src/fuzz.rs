//! `cargo xtask fuzz`: coverage-guided fuzzing with libFuzzer, on the stable compiler.
//!
//! tests/fuzz is a workspace of its own. Its programs are built with LLVM's coverage pass, which every compiler has; the sanitizers of
//! the nightly one are not needed, since what is fuzzed has no unsafe code. What is found to lead somewhere new is merged into the
//! target's corpus, which is part of the tree and is played again by the gate.

use crate::{setup, shell, workspace};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is fuzzed.
#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// The consensus core: messages that are wrong in a little or in everything
    RaftStep,
}

impl Target {
    fn program(self) -> &'static str {
        match self {
            Self::RaftStep => "raft-step",
        }
    }

    /// Where what is kept of its runs lies in the tree.
    fn corpus(self) -> &'static str {
        match self {
            Self::RaftStep => "raft/tests/hostile/corpus",
        }
    }

    /// The longest input, in bytes.
    fn length_max(self) -> usize {
        match self {
            Self::RaftStep => 4096,
        }
    }
}

/// What is fuzzed, and for how long.
#[derive(Args)]
pub(crate) struct FuzzArguments {
    target: Target,
    /// For how long, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Leave the corpus in the tree as it is
    #[arg(long)]
    no_keep: bool,
    /// Play this one input again, instead
    #[arg(long)]
    input: Option<PathBuf>,
}

/// LLVM's pass that counts edges, and shows comparisons to the fuzzer.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

pub(crate) fn run(arguments: &FuzzArguments) -> Result<()> {
    // libFuzzer is C++, and is built from its crate's sources.
    setup::debian(&["g++"])?;
    let program = build(arguments.target)?;
    if let Some(input) = &arguments.input {
        return shell::run(Command::new(program).arg(input));
    }
    let kept = workspace::root().join(arguments.target.corpus());
    let found = workspace::target().join("fuzz").join(arguments.target.program());
    let crashes = found.with_extension("crashes");
    for folder in [&kept, &found, &crashes] {
        std::fs::create_dir_all(folder)?;
    }
    let length = format!("-max_len={}", arguments.target.length_max());
    let mut fuzzer = Command::new(&program);
    fuzzer.args([&found, &kept]).arg(format!("-max_total_time={}", arguments.seconds)).arg(&length);
    fuzzer.arg(format!("-artifact_prefix={}/", crashes.display()));
    fuzzer.args(["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=2048"]);
    let report = watch(&mut fuzzer).with_context(|| {
        format!(
            "what it failed with is in {}; play it again with `cargo xtask fuzz {} --input FILE`, and keep it in {}",
            crashes.display(),
            arguments.target.program(),
            arguments.target.corpus()
        )
    })?;
    println!(
        "{}: {} executions, {} edges, no failure; {} inputs",
        arguments.target.program(),
        report.executions,
        report.edges,
        report.inputs
    );
    if arguments.no_keep { Ok(()) } else { keep(&program, &length, &kept, &found) }
}

fn build(target: Target) -> Result<PathBuf> {
    let folder = workspace::target().join("fuzz-build");
    let host = host()?;
    let mut cargo = shell::command("cargo", ["build", "--release", "--locked", "--bin", target.program()]);
    // With a target named, what runs while building is built without counters.
    cargo.args(["--target", &host]).arg("--target-dir").arg(&folder);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"));
    shell::run(cargo.current_dir(workspace::root().join("tests/fuzz")))?;
    Ok(folder.join(host).join("release").join(target.program()))
}

/// The compiler's own target.
fn host() -> Result<String> {
    let text = shell::output(&mut shell::command("rustc", ["--version", "--verbose"]))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say what it runs on")?.to_owned())
}

#[derive(Default)]
struct Report {
    executions: u64,
    edges: u64,
    inputs: u64,
}

impl Report {
    /// Takes a line of libFuzzer's: `#1024 NEW cov: 12 ft: 34 corp: 5/678b …`, or `stat::number_of_executed_units: 9`.
    fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |word: &str| {
            let place = words.iter().position(|candidate| *candidate == word)?;
            words.get(place + 1)?.split('/').next()?.parse().ok()
        };
        self.edges = after("cov:").unwrap_or(self.edges);
        self.inputs = after("corp:").unwrap_or(self.inputs);
        self.executions = after("stat::number_of_executed_units:").unwrap_or(self.executions);
    }
}

/// Lets the fuzzer run, with its lines on the screen.
fn watch(fuzzer: &mut Command) -> Result<Report> {
    let mut child = fuzzer.stderr(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let stderr = child.stderr.take().context("its output was asked for")?;
    let mut report = Report::default();
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        eprintln!("{line}");
        report.take(&line);
    }
    let status = child.wait()?;
    ensure!(status.success(), "the fuzzer ended with {status}");
    if report.executions == 0 || report.edges == 0 {
        bail!("the fuzzer ran nothing, or saw no edges: was it built with counters?");
    }
    Ok(report)
}

/// The least set of inputs that reaches all that was reached takes the place of the corpus.
fn keep(program: &Path, length: &str, kept: &Path, found: &Path) -> Result<()> {
    let merged: &Path = &found.with_extension("merged");
    if merged.exists() {
        std::fs::remove_dir_all(merged)?;
    }
    std::fs::create_dir_all(merged)?;
    let output =
        Command::new(program).args(["-set_cover_merge=1", length]).args([merged, kept, found]).output()?;
    ensure!(output.status.success(), "cannot merge: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_dir_all(kept)?;
    std::fs::create_dir_all(kept)?;
    let mut count = 0;
    for entry in std::fs::read_dir(merged)? {
        let entry = entry?;
        std::fs::copy(entry.path(), kept.join(entry.file_name()))?;
        count += 1;
    }
    println!("{count} inputs are kept in {}", kept.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_read_off_the_fuzzers_lines() {
        let mut report = Report::default();
        report.take("#7\tINITED cov: 812 ft: 3021 corp: 61/4096b exec/s: 0 rss: 41Mb");
        report
            .take("#9\tNEW    cov: 815 ft: 3030 corp: 62/4097b lim: 4 exec/s: 0 rss: 41Mb L: 1/2 MS: 1 CMP-");
        report.take("stat::number_of_executed_units: 123456");
        assert_eq!((report.executions, report.edges, report.inputs), (123_456, 815, 62));
    }
}
