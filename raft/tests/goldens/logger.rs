//! The transcript's output, into which the core's log lines go, too.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use pinion_raft::{Level, Logger};

/// Collects what is printed. At the level `none` nothing is, and errors alone come through.
#[derive(Default)]
pub(crate) struct Output {
    text: RefCell<String>,
    level: Cell<usize>,
}

const LEVELS: [&str; 6] = ["DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE"];

fn rank(level: Level) -> usize {
    match level {
        Level::Debug => 0,
        Level::Info => 1,
        Level::Warn => 2,
        Level::Error => 3,
    }
}

impl Output {
    pub(crate) fn is_quiet(&self) -> bool {
        self.level.get() == LEVELS.len() - 1
    }

    /// Sets the level by name and gives the one before.
    pub(crate) fn set_level(&self, name: &str) -> Result<usize, String> {
        let level = LEVELS.iter().position(|level| level.eq_ignore_ascii_case(name));
        level
            .map(|level| self.level.replace(level))
            .ok_or_else(|| format!("log levels must be either of [{}]", LEVELS.join(" ")))
    }

    pub(crate) fn restore_level(&self, level: usize) {
        self.level.set(level);
    }

    pub(crate) fn print(&self, text: &str) {
        if !self.is_quiet() {
            self.text.borrow_mut().push_str(text);
        }
    }

    pub(crate) fn print_line(&self, text: &str) {
        self.print(&format!("{text}\n"));
    }

    pub(crate) fn take(&self) -> String {
        self.text.take()
    }

    /// Indents what `f` prints.
    pub(crate) fn indented<T>(&self, f: impl FnOnce() -> T) -> T {
        let before = self.text.take();
        let result = f();
        let inner = self.text.replace(before);
        let mut text = self.text.borrow_mut();
        for line in inner.lines() {
            text.push_str("  ");
            text.push_str(line);
            text.push('\n');
        }
        result
    }
}

/// A handle for the nodes.
pub(crate) struct SharedOutput(pub(crate) Rc<Output>);

impl Logger for SharedOutput {
    fn enabled(&self, level: Level) -> bool {
        rank(level) >= self.0.level.get()
    }

    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        self.0.print_line(&format!("{} {line}", LEVELS[rank(level)]));
    }
}
