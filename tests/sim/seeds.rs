//! The seeds of a campaign, shared out to threads.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Threads that play seeds. The machines that this runs on have two processors.
const THREADS: u64 = 2;
/// How often a long campaign says how far it is.
const TELL_EVERY: u64 = 100;

/// Prints what stores log, when the environment asks for it (`PINION_SIM_LOG=1`): for looking at one seed.
struct Printer;

impl log::Log for Printer {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("{} {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

/// Logs from here on if the environment asks for it.
pub(crate) fn log_if_asked() {
    if std::env::var_os("PINION_SIM_LOG").is_some() && log::set_logger(&Printer).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
    }
}

/// A number from the environment.
pub(crate) fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays every seed of the campaign and adds up what they reached. As a plain test it plays `few`.
pub(crate) fn play<T: Default + AddAssign + Send>(few: u64, seed: impl Fn(u64) -> T + Sync) -> T {
    log_if_asked();
    let from = from_environment("PINION_SIM_FROM").unwrap_or(1);
    let count = from_environment("PINION_SIM_SEEDS").unwrap_or(few);
    over(from..from + count, seed)
}

/// Plays each of `numbers`.
#[expect(clippy::disallowed_methods, reason = "a campaign's own time is real")]
pub(crate) fn over<T: Default + AddAssign + Send>(
    numbers: std::ops::Range<u64>,
    play: impl Fn(u64) -> T + Sync,
) -> T {
    let next = AtomicU64::new(numbers.start);
    let began = Instant::now();
    let work = || {
        let mut sum = T::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers.end {
                return sum;
            }
            sum += play(number);
            let done = number + 1 - numbers.start;
            if done.is_multiple_of(TELL_EVERY) {
                eprintln!("{done} of {}, {:?}", numbers.end - numbers.start, rounded(began.elapsed()));
            }
        }
    };
    let mut sum = T::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            sum += thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    eprintln!("{} runs in {:?}", numbers.end - numbers.start, rounded(began.elapsed()));
    sum
}

fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
