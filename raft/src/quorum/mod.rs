//! What a set of voters has decided: which index is committed, whether an election is won.
//!
//! Pure functions over sorted lists of ids; a joint decision is the weaker of the decisions of its two halves, see
//! §4.3 of Ongaro's thesis. Cost: one lookup a voter and a sort of at most [`STACK_VOTERS_MAX`] numbers on the stack.

mod joint;
mod majority;

use pinion_types::LogIndex;

pub use joint::JointConfig;
pub use majority::{MajorityConfig, STACK_VOTERS_MAX};

/// The committed index of an empty configuration: it agrees with everything, so that in a joint one the other half
/// decides.
pub const EVERYTHING: LogIndex = LogIndex(u64::MAX);

/// How a vote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// The votes that are missing decide.
    Pending,
    /// A majority can no longer be reached.
    Lost,
    /// A majority has said yes.
    Won,
}
