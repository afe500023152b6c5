//! Logging to stderr that never blocks a core: lines go through a bounded queue to a thread of their own, and when the queue is full
//! they are counted and dropped.

use crate::config::LogLevel;
use log::{LevelFilter, Log, Metadata, Record};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

/// Lines that wait to be written.
const QUEUE_LINES_MAX: usize = 4096;

static DROPPED: AtomicU64 = AtomicU64::new(0);

struct Logger {
    lines: SyncSender<String>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // glommio tells of its own affairs at these levels; an operator can do nothing about them.
        metadata.level() <= log::max_level() && !metadata.target().starts_with("glommio")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = format!("{} {:5} {}: {}\n", timestamp(), record.level(), record.target(), record.args());
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// Sends what is logged at `level` and above to stderr from now on.
pub(crate) fn start(level: LogLevel) {
    let (lines, queue) = sync_channel::<String>(QUEUE_LINES_MAX);
    // The writer's thread is no core: it is there to block in a core's stead.
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || {
            let mut stderr = std::io::stderr();
            for line in queue {
                let dropped = DROPPED.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    let _ = writeln!(stderr, "{dropped} lines were dropped: stderr is too slow");
                }
                // Nobody is left to tell when stderr is gone.
                let _ = stderr.write_all(line.as_bytes());
            }
        })
        .expect("a thread for the log can be started");
    log::set_max_level(match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    });
    // A second start in one process keeps the first logger.
    let _ = log::set_boxed_logger(Box::new(Logger { lines }));
}

/// Seconds since the Unix epoch, with milliseconds.
#[expect(clippy::disallowed_methods, reason = "the time of a log line is for people; nothing depends on it")]
fn timestamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:03}", now.as_secs(), now.subsec_millis())
}
