//! Monotonic time for everything that matters; wall-clock time for the one documented use, expiry stamps.

use crate::glommio_machine::time as real;
use crate::sim;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on the machine's monotonic clock, in nanoseconds since the machine's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The moment `nanos` nanoseconds after the machine's start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the machine's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How long ago this moment was.
    pub fn elapsed(self) -> Duration {
        now().since(self)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The monotonic clock's reading.
pub fn now() -> Instant {
    Instant(match sim::current() {
        Some(here) => here.monotonic_nanos(),
        None => real::monotonic_nanos(),
    })
}

/// Wall-clock time since the Unix epoch. It may jump either way: nothing but expiry stamps may depend on it.
pub fn wall_clock() -> Duration {
    match sim::current() {
        Some(here) => here.wall_clock(),
        None => real::wall_clock(),
    }
}

/// Waits at least `duration`.
pub async fn sleep(duration: Duration) {
    match sim::current() {
        Some(here) => here.sleep(duration).await,
        None => real::sleep(duration).await,
    }
}
