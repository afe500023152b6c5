//! What the store must answer: the history of every key, as the clients know it.
//!
//! Every write of a key has a version, counted from 1; the absence at the beginning is version 0, and a delete is a version like
//! any other. A key has at most one write in flight, so versions are in the order of their effects.
//!
//! - An **acknowledged** write may never be undone: reads that began later show it, or a later one.
//! - A write in flight, or one whose connection broke, is **open**: it has happened or not. The first read after a restart settles
//!   that for good; and what a read has shown, open or not, must be there ever after (reads do not go back in time).
//! - A **refused** write has not happened, ever.
//! - Writes of one batch happen all or none.

use std::collections::VecDeque;
use std::fmt;

/// Versions of a key that are remembered behind the newest. A read during which more than these were written goes unchecked.
const HISTORY_MAX: usize = 256;

/// A key, by its place in the order of all keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyIndex(pub usize);

/// What a write leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value.
    Put,
    /// Nothing.
    Delete,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The value of this version.
    Version(u64),
    /// Nothing.
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Acknowledged,
    /// Refused, or not there after a restart.
    Void,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    version: u64,
    kind: Kind,
    state: State,
}

#[derive(Debug)]
struct History {
    next_version: u64,
    /// The newest version that is known to have happened. Reads that begin now show it or a later one.
    floor: u64,
    /// Ascending; begins at or before the floor unless that is too long ago.
    writes: VecDeque<Write>,
}

/// An answer that no correct store can give.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation(String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

/// The histories of all keys.
#[derive(Debug)]
pub struct Model {
    keys: Vec<Vec<u8>>,
    histories: Vec<History>,
    /// Writes of one call that are not known to have happened or not.
    open_batches: Vec<Vec<(KeyIndex, u64)>>,
    acknowledged: u64,
}

