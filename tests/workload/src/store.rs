//! A store as its clients see it, and what a client may conclude from an answer.

use pinion_capnp::{RawAnswer, RawCall, RawReply, WireError};
use std::future::Future;

/// What became of a call, as far as its caller knows.
#[derive(Debug)]
pub enum Answer {
    /// It was done.
    Done(RawReply),
    /// It was not done, and never will be.
    Refused(WireError),
    /// It may have been done, and may yet be.
    Unknown(String),
}

/// Whoever answers raw calls.
pub trait Store: 'static {
    /// Makes one call.
    fn call(&self, call: RawCall) -> impl Future<Output = Answer>;
}

/// What a caller may conclude from the store's answer. An error that does not say that nothing was done says nothing.
pub fn conclude(answer: RawAnswer) -> Answer {
    match answer {
        Ok(RawReply::Results(results)) => match results.first_error().cloned() {
            Some(error) => conclude_error(error),
            None => Answer::Done(RawReply::Results(results)),
        },
        Ok(reply) => Answer::Done(reply),
        Err(error) => conclude_error(error),
    }
}

fn conclude_error(error: WireError) -> Answer {
    match error {
        WireError::NotLeader { .. }
        | WireError::RegionNotFound(_)
        | WireError::KeyNotInRegion { .. }
        | WireError::EpochNotMatch { .. }
        | WireError::StaleCommand
        | WireError::StoreNotMatch { .. }
        | WireError::ServerBusy { .. }
        | WireError::DiskFull
        | WireError::InvalidArgument(_)
        | WireError::TooLarge { .. }
        | WireError::BatchSpansRegions => Answer::Refused(error),
        error => Answer::Unknown(error.to_string()),
    }
}

#[cfg(test)]
pub(crate) mod fake;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_that_says_so_means_that_nothing_was_done() {
        assert!(matches!(conclude(Err(WireError::DiskFull)), Answer::Refused(_)));
        assert!(matches!(conclude(Err(WireError::TimedOut)), Answer::Unknown(_)));
        assert!(matches!(conclude(Err(WireError::Internal(String::new()))), Answer::Unknown(_)));
        assert!(matches!(conclude(Ok(RawReply::Done)), Answer::Done(_)));
    }
}
