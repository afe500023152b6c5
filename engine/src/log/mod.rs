//! The log of a core: Raft entries and hard states of all its regions, manifest edits of their trees, in one sequence of synced groups.
//!
//! What it promises:
//! - Groups are acknowledged in the order of their numbers. A group begins on a block, and no later group writes to a synced block.
//! - An append is durable as a whole or not at all: its records are in one group.
//! - `durable_through` in a group's header is the highest group known to be durable when it was written. At recovery a missing or damaged
//!   group at or below the highest one found is *damage*; above it is a *torn tail*, never acknowledged, and is cut.
//! - After a recovery the log goes on in a new segment of a higher epoch, which says at which group it begins: what stands in older segments from
//!   there on is void, so that whole groups behind a hole never come back.
//! - Segments are freed in the order of their numbers, oldest first. What is small and still needed in the oldest is written again, with the
//!   sequence that it has in its stream, and synced, before the segment is freed; replay orders by sequence. So a record that supersedes
//!   others outlives all that it supersedes: what it supersedes is in an older segment, or was not needed and not written again.
//! - A failed write is final: nothing is acknowledged any more.
//!
//! Segments are written once with zeros and then recycled under a new number; direct, synchronous writes to such files cost half of what writes
//! to growing or merely allocated files do. Several groups may be on their way; a group is written as soon as there is a place for it, and
//! what comes meanwhile makes the next group. Nothing waits for a timer but the marker that is written when the log falls idle.

mod entries;
mod format;
mod inspect;
mod reclaim;
mod recover;
mod segments;
mod stream;
mod writer;

#[cfg(test)]
mod tests;

pub use format::{ReadBody, ReadRecord, Record};
pub use inspect::{GroupSummary, SegmentSummary, inspect};
pub use recover::{Examined, Recovered, RecoveredStream, examine};
pub use writer::Ticket;

use crate::Error;
use bytes::Bytes;
use format::{ENTRY_HEADER, GROUP_HEADER, RECORD_HEADER};
use pinion_types::{CoreId, LogIndex, RegionId, Term};
use segments::Segments;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Waker;
use stream::{Latest, PayloadCache, Place, Slot, Stream};
use writer::Writer;

/// Settings of a log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The core whose log it is.
    pub core: CoreId,
    /// Bytes of a segment, a multiple of 4096. Default 64 MiB. A record must fit. Too small: segments change often. Too large: space comes
    /// back late. Counterpart: raft-engine's `target-file-size`.
    pub segment_bytes: u64,
    /// Groups on their way at the same time. Default 2. One waits out every sync; more than four split groups for nothing.
    pub groups_in_flight_max: usize,
    /// Bytes of appends that nobody waits for before they are written. Default 1 MiB. Too small: many small writes. Too large: a crash of
    /// the process loses more of what nobody waited for.
    pub buffer_bytes_max: usize,
    /// Bytes of entries' payloads kept in memory. Default 16 MiB. Too small: entries are read back from disk. Counterpart: TiKV's
    /// raft entry cache.
    pub cache_bytes: usize,
    /// Files that are kept once they were made, in use or to be written again; two are kept to be written again in any case. Default 4. Too small:
    /// segments are filled and removed while others wait for the device. Too large: an idle log takes much of the disk.
    pub segments_kept: usize,
    /// Whether writes are synced. False only where a test plants the bug of leaving it out.
    pub data_sync: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            core: CoreId(0),
            segment_bytes: 64 << 20,
            groups_in_flight_max: 2,
            buffer_bytes_max: 1 << 20,
            cache_bytes: 16 << 20,
            segments_kept: 4,
            data_sync: true,
        }
    }
}

/// What must be true of an append before its ticket is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It is on stable storage.
    Sync,
    /// It is in the log's memory: a crash of the process may lose it. It is written with the next group, or when
    /// [`LogConfig::buffer_bytes_max`] have come together.
    Buffered,
}

