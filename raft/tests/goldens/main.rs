//! Replays transcripts against the core: commands with the output that they must have, byte for byte.
//!
//! The project's own stand in `testdata/` and always run. `PINION_RAFT_GOLDENS` names further files or folders, separated
//! as in `PATH`; without it, only the own ones are judged, and the test says so. With `PINION_RAFT_REWRITE` set, the own ones are written anew. Every file is *exact*, or *semantic*
//! (all but the core's log lines agree), or *differs*; anything less than exact fails, unless [`NOT_EXACT`] lists it.

#![expect(
    clippy::unwrap_used,
    clippy::format_push_string,
    reason = "a test fails by panicking, and need not be fast"
)]

mod confchange;
mod environment;
mod interaction;
mod logger;
mod quorum;
mod script;
mod storage;

use std::path::{Path, PathBuf};

use script::Block;

/// Files that are known to be less than exact, by name, with the reason.
const NOT_EXACT: &[(&str, &str)] = &[];

/// How well a file agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Exact,
    Semantic,
    Differs,
}

/// What the commands of one file act on.
#[derive(Default)]
struct Replay {
    confchange: confchange::State,
    interaction: interaction::State,
}

impl Replay {
    fn run(&mut self, block: &Block) -> String {
        match block.command.name.as_str() {
            "committed" | "vote" => quorum::run(&block.command),
            "simple" | "enter-joint" | "leave-joint" => self.confchange.run(block),
            _ => self.interaction.run(block),
        }
    }
}

fn is_log_line(line: &str) -> bool {
    let line = line.trim_start();
    ["DEBUG ", "INFO ", "WARN ", "ERROR "].iter().any(|level| line.starts_with(level))
}

fn without_log_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !is_log_line(line)).collect();
    if lines.is_empty() { "ok".to_owned() } else { lines.join("\n") }
}

/// The lines of both, the common ones once, the others marked; good enough for outputs of a page.
fn difference(want: &str, got: &str) -> String {
    let (want, got): (Vec<&str>, Vec<&str>) = (want.lines().collect(), got.lines().collect());
    let front = want.iter().zip(&got).take_while(|(want, got)| want == got).count();
    let shorter = want.len().min(got.len()) - front;
    let back =
        want.iter().rev().zip(got.iter().rev()).take(shorter).take_while(|(want, got)| want == got).count();
    let mut out = format!("    ({front} lines agree)\n");
    for line in &want[front..want.len() - back] {
        out += &format!("  - {line}\n");
    }
    for line in &got[front..got.len() - back] {
        out += &format!("  + {line}\n");
    }
    out
}

/// Replays a file; gives its level and what differs. A panic is a difference, of which the test's output tells more.
fn judge(text: &str) -> (Level, String) {
    std::panic::catch_unwind(|| replay(text)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason");
        (Level::Differs, format!("  it panicked: {said}\n"))
    })
}

fn replay(text: &str) -> (Level, String) {
    let mut replay = Replay::default();
    let (mut level, mut report) = (Level::Exact, String::new());
    for block in script::parse(text) {
        let got = replay.run(&block);
        let (want, got) = (block.expected.trim_end(), got.trim_end());
        if want == got {
            continue;
        }
        if without_log_lines(want) != without_log_lines(got) {
            level = Level::Differs;
        } else if level == Level::Exact {
            level = Level::Semantic;
        }
        report += &format!("  line {}: {}\n{}", block.line, block.text, difference(want, got));
    }
    (level, report)
}

#[expect(
    clippy::disallowed_methods,
    reason = "transcripts are read before anything runs, outside of any executor"
)]
fn files_under(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut files: Vec<PathBuf> = entries.flat_map(|entry| files_under(&entry.unwrap().path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files
}

/// Replays all files under a path and gives the names of those that are not as good as they must be.
#[expect(
    clippy::disallowed_methods,
    reason = "transcripts are read before anything runs, outside of any executor"
)]
fn replay_all(path: &Path) -> Vec<String> {
    let mut failed = Vec::new();
    let files = files_under(path);
    assert!(!files.is_empty(), "no transcript under {}", path.display());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let (level, report) = judge(&text);
        let word = format!("{level:?}").to_lowercase();
        println!("{word:8} {name}");
        print!("{report}");
        let known = NOT_EXACT.iter().find(|(known, _)| *known == name);
        match (level, known) {
            (Level::Exact, None) => {}
            (Level::Exact, Some(_)) => failed.push(format!("{name} is exact now: take it off the list")),
            (_, Some((_, reason))) => println!("  known: {reason}"),
            (_, None) => failed.push(format!("{name}: {word}\n{report}")),
        }
    }
    failed
}

/// Replaces the outputs of the project's own transcripts by what the core says now, to be read before it is believed.
#[expect(
    clippy::disallowed_methods,
    reason = "transcripts are written after everything ran, outside of any executor"
)]
fn rewrite_all(path: &Path) {
    for file in files_under(path) {
        let text = std::fs::read_to_string(&file).unwrap();
        let (mut replay, blocks) = (Replay::default(), script::parse(&text));
        let outputs: Vec<String> = blocks.iter().map(|block| replay.run(block)).collect();
        std::fs::write(&file, script::rewrite(&text, &blocks, &outputs)).unwrap();
    }
}

#[test]
fn own_transcripts_are_exact() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    if std::env::var_os("PINION_RAFT_REWRITE").is_some() {
        rewrite_all(&own);
    }
    let failed = replay_all(&own);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn golden_transcripts_are_exact() {
    let Some(paths) = std::env::var_os("PINION_RAFT_GOLDENS") else {
        println!("skipped: PINION_RAFT_GOLDENS is not set");
        return;
    };
    let failed: Vec<String> = std::env::split_paths(&paths).flat_map(|path| replay_all(&path)).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_transcript_that_does_not_agree_is_found_out() {
    let script = |output: &str| format!("add-nodes 1 voters=(1) index=3\n----\n{output}\n");
    let right = "INFO 1 switched to configuration voters=(1)\nINFO 1 became follower at term 0\n\
                 INFO newRaft 1 [peers: [1], term: 0, commit: 3, applied: 3, lastindex: 3, lastterm: 1]";
    assert_eq!(judge(&script(right)).0, Level::Exact);
    assert_eq!(judge(&script(&right.replace("term 0", "term 1"))).0, Level::Semantic);
    assert_eq!(judge(&script("1: StateLeader")).0, Level::Differs);
    let (level, report) = judge("campaign one\n----\n");
    assert_eq!(level, Level::Differs, "what panics differs");
    assert!(report.contains("one is no number"), "{report}");
}
