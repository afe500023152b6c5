//! When a call is tried again, and when it is over.

use crate::Error;
use pinion_capnp::ClientError;
use pinion_runtime::{Instant, now, random_u64, sleep};
use std::cell::Cell;
use std::time::Duration;

/// The first pause, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// How long an answer may take before others are asked.
const DOUBT_AFTER: Duration = Duration::from_secs(1);
/// Tries in a row without a pause: each follows a refusal that said who to ask instead.
const AT_ONCE_MAX: u32 = 3;

/// Why a try brought nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another try is no use, or must not be.
    Final(Error),
    /// Nothing was done; another try may succeed.
    Again(ClientError, Pause),
}

/// How long to wait before the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Not at all: it is known better now.
    None,
    /// A little, and longer each time.
    Growing,
    /// At least so long: the store asked for it.
    AtLeast(Duration),
}

/// A call's tries.
#[derive(Debug)]
pub(crate) struct Retry {
    timeout: Duration,
    /// When the call is over.
    pub(crate) deadline: Instant,
    /// Tries that failed so far.
    pub(crate) tries: u32,
    /// Tries that took so long that others were asked.
    doubts: Cell<u32>,
    at_once: u32,
    pauses: u32,
}

impl Retry {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, deadline: now() + timeout, tries: 0, doubts: Cell::new(0), at_once: 0, pauses: 0 }
    }

    /// Until when an answer is waited for before others are asked who leads; longer each time, so that what takes long is answered too.
    pub(crate) fn doubt_at(&self) -> Instant {
        let doubts = self.doubts.replace(self.doubts.get() + 1);
        self.deadline.min(now() + DOUBT_AFTER * (1 << doubts.min(4)))
    }

    /// An answer came before that.
    pub(crate) fn answered(&self) {
        self.doubts.set(self.doubts.get().saturating_sub(1));
    }

    /// Waits until the next try is due; an error ends the call.
    pub(crate) async fn after(&mut self, failure: Failure) -> Result<(), Error> {
        let (why, pause) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Again(why, pause) => (why, pause),
        };
        self.tries += 1;
        let wait = match pause {
            Pause::None if self.at_once < AT_ONCE_MAX => {
                self.at_once += 1;
                Duration::ZERO
            }
            Pause::None | Pause::Growing => self.pause(),
            Pause::AtLeast(least) => self.pause().max(least),
        };
        if now() + wait >= self.deadline {
            return Err(Error::TimedOut { after: self.timeout, last: why });
        }
        if wait > Duration::ZERO {
            self.at_once = 0;
            sleep(wait).await;
        }
        Ok(())
    }

    /// The next pause: twice the one before, up to a bound, and then between half of that and all of it.
    fn pause(&mut self) -> Duration {
        let whole = (PAUSE_MIN * (1 << self.pauses.min(8))).min(PAUSE_MAX);
        self.pauses += 1;
        let micros = u64::try_from(whole.as_micros() / 2).unwrap_or(u64::MAX).max(1);
        whole / 2 + Duration::from_micros(random_u64() % micros)
    }
}
