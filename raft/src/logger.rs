//! Where the core says what it does.
//!
//! A message is formatted only when somebody listens at its level; the path of a steady-state append logs nothing.

use std::fmt;
use std::rc::Rc;

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What a follower's progress does.
    Debug,
    /// Elections, configurations, snapshots.
    Info,
    /// What should not happen often.
    Warn,
    /// What should not happen.
    Error,
}

/// Takes the core's log lines. They carry no time, no region and no line end: that is the logger's to add.
pub trait Logger {
    /// Whether a line of this level would be kept.
    fn enabled(&self, level: Level) -> bool;
    /// Keeps a line.
    fn log(&self, level: Level, line: fmt::Arguments<'_>);
}

/// The logger that a node was given, if any.
#[derive(Clone, Default)]
pub(crate) struct LogSink(pub(crate) Option<Rc<dyn Logger>>);

impl LogSink {
    /// The logger, if it keeps lines of this level.
    pub(crate) fn at(&self, level: Level) -> Option<&dyn Logger> {
        self.0.as_deref().filter(|logger| logger.enabled(level))
    }
}

/// Logs a line without formatting it when nobody listens: `say!(self.logger, Info, "…", …)`.
macro_rules! say {
    ($sink:expr, $level:ident, $($line:tt)*) => {
        if let Some(logger) = $sink.at($crate::Level::$level) {
            logger.log($crate::Level::$level, format_args!($($line)*));
        }
    };
}
pub(crate) use say;
