//! What goes wrong with a disk, and when.

use std::io;
use std::ops::Range;
use std::time::Duration;

/// Planned failures of one disk at most.
pub(super) const FAULTS_MAX: usize = 64;

/// The error that a failed operation gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// EIO. A failed write may have changed any of its sectors; a failed sync loses what it was to make durable.
    Io,
    /// ENOSPC. It strikes only what takes space; other operations of that number pass.
    NoSpace,
}

impl DiskError {
    pub(super) fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Io => libc::EIO,
            Self::NoSpace => libc::ENOSPC,
        })
    }
}

/// Which operations fail, by the numbers that [`super::super::Host::io_count`] counts: the first operation is number 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// This one.
    Once(u64),
    /// This one and all that follow.
    From(u64),
}

impl Failing {
    fn strikes(self, number: u64) -> bool {
        match self {
            Self::Once(at) => number == at,
            Self::From(at) => number >= at,
        }
    }
}

/// How many operations a disk has been asked for since the world began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoCounts {
    /// Reads of files.
    pub reads: u64,
    /// Writes of files.
    pub writes: u64,
    /// Syncs of files and directories.
    pub syncs: u64,
    /// All others: opening, lengths, names, listings.
    pub others: u64,
}

impl IoCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.reads + self.writes + self.syncs + self.others
    }
}

pub(super) struct Faults {
    pub(super) planned: Vec<(Failing, DiskError)>,
    pub(super) failing_syncs: Vec<Failing>,
    pub(super) power_cut_at: Option<u64>,
    pub(super) ignores_data_sync: bool,
    pub(super) ignores_sync: bool,
    pub(super) latency: Range<Duration>,
}

impl Faults {
    pub(super) fn new(latency: Range<Duration>) -> Self {
        Self {
            planned: Vec::new(),
            failing_syncs: Vec::new(),
            power_cut_at: None,
            ignores_data_sync: false,
            ignores_sync: false,
            latency,
        }
    }

    /// Whether operation `number` fails; `sync` is its number among the syncs, when it is one.
    pub(super) fn strike(&self, number: u64, takes_space: bool, sync: Option<u64>) -> Option<DiskError> {
        if sync.is_some_and(|sync| self.failing_syncs.iter().any(|failing| failing.strikes(sync))) {
            return Some(DiskError::Io);
        }
        self.planned
            .iter()
            .find(|(failing, error)| failing.strikes(number) && (takes_space || *error == DiskError::Io))
            .map(|(_, error)| *error)
    }
}