/// An entry of a region's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its position.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// The owner's meaning of the payload; 0 is a plain command.
    pub kind: u8,
    /// What it says.
    pub payload: Bytes,
}

/// What of a stream the log need not keep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Released {
    /// Entries up to here: the stream is compacted to there, and its tree has flushed to there.
    pub entries_through: LogIndex,
    /// Edits up to this sequence: they are in a manifest file.
    pub edits_through: u64,
}

/// The log of a core. Clones share it.
#[derive(Clone)]
pub struct Log(pub(in crate::log) Rc<Inner>);

struct Inner {
    directory: PathBuf,
    config: LogConfig,
    epoch: u64,
    state: RefCell<State>,
    segments: RefCell<Segments>,
    writer: RefCell<Writer>,
    waiting_for_place: RefCell<Vec<Waker>>,
    failure: RefCell<Option<String>>,
    /// A rewrite of what is small in the oldest segment is on its way.
    reclaiming: Cell<bool>,
    /// A task is about to give the pending group to the disk.
    writing_soon: Cell<bool>,
    segments_reused: Cell<u64>,
    records_rewritten: Cell<u64>,
}

/// The index.
#[derive(Default)]
struct State {
    streams: BTreeMap<RegionId, Stream>,
    structures: Vec<(u64, u64, Bytes)>,
    structure_sequence: u64,
    /// Streams that were removed, with the sequence of the record that says so: one that comes back goes on from there.
    removed: BTreeMap<RegionId, u64>,
    cache: PayloadCache,
    /// Up to where each stream's entries were applied: what is not applied stays cached.
    applied: BTreeMap<RegionId, LogIndex>,
}

impl Log {
    /// Opens the log in `directory`, or makes it. The directory must exist.
    ///
    /// # Errors
    /// Damage below what was acknowledged, naming file and offset; another format; input and output.
    pub async fn open(directory: &Path, config: LogConfig) -> Result<(Self, Recovered), Error> {
        recover::open(directory, config).await
    }