impl Model {
    /// A store that has none of `keys`, which ascend.
    pub fn new(keys: Vec<Vec<u8>>) -> Self {
        assert!(keys.is_sorted(), "the model keeps the keys in their order");
        let absent = Write { version: 0, kind: Kind::Delete, state: State::Acknowledged };
        let histories = keys
            .iter()
            .map(|_| History { next_version: 1, floor: 0, writes: VecDeque::from([absent]) })
            .collect();
        Self { keys, histories, open_batches: Vec::new(), acknowledged: 0 }
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How many writes are not known to have happened or not.
    pub fn open(&self) -> usize {
        self.open_batches.iter().map(Vec::len).sum()
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// A key's bytes.
    pub fn key(&self, key: KeyIndex) -> &[u8] {
        &self.keys[key.0]
    }

    /// The place of a key that the store returned, if it is one of ours.
    pub fn find(&self, key: &[u8]) -> Option<KeyIndex> {
        self.keys.binary_search_by(|known| known.as_slice().cmp(key)).ok().map(KeyIndex)
    }

    /// Begins one call that writes these keys, each once; gives their versions.
    pub fn begin_write(&mut self, writes: &[(KeyIndex, Kind)]) -> Vec<(KeyIndex, u64)> {
        let mut batch = Vec::with_capacity(writes.len());
        for &(key, kind) in writes {
            let history = &mut self.histories[key.0];
            assert!(
                history.writes.back().is_none_or(|write| write.state != State::Open),
                "a key has at most one write in flight"
            );
            let version = history.next_version;
            history.next_version += 1;
            history.writes.push_back(Write { version, kind, state: State::Open });
            if history.writes.len() > HISTORY_MAX {
                history.writes.pop_front();
            }
            batch.push((key, version));
        }
        self.open_batches.push(batch.clone());
        batch
    }

    /// The store said that the call was done.
    pub fn acknowledge(&mut self, batch: &[(KeyIndex, u64)]) {
        self.close(batch, State::Acknowledged);
        for &(key, version) in batch {
            let history = &mut self.histories[key.0];
            history.floor = history.floor.max(version);
        }
        self.acknowledged += u64::try_from(batch.len()).expect("a batch is small");
    }

    /// The store said that the call was not done, and never will be.
    ///
    /// # Errors
    /// When a read has shown it all the same.
    pub fn refuse(&mut self, batch: &[(KeyIndex, u64)]) -> Result<(), Violation> {
        self.close(batch, State::Void);
        for &(key, version) in batch {
            if self.histories[key.0].floor >= version {
                return Err(self.violation(key, &format!("version {version} was read, then refused")));
            }
        }
        Ok(())
    }

    fn close(&mut self, batch: &[(KeyIndex, u64)], state: State) {
        let before = self.open_batches.len();
        self.open_batches.retain(|open| open != batch);
        assert_eq!(self.open_batches.len() + 1, before, "a call ends once");
        for &(key, version) in batch {
            for write in self.histories[key.0].writes.iter_mut().filter(|write| write.version == version) {
                write.state = state;
            }
        }
    }

    /// What a read that begins now must at least show; [`Model::observe`] takes it back.
    pub fn begin_read(&self, key: KeyIndex) -> u64 {
        self.histories[key.0].floor
    }

    /// Checks what a read found.
    ///
    /// # Errors
    /// When no correct store can answer so: an acknowledged write is missing, a read went back in time, or something is there that was
    /// never written.
    pub fn observe(&mut self, key: KeyIndex, floor: u64, observed: Observed) -> Result<(), Violation> {
        let history = &self.histories[key.0];
        let remembered = history.writes.front().is_some_and(|write| write.version <= floor);
        if !remembered {
            return Ok(());
        }
        let possible = history.writes.iter().filter(|w| w.version >= floor && w.state != State::Void);
        let found = match observed {
            Observed::Version(version) => {
                possible.clone().find(|w| w.version == version && w.kind == Kind::Put)
            }
            Observed::Absent => possible.clone().find(|w| w.kind == Kind::Delete),
        };
        let Some(found) = found else {
            let possible: Vec<String> = possible.map(|w| format!("{:?} {}", w.kind, w.version)).collect();
            return Err(
                self.violation(key, &format!("found {observed:?}; possible: {}", possible.join(", ")))
            );
        };
        let version = found.version;
        let history = &mut self.histories[key.0];
        history.floor = history.floor.max(version);
        Ok(())
    }

    /// Takes what the store holds after a restart, for every key in order: from here on all open writes have happened or not.
    ///
    /// # Errors
    /// As [`Model::observe`], and when a batch happened in part.
    pub fn settle(&mut self, observed: &[Observed]) -> Result<(), Violation> {
        assert_eq!(observed.len(), self.keys.len(), "a restart is checked over all keys");
        for (index, &observed) in observed.iter().enumerate() {
            let key = KeyIndex(index);
            self.observe(key, self.begin_read(key), observed)?;
        }
        for batch in std::mem::take(&mut self.open_batches) {
            self.settle_batch(&batch, observed)?;
        }
        Ok(())
    }

    /// All or none of a batch's writes have happened.
    fn settle_batch(&mut self, batch: &[(KeyIndex, u64)], observed: &[Observed]) -> Result<(), Violation> {
        let (mut happened, mut missing) = (None, None);
        for &(key, version) in batch {
            let history = &mut self.histories[key.0];
            let before = history.writes.iter().rev().find(|w| w.version < version && w.state != State::Void);
            let absent_before = before.is_some_and(|write| write.kind == Kind::Delete);
            let Some(write) = history.writes.iter_mut().find(|write| write.version == version) else {
                continue;
            };
            let there = match (write.kind, observed[key.0]) {
                (Kind::Put, Observed::Version(found)) => found == version,
                (Kind::Delete, Observed::Absent) => true,
                _ => false,
            };
            write.state = if there { State::Acknowledged } else { State::Void };
            if there {
                history.floor = version;
            }
            // The deletion of what was absent anyway tells nothing.
            if !(write.kind == Kind::Delete && absent_before) {
                *(if there { &mut happened } else { &mut missing }) = Some(key);
            }
        }
        match (happened, missing) {
            (Some(happened), Some(missing)) => {
                let other = String::from_utf8_lossy(self.key(missing)).into_owned();
                Err(self.violation(happened, &format!("its batch happened in part: not for {other}")))
            }
            _ => Ok(()),
        }
    }

    /// A violation at `key`, with what is known of the key.
    pub fn violation(&self, key: KeyIndex, what: &str) -> Violation {
        let history = &self.histories[key.0];
        let newest: Vec<String> = history
            .writes
            .iter()
            .rev()
            .take(6)
            .map(|w| format!("{:?} {} {:?}", w.kind, w.version, w.state))
            .collect();
        Violation(format!(
            "{}: {what} (known to have happened: {}; newest first: {})",
            String::from_utf8_lossy(self.key(key)),
            history.floor,
            newest.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests;
