//! The seeds of a campaign, shared out to threads: one for each processor.
//!
//! A seed that fails is named at once, with the command that plays it again, and the others go on. Every few seconds it is said how far the
//! campaign is and how it goes on from there, so that one that was interrupted need not begin anew.

use std::fmt;
use std::ops::{AddAssign, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a long campaign says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Failures after which a campaign is given up.
const FAILURES_MAX: u64 = 10;

/// Prints what stores log, when the environment asks for it (`PINION_SIM_LOG=1`): for looking at one seed.
struct Printer;

impl log::Log for Printer {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let place = pinion_runtime::sim::whereabouts().unwrap_or_default();
        eprintln!("{place} {} {}", record.level(), record.args());
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

/// What a campaign plays, and how one says so on a command line.
pub(crate) enum Name<'a> {
    /// Seeds, of the campaign that this test is.
    Seeds(&'a str),
    /// The steps of a test that is always played whole.
    Steps(&'a str),
}

impl Name<'_> {
    /// The command that plays these numbers.
    fn command(&self, numbers: Range<u64>) -> String {
        match self {
            Self::Seeds(name) => format!(
                "cargo xtask sim --campaign {name} --seeds {} --from {}",
                numbers.end - numbers.start,
                numbers.start
            ),
            Self::Steps(name) => format!("cargo xtask sim --campaign {name}"),
        }
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seeds(name) => write!(f, "{name}, seed"),
            Self::Steps(name) => write!(f, "{name}, step"),
        }
    }
}

/// Plays every seed of the campaign that is called `name` and adds up what they reached. As a plain test it plays `few`, and in a long campaign
/// `many` at most.
pub(crate) fn play<T: Default + AddAssign + Send>(
    name: &str,
    few: u64,
    many: u64,
    seed: impl Fn(u64) -> T + Sync,
) -> T {
    log_if_asked();
    let from = from_environment("PINION_SIM_FROM").unwrap_or(1);
    let count = from_environment("PINION_SIM_SEEDS").map_or(few, |count| count.min(many));
    over(&Name::Seeds(name), from..from + count, seed)
}

/// Plays each of `numbers` and adds up what they reached.
///
/// # Panics
/// When one of them did.
pub(crate) fn over<T: Default + AddAssign + Send>(
    name: &Name<'_>,
    numbers: Range<u64>,
    play: impl Fn(u64) -> T + Sync,
) -> T {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let progress = Progress::new(name, numbers, threads);
    let work = |thread: usize| {
        let mut sum = T::default();
        while let Some(number) = progress.next(thread) {
            // What a panic leaves behind is not looked at again: a seed's world is its own.
            match catch_unwind(AssertUnwindSafe(|| play(number))) {
                Ok(reached) => sum += reached,
                Err(_) => progress.failed(number),
            }
            progress.done(thread);
        }
        sum
    };
    let mut sum = T::default();
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        for thread in threads {
            sum += thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    progress.end();
    sum
}

/// How far a campaign is.
struct Progress<'a> {
    name: &'a Name<'a>,
    numbers: Range<u64>,
    /// The next number that nobody plays yet.
    next: AtomicU64,
    /// By thread, the number that it plays, or one that is not above it.
    playing: Vec<AtomicU64>,
    done: AtomicU64,
    failures: AtomicU64,
    began: Instant,
    /// Milliseconds from the beginning to the last word.
    told: AtomicU64,
}

impl<'a> Progress<'a> {
    #[expect(clippy::disallowed_methods, reason = "a campaign's own time is real")]
    fn new(name: &'a Name<'a>, numbers: Range<u64>, threads: usize) -> Self {
        Self {
            name,
            next: AtomicU64::new(numbers.start),
            playing: (0..threads).map(|_| AtomicU64::new(numbers.start)).collect(),
            numbers,
            done: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            began: Instant::now(),
            told: AtomicU64::new(0),
        }
    }

    /// The number that a thread is to play.
    fn next(&self, thread: usize) -> Option<u64> {
        // Before it is taken: whoever looks meanwhile must not miss it.
        self.playing[thread].store(self.next.load(Ordering::SeqCst), Ordering::SeqCst);
        let given_up = self.failures.load(Ordering::SeqCst) >= FAILURES_MAX;
        let number = if given_up { self.numbers.end } else { self.next.fetch_add(1, Ordering::SeqCst) };
        self.playing[thread].store(number.min(self.numbers.end), Ordering::SeqCst);
        (number < self.numbers.end).then_some(number)
    }

    fn failed(&self, number: u64) {
        self.failures.fetch_add(1, Ordering::SeqCst);
        eprintln!("FAILED: {} {number}; again: {}", self.name, self.name.command(number..number + 1));
    }

    /// A number is done; says so now and then.
    fn done(&self, thread: usize) {
        self.done.fetch_add(1, Ordering::SeqCst);
        self.playing[thread].store(self.next.load(Ordering::SeqCst), Ordering::SeqCst);
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let told = self.told.load(Ordering::SeqCst);
        let is_due = u128::from(now - told.min(now)) >= TELL_EVERY.as_millis();
        if is_due && self.told.compare_exchange(told, now, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.tell();
        }
    }

    fn tell(&self) {
        // Of the numbers below this one none is left.
        let open = self.playing.iter().map(|number| number.load(Ordering::SeqCst)).min();
        let open = open.unwrap_or(self.numbers.start).clamp(self.numbers.start, self.numbers.end);
        let line = self.line();
        match open < self.numbers.end {
            true => eprintln!("{line}; goes on with: {}", self.name.command(open..self.numbers.end)),
            false => eprintln!("{line}"),
        }
    }

    fn line(&self) -> String {
        format!(
            "{}s {} to {}: {} of {} done, {} failed, {} s",
            self.name,
            self.numbers.start,
            self.numbers.end.saturating_sub(1),
            self.done.load(Ordering::SeqCst),
            self.numbers.end - self.numbers.start,
            self.failures.load(Ordering::SeqCst),
            self.began.elapsed().as_secs()
        )
    }

    fn end(&self) {
        let failures = self.failures.load(Ordering::SeqCst);
        match failures < FAILURES_MAX {
            true => eprintln!("{}", self.line()),
            false => self.tell(),
        }
        assert_eq!(failures, 0, "{}: see FAILED above", self.line());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_played_once_and_what_is_open_is_never_passed() {
        let numbers = 5..9;
        let name = Name::Seeds("x");
        let progress = Progress::new(&name, numbers, 2);
        assert_eq!((progress.next(0), progress.next(1)), (Some(5), Some(6)));
        progress.done(1);
        assert_eq!(progress.next(1), Some(7));
        let open = |progress: &Progress<'_>| progress.playing.iter().map(|n| n.load(Ordering::SeqCst)).min();
        assert_eq!(open(&progress), Some(5));
        progress.done(0);
        assert_eq!(open(&progress), Some(7));
        assert_eq!((progress.next(0), progress.next(0)), (Some(8), None));
        assert_eq!(open(&progress), Some(7));
    }

    #[test]
    fn a_seed_that_fails_fails_the_campaign_and_the_others_are_played() {
        let played = AtomicU64::new(0);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            over(&Name::Steps("x"), 0..6, |number| {
                played.fetch_add(1, Ordering::SeqCst);
                assert_ne!(number, 1, "on purpose");
                number
            })
        }));
        assert!(ended.is_err());
        assert_eq!(played.load(Ordering::SeqCst), 6);
        assert_eq!(over(&Name::Steps("x"), 0..6, |number| number), 15);
    }
}