    /// Appends records, all in one group. The ticket is done when they are as durable as asked for; dropping it undoes nothing.
    pub fn append(&self, records: &[Record<'_>], durability: Durability) -> Ticket {
        if let Err(error) = self.check_room(records) {
            return Ticket::refused(error);
        }
        let group = {
            let mut writer = self.0.writer.borrow_mut();
            let bytes = records.iter().map(Record::encoded_len).sum();
            let group = writer.pending_group(bytes, self.group_bytes_max());
            let mut state = self.0.state.borrow_mut();
            for record in records {
                state.append(record, group, writer.body());
            }
            let cache_bytes = self.0.config.cache_bytes;
            state.shrink_cache(cache_bytes, writer.durable_through);
            writer.appended(records.len(), durability)
        };
        self.write_soon();
        match durability {
            Durability::Sync => Ticket::waiting(group),
            Durability::Buffered => Ticket::done(),
        }
    }

    /// Makes everything that was appended so far durable.
    pub async fn sync(&self) -> Result<(), Error> {
        let ticket = self.0.writer.borrow_mut().sync_ticket();
        self.write_pending();
        match ticket {
            Some(ticket) => ticket.await,
            None => self.check_failure(),
        }
    }

    /// The position of a stream's first entry.
    pub fn first_index(&self, stream: RegionId) -> LogIndex {
        self.with(stream, Stream::first_index).unwrap_or(LogIndex(1))
    }

    /// The position of a stream's last entry; the one before the first when there is none.
    pub fn last_index(&self, stream: RegionId) -> LogIndex {
        self.with(stream, Stream::last_index).unwrap_or_default()
    }

    /// The term of a stream's entry, of the compacted one too; `None` when it is not there.
    pub fn term(&self, stream: RegionId, index: LogIndex) -> Option<Term> {
        self.with(stream, |stream| stream.term(index)).unwrap_or((index == LogIndex(0)).then_some(Term(0)))
    }

    /// Bytes of the payloads of a stream's entries in `[low, high)`, as far as they are there. It costs no more for many than for few.
    pub fn entry_bytes(&self, stream: RegionId, low: LogIndex, high: LogIndex) -> u64 {
        self.with(stream, |stream| stream.entry_bytes(low, high)).unwrap_or_default()
    }

    /// A stream's hard state: term, vote, commit index.
    pub fn hard_state(&self, stream: RegionId) -> (Term, u64, LogIndex) {
        self.with(stream, |stream| stream.hard_state.value).unwrap_or_default()
    }

    /// How often the stream's region has changed cores.
    pub fn generation(&self, stream: RegionId) -> u64 {
        self.with(stream, |stream| stream.generation.value).unwrap_or_default()
    }

    /// The sequence of the stream's last record.
    pub fn last_sequence(&self, stream: RegionId) -> u64 {
        self.with(stream, |stream| stream.sequence).unwrap_or_default()
    }

    /// Gives no record of a stream a sequence up to `through` any more: something that is not in the log counts on what had them.
    pub(crate) fn skip_sequences(&self, stream: RegionId, through: u64) {
        if let Some(stream) = self.0.state.borrow_mut().streams.get_mut(&stream) {
            stream.sequence = stream.sequence.max(through);
        }
    }

    fn with<T>(&self, stream: RegionId, read: impl FnOnce(&Stream) -> T) -> Option<T> {
        self.0.state.borrow().streams.get(&stream).map(read)
    }

    /// Segments made of files that had been segments before, and records written again, since the log was opened.
    pub fn reuse(&self) -> (u64, u64) {
        (self.0.segments_reused.get(), self.0.records_rewritten.get())
    }

    /// The stream's entries up to here were applied: they need not stay in memory.
    pub fn applied(&self, stream: RegionId, index: LogIndex) {
        self.0.state.borrow_mut().applied.insert(stream, index);
    }

    /// Notes what of a stream is not needed any more; its space is used again when all before it is free.
    pub fn release(&self, stream: RegionId, released: Released) {
        if let Some(stream) = self.0.state.borrow_mut().streams.get_mut(&stream) {
            stream.release(released.entries_through, released.edits_through);
        }
        self.reclaim();
    }

    /// Forgets a stream: a record says so, and nothing of it is needed.
    pub fn remove_stream(&self, stream: RegionId) {
        drop(self.append(&[Record::Remove { stream }], Durability::Buffered));
        self.reclaim();
    }

    /// The stream whose entries are the oldest that are needed, with the bytes of log from there on.
    pub fn oldest_unreleased(&self) -> Option<(RegionId, u64)> {
        let state = self.0.state.borrow();
        let (stream, group) = state
            .streams
            .iter()
            .filter_map(|(id, stream)| Some((*id, stream.oldest_entry_group()?)))
            .min_by_key(|(id, group)| (*group, *id))?;
        Some((stream, self.0.segments.borrow().bytes_from(group)))
    }

    /// Bytes of the entries that are in memory: within `LogConfig::cache_bytes`, but for those that are not applied or not durable yet, and what
    /// is cached behind them.
    pub fn cached_bytes(&self) -> usize {
        self.0.state.borrow().cache.bytes()
    }

    /// Bytes of disk that the log has in use: all of every segment but the last, of which what is written counts.
    pub fn live_bytes(&self) -> u64 {
        self.0.segments.borrow().live_bytes()
    }

    /// Whether there is room for writes: a segment is ready, or much of the present one is left. Where there is none, tries to make some.
    pub fn space_available(&self) -> bool {
        let room = self.0.segments.borrow().has_room();
        if !room {
            self.prepare_spare();
        }
        room && self.0.failure.borrow().is_none()
    }

    /// Why the log takes nothing more, if it does not.
    pub fn failure(&self) -> Option<String> {
        self.0.failure.borrow().clone()
    }

    fn check_failure(&self) -> Result<(), Error> {
        match &*self.0.failure.borrow() {
            Some(cause) => {
                Err(Error::LogFailed { directory: self.0.directory.clone(), cause: cause.clone() })
            }
            None => Ok(()),
        }
    }

    /// Bytes of the records of one append at most.
    pub fn append_bytes_max(&self) -> usize {
        usize::try_from(self.0.config.segment_bytes).unwrap_or(usize::MAX) / 2
    }

    fn check_room(&self, records: &[Record<'_>]) -> Result<(), Error> {
        self.check_failure()?;
        let bytes: usize = records.iter().map(Record::encoded_len).sum();
        let max = self.append_bytes_max();
        if bytes > max {
            return Err(Error::RecordTooLarge { len: bytes as u64, max: max as u64 });
        }
        if !self.0.segments.borrow().has_any_room() {
            self.prepare_spare();
            return Err(self.disk_full());
        }
        Ok(())
    }

    fn no_such_entry(&self, stream: RegionId, wanted: LogIndex) -> Error {
        Error::NoSuchEntry { stream, wanted, first: self.first_index(stream), last: self.last_index(stream) }
    }

    fn disk_full(&self) -> Error {
        Error::DiskFull {
            directory: self.0.directory.clone(),
            segment_size_bytes: self.0.config.segment_bytes,
        }
    }

    fn fail(&self, error: &Error) {
        let cause = error.to_string();
        self.0.writer.borrow_mut().fail(&self.0.directory, &cause);
        self.0.failure.borrow_mut().get_or_insert(cause);
        self.announce_place();
    }
}

impl State {
    /// Encodes a record into a group's body, and takes it into the index.
    fn append(&mut self, record: &Record<'_>, group: u64, body: &mut Vec<u8>) {
        let id = record.stream();
        if let Record::Structure { payload } = record {
            self.structure_sequence += 1;
            record.encode(self.structure_sequence, body);
            self.structures.push((self.structure_sequence, group, Bytes::copy_from_slice(payload)));
            return;
        }
        let before = self.removed.get(&id).copied().unwrap_or_default();
        let stream =
            self.streams.entry(id).or_insert_with(|| Stream { sequence: before, ..Stream::default() });
        stream.sequence += 1;
        let sequence = stream.sequence;
        record.encode(sequence, body);
        match *record {
            Record::Entry { index, term, kind, payload, .. } => {
                let len = u32::try_from(payload.len()).expect("a record fits into a segment");
                let offset = u32::try_from(body.len() - GROUP_HEADER - payload.len()).expect("a group fits");
                let place = Place { group, offset, len };
                stream.put(
                    index,
                    Slot { term, kind, sequence, place, bytes_through: 0, cached: Some(payload.clone()) },
                );
                self.cache.note(id, index, sequence, payload.len());
            }
            Record::HardState { term, vote, commit, .. } => {
                stream.hard_state = Latest { value: (term, vote, commit), sequence, group };
            }
            Record::Compact { index, term, .. } => {
                stream.compacted = Latest { value: (index, term), sequence, group };
            }
            Record::Edit { payload, .. } => {
                stream.edits.push_back((sequence, group, Bytes::copy_from_slice(payload)));
            }
            Record::Adopt { generation, .. } => {
                let generation = Latest { value: generation, sequence, group };
                *stream = Stream { sequence, generation, ..Stream::default() };
            }
            Record::Remove { .. } => {
                self.streams.remove(&id);
                self.applied.remove(&id);
                self.removed.insert(id, sequence);
            }
            Record::Structure { .. } => unreachable!("handled above"),
        }
    }

    /// Lets go of payloads, but of none that is still to be applied, and of none that the disk does not have yet.
    fn shrink_cache(&mut self, bytes_max: usize, durable_through: u64) {
        let Self { cache, streams, applied, .. } = self;
        cache.shrink(bytes_max, streams, |id, index, slot| {
            slot.place.group > durable_through || applied.get(&id).is_none_or(|applied| index > *applied)
        });
    }
}

/// Bytes that a record takes beside its payload.
pub const RECORD_OVERHEAD_BYTES: usize = RECORD_HEADER + ENTRY_HEADER;
