//! What a campaign's threads share: when to end, what is wrong, and what was counted.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Put,
    Delete,
    CompareAndSwap,
    BatchPut,
    BatchGet,
    Scan,
    ReplicaGet,
    ReplicaBatchGet,
    ReplicaScan,
    StaleGet,
    ReadBack,
}

impl Kind {
    /// All of them, in the order of their declaration, with their names.
    pub(crate) const ALL: [(Self, &str); 12] = [
        (Self::Get, "get"),
        (Self::Put, "put"),
        (Self::Delete, "delete"),
        (Self::CompareAndSwap, "compare-and-swap"),
        (Self::BatchPut, "batch put"),
        (Self::BatchGet, "batch get"),
        (Self::Scan, "scan"),
        (Self::ReplicaGet, "get from a replica"),
        (Self::ReplicaBatchGet, "batch get from a replica"),
        (Self::ReplicaScan, "scan from a replica"),
        (Self::StaleGet, "stale get"),
        (Self::ReadBack, "read back"),
    ];
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    /// Not done, for certain; of a read, no answer.
    Refused,
    /// A write of which nobody knows.
    Unknown,
}

/// What administrators and the checker have done.
#[derive(Default)]
pub struct Works {
    /// Leaders moved.
    pub transfers: AtomicU64,
    /// Splits asked for and done.
    pub splits: AtomicU64,
    /// Voters taken away.
    pub removals: AtomicU64,
    /// Voters made learners.
    pub demotions: AtomicU64,
    /// Rounds that were judged.
    pub rounds_checked: AtomicU64,
    /// Keys of those rounds.
    pub keys_checked: AtomicU64,
    /// Keys of which the checker's limits left it undecided whether they are right.
    pub keys_undecided: AtomicU64,
    /// What the checker went through.
    pub configurations: AtomicU64,
    /// Milliseconds that the slowest round took to be judged.
    pub check_ms_max: AtomicU64,
}

/// Shared by all threads.
#[derive(Default)]
pub struct Shared {
    /// The administrator rests from now on.
    pub is_calm: AtomicBool,
    /// The clients end.
    pub ends: AtomicBool,
    /// The user wants the program to end.
    pub is_interrupted: AtomicBool,
    /// What was done besides operations.
    pub works: Works,
    fates: [[AtomicU64; 3]; Kind::ALL.len()],
    failure: Mutex<Option<String>>,
}

impl Shared {
    /// Something is wrong with the stores. The first word counts.
    pub(crate) fn fail(&self, what: impl Into<String>) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(what.into());
    }

    /// What is wrong.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn count(&self, kind: Kind, fate: Fate) {
        self.fates[kind as usize][fate as usize].fetch_add(1, Relaxed);
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.fates.iter().flatten().map(|count| count.load(Relaxed)).sum()
    }

    /// Operations of the clients that were done.
    pub fn done(&self) -> u64 {
        let of_clients = Kind::ALL.iter().filter(|(kind, _)| *kind != Kind::ReadBack);
        of_clients.map(|(kind, _)| self.fates[*kind as usize][Fate::Done as usize].load(Relaxed)).sum()
    }

    /// A table of operations by kind and fate.
    pub fn table(&self) -> String {
        let mut table = format!("{:26}{:>10}{:>10}{:>10}\n", "operations", "done", "refused", "unknown");
        let mut sums = [0; 3];
        let mut row = |name: &str, counts: [u64; 3]| {
            let [done, refused, unknown] = counts;
            let _ = writeln!(table, "{name:26}{done:>10}{refused:>10}{unknown:>10}");
        };
        for (kind, name) in Kind::ALL {
            let counts = [0, 1, 2].map(|fate: usize| self.fates[kind as usize][fate].load(Relaxed));
            sums = [sums[0] + counts[0], sums[1] + counts[1], sums[2] + counts[2]];
            row(name, counts);
        }
        row("all", sums);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_counts_and_operations_are_summed() {
        let shared = Shared::default();
        assert_eq!(shared.failure(), None);
        shared.fail("first");
        shared.fail("second");
        assert_eq!(shared.failure().as_deref(), Some("first"));
        for (place, (kind, _)) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            shared.count(kind, Fate::Unknown);
        }
        shared.count(Kind::Get, Fate::Done);
        shared.count(Kind::ReadBack, Fate::Done);
        assert_eq!((shared.operations(), shared.done()), (14, 1));
        assert!(shared.table().contains("all                                2         0        12"));
    }
}
