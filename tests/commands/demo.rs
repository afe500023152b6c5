//! The demo as it is met first: what it prints can be pasted, and nothing is left of it.

use super::process::{PINION, assert_refused, run, scratch, text};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running demo.
struct Demo {
    child: Child,
    listen: String,
    commands: Vec<String>,
}

impl Demo {
    fn start(temporary: &Path, stores: usize) -> Self {
        let mut demo = Command::new(PINION);
        demo.args(["demo", "--cores", "1", "--stores", &stores.to_string()]).env("TMPDIR", temporary);
        let mut child = demo.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let ready = lines.next().unwrap();
        let listen = ready.strip_prefix("ready store=1 listen=").expect(&ready).to_owned();
        for number in 2..=stores {
            assert!(lines.next().unwrap().starts_with(&format!("ready store={number} ")));
        }
        let commands = lines.skip(1).take_while(|line| line.starts_with("  ")).collect();
        Self { child, listen, commands }
    }

    /// Ctrl-C.
    fn interrupt(mut self) {
        let process = libc::pid_t::try_from(self.child.id()).unwrap();
        // SAFETY: the process was not waited for, so the number is its own.
        assert_eq!(unsafe { libc::kill(process, libc::SIGINT) }, 0);
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn what_the_demo_prints_can_be_pasted_and_nothing_is_left() {
    let temporary = scratch();
    let (demo, other) = (Demo::start(temporary.path(), 1), Demo::start(temporary.path(), 1));
    // Where the port is taken, it finds another.
    assert_ne!(demo.listen, other.listen);
    assert_eq!(demo.commands.len(), 6, "{:?}", demo.commands);
    paste(&demo);
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 2);
    demo.interrupt();
    other.interrupt();
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

/// Does what the demo says to do.
fn paste(demo: &Demo) {
    for command in &demo.commands {
        let short = if command.contains(" bench ") { " --records 100 --duration 100ms" } else { "" };
        let pasted = Command::new("sh").args(["-c", &format!("{command}{short}")]).output().unwrap();
        assert!(pasted.status.success(), "{command}: {}", text(&pasted.stderr));
        if command.ends_with(" get greeting") {
            assert_eq!(text(&pasted.stdout), "hello\n");
        }
    }
}

#[test]
fn a_demo_of_three_stores_is_a_cluster() {
    let temporary = scratch();
    let demo = Demo::start(temporary.path(), 3);
    assert_eq!(demo.commands.len(), 7, "{:?}", demo.commands);
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 3);
    paste(&demo);
    demo.interrupt();
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
    for stores in ["0", "6"] {
        assert_refused(&run(&["demo", "--stores", stores]), 2, &["1 to 5"]);
    }
}
