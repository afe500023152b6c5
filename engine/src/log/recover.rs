//! From the files to the log's state.
//!
//! 1. Every file's header is read; those without a header of their own number are free. The live segments are the unbroken run of numbers
//!    that ends with the highest.
//! 2. Groups are read in the order of their numbers. A segment of a higher epoch says at which group it begins; what older segments hold from
//!    there on is void.
//! 3. At the first group that is missing the log ends. If some group behind the hole says that the missing one was durable, that is damage.
//! 4. Records are taken in by stream and sequence.
//! 5. A new segment with a higher epoch is begun before anything is appended; the last one, if no group that counts is in it.

use super::format::GROUP_HEADER;
use super::format::{
    BLOCK, BadHeader, GroupHeader, ReadBody, ReadRecord, SegmentHeader, VERSION, decode_records, group_bytes,
    segment_number,
};
use super::segments::{PROVISIONAL, Segment, Segments};
use super::stream::{Latest, Place, Slot, Stream};
use super::writer::Writer;
use super::{Inner, Log, LogConfig, LogEntry, State};
use crate::Error;
use bytes::Bytes;
use pinion_runtime::fs::{self, File, OpenOptions};
use pinion_types::{CoreId, LogIndex, RegionId, Term};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Bytes of a segment that are read first; each further read doubles them.
const READ_BYTES: usize = 1 << 20;

/// What a start finds in a log.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The streams.
    pub streams: BTreeMap<RegionId, RecoveredStream>,
    /// The structure records, oldest first.
    pub structures: Vec<Bytes>,
    /// Groups that were cut off: written, never acknowledged, behind a hole.
    pub cut_groups: u64,
}

/// What a log holds, without opening it.
#[derive(Clone, Debug, Default)]
pub struct Examined {
    /// What a start would find.
    pub recovered: Recovered,
    /// Segments with a header.
    pub segments: usize,
    /// Groups that count.
    pub groups: usize,
    /// Entries of each stream that are in the files, by index.
    pub entries: BTreeMap<RegionId, BTreeMap<LogIndex, LogEntry>>,
}

/// What a start finds of a stream.
#[derive(Clone, Debug, Default)]
pub struct RecoveredStream {
    /// How often the region changed cores.
    pub generation: u64,
    /// Term, vote (0 for none), commit index.
    pub hard_state: (Term, u64, LogIndex),
    /// The log is compacted through this position.
    pub compacted: (LogIndex, Term),
    /// The position of the last entry.
    pub last_index: LogIndex,
    /// The edits that are not released, with their sequences.
    pub edits: Vec<(u64, Bytes)>,
}

/// A segment as its file's header describes it.
struct Found {
    path: PathBuf,
    header: SegmentHeader,
}

/// A group as it was read.
struct FoundGroup {
    number: u64,
    offset: u64,
    end: u64,
    records: Vec<ReadRecord>,
}

/// What a start would find in the log in `directory`, with the entries that it holds. Nothing is changed.
///
/// # Errors
/// Whatever a start would refuse: damage below what was acknowledged, a missing segment, another format.
pub async fn examine(directory: &Path, core: CoreId) -> Result<Examined, Error> {
    let Scanned { live, .. } = scan(directory, core, None).await?;
    let mut reading = Reading::new(live.first().map_or(1, |first| first.header.first_group));
    let mut entries: BTreeMap<RegionId, BTreeMap<LogIndex, LogEntry>> = BTreeMap::new();
    for position in 0..live.len() {
        let bytes = reading.read_segment(&live, position).await?;
        for (_, group) in reading.groups.iter().filter(|(at, _)| *at == position) {
            let body = usize::try_from(group.offset).unwrap_or(usize::MAX) + GROUP_HEADER;
            for record in &group.records {
                if let ReadBody::Entry { index, term, kind, offset, len } = record.body {
                    let payload = Bytes::copy_from_slice(&bytes[body + offset..][..len]);
                    let entry = LogEntry { index, term, kind, payload };
                    entries.entry(record.stream).or_default().insert(index, entry);
                }
            }
        }
    }
    reading.check_oldest(directory, &live)?;
    let (segments, groups) = (live.len(), reading.groups.len());
    let mut state = State::default();
    let cut = reading.cut;
    state.replay(reading.groups);
    for (id, stream) in &state.streams {
        if let Some(entries) = entries.get_mut(id) {
            entries.retain(|index, entry| stream.term(*index) == Some(entry.term));
        }
    }
    entries.retain(|id, _| state.streams.contains_key(id));
    Ok(Examined { recovered: state.recovered(cut), segments, groups, entries })
}

/// Opens the log in `directory`.
pub(super) async fn open(directory: &Path, config: LogConfig) -> Result<(Log, Recovered), Error> {
    let failed = |source| Error::io(directory, source);
    let Scanned { live, ready, useless } = scan(directory, config.core, Some(config.segment_bytes)).await?;
    for path in &useless {
        fs::remove_file(path).await.map_err(failed)?;
    }
    fs::sync_dir(directory).await.map_err(failed)?;
    let epoch = live.iter().map(|segment| segment.header.epoch).max().unwrap_or(0) + 1;
    let mut reading = Reading::new(live.first().map_or(1, |first| first.header.first_group));
    for position in 0..live.len() {
        // One segment's bytes are in memory at a time.
        reading.read_segment(&live, position).await?;
    }
    reading.check_oldest(directory, &live)?;
    let mut segments = Segments::new(directory, &config, reading.first);
    for (position, segment) in live.iter().enumerate() {
        let file = reopen(&segment.path, config.data_sync).await?;
        let SegmentHeader { number, first_group, .. } = segment.header;
        let mut end = BLOCK as u64;
        for (_, group) in reading.groups.iter().filter(|(at, _)| *at == position) {
            segments.note_group(group.number, number, group.offset);
            end = group.end;
        }
        let is_last = position + 1 == live.len();
        if is_last
            || reading.groups.iter().any(|(at, group)| *at == position && group.number > reading.durable)
        {
            // What a process that was killed had written and not synced is found like anything else, and is built upon from here on.
            file.sync_data().await.map_err(|source| Error::io(&segment.path, source))?;
        }
        segments.live.push_back(Segment { number, file, first_group: first_group.min(reading.next), end });
    }
    segments.last_number = live.last().map_or(0, |last| last.header.number);
    if ready {
        segments.last_number += 1;
        let number = segments.last_number;
        segments.spare = Some((number, reopen(&segments.path_of(number), config.data_sync).await?));
    }
    let mut state = State::default();
    let next_group = reading.next;
    state.replay(reading.groups);
    let recovered = state.recovered(reading.cut);
    let log = Log(Rc::new(Inner {
        directory: directory.to_owned(),
        epoch,
        state: RefCell::new(state),
        segments: RefCell::new(segments),
        writer: RefCell::new(Writer::new(next_group)),
        waiting_for_place: RefCell::default(),
        failure: RefCell::default(),
        reclaiming: Cell::new(false),
        writing_soon: Cell::new(false),
        segments_reused: Cell::new(0),
        records_rewritten: Cell::new(0),
        config,
    }));
    log.begin_epoch(next_group).await?;
    Ok((log, recovered))
}

impl Log {
    /// Begins a segment of the new epoch, durably: from here on what stood behind the end can't come back.
    async fn begin_epoch(&self, first_group: u64) -> Result<(), Error> {
        // A start that nothing was written after leaves a segment that can be begun again: if its new header is torn, it counts for
        // nothing, as before.
        let unused = self.0.segments.borrow_mut().take_unused();
        if unused.is_none() && self.0.segments.borrow().spare.is_none() {
            self.make_spare().await?;
        }
        let begun = self.0.segments.borrow_mut().begin(unused, first_group);
        let (number, file) = begun.expect("a segment was just made ready");
        let path = self.0.segments.borrow().path_of(number);
        let mut block = fs::Buffer::new(BLOCK);
        self.segment_header(number, first_group).encode(&mut block);
        file.write_at(block, 0).await.map_err(|source| Error::io(&path, source))?;
        self.prepare_spare();
        Ok(())
    }
}

async fn reopen(path: &Path, data_sync: bool) -> Result<File, Error> {
    let options = if data_sync { OpenOptions::write().data_sync() } else { OpenOptions::write() };
    options.open(path).await.map_err(|source| Error::io(path, source))
}

/// What is in a log's directory.
struct Scanned {
    /// The live segments, oldest first.
    live: Vec<Found>,
    /// Whether the file that comes next is ready.
    ready: bool,
    /// Files that are of no use.
    useless: Vec<PathBuf>,
}

/// Reads the directory. Segments must have `segment_bytes`, if that is given.
async fn scan(directory: &Path, core: CoreId, segment_bytes: Option<u64>) -> Result<Scanned, Error> {
    let failed = |source| Error::io(directory, source);
    let mut found: Vec<Found> = Vec::new();
    let (mut free, mut useless) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory).await.map_err(failed)? {
        let path = directory.join(&entry.name);
        if entry.name == PROVISIONAL {
            useless.push(path);
            continue;
        }
        let Some(number) = segment_number(&entry.name) else { continue };
        match read_header(&path, number, core, segment_bytes).await? {
            Some(header) => found.push(Found { path, header }),
            None => free.push((number, path, entry.len)),
        }
    }
    found.sort_by_key(|segment| segment.header.number);
    let breaks = |pair: &[Found]| pair[0].header.number + 1 != pair[1].header.number;
    // Files are used again oldest first, so that a hole among the numbers is a file that was lost.
    if let Some(position) = found.windows(2).position(breaks) {
        let number = found[position].header.number + 1;
        return Err(Error::SegmentMissing { directory: directory.to_owned(), number });
    }
    let next = found.last().map_or(1, |last| last.header.number + 1);
    let mut ready = false;
    for (number, path, len) in free {
        // A file keeps its header until it gets a higher number: one without a header among the older numbers is damaged.
        if number < next {
            return Err(Error::SegmentMissing { directory: directory.to_owned(), number });
        }
        // The file that was made ready and not come to is the next again; any other is of no use.
        if number == next && segment_bytes.is_none_or(|bytes| bytes == len) {
            ready = true;
        } else {
            useless.push(path);
        }
    }
    Ok(Scanned { live: found, ready, useless })
}

/// The header of a segment, or `None` of a file that was made ready and not come to, or was given another number and not come to: its
/// content counts for nothing.
async fn read_header(
    path: &Path,
    number: u64,
    core: CoreId,
    segment_bytes: Option<u64>,
) -> Result<Option<SegmentHeader>, Error> {
    let failed = |source| Error::io(path, source);
    let file = OpenOptions::read().open(path).await.map_err(failed)?;
    let block = file.read_at(0, BLOCK).await.map_err(failed)?;
    match SegmentHeader::decode(&block) {
        Ok(header) if header.number != number => Ok(None),
        Ok(header) if header.core != u32::from(core.0) => {
            Err(Error::corrupt(path, 12, "the segment is another core's"))
        }
        Ok(header) => match segment_bytes {
            Some(configured) if configured != header.size => {
                Err(Error::SegmentSize { file: path.to_owned(), found: header.size, configured })
            }
            _ => Ok(Some(header)),
        },
        Err(BadHeader::NotAHeader) => Ok(None),
        Err(BadHeader::Version(got)) => {
            Err(Error::UnknownVersion { file: path.to_owned(), offset: 8, got, known: VERSION })
        }
    }
}

/// A segment's bytes, read piece by piece.
struct Content<'a> {
    path: &'a Path,
    file: File,
    len: usize,
    bytes: Vec<u8>,
}

impl<'a> Content<'a> {
    async fn open(path: &'a Path) -> Result<Self, Error> {
        let opened = async {
            let file = OpenOptions::read().open(path).await?;
            let len = usize::try_from(file.len().await?).map_err(std::io::Error::other)?;
            Ok((file, len))
        };
        let (file, len) = opened.await.map_err(|source| Error::io(path, source))?;
        let mut content = Self { path, file, len, bytes: Vec::new() };
        content.read_on().await?;
        Ok(content)
    }

    /// Reads as much again as is there, [`READ_BYTES`] at first; `false` when all is read.
    async fn read_on(&mut self) -> Result<bool, Error> {
        let from = self.bytes.len();
        let len = (self.len - from).min(from.max(READ_BYTES));
        if len == 0 {
            return Ok(false);
        }
        let read = self.file.read_at(from as u64, len).await;
        let read = read.map_err(|source| Error::io(self.path, source))?;
        self.bytes.extend_from_slice(&read);
        // A file that became shorter ends here.
        self.len = if read.len() < len { self.bytes.len() } else { self.len };
        Ok(!read.is_empty())
    }
}

/// Reading groups in the order of their numbers.
struct Reading {
    first: u64,
    /// The number of the next group.
    next: u64,
    /// The groups so far, each with its segment's position.
    groups: Vec<(usize, FoundGroup)>,
    /// The oldest segment that the last group says is in use.
    oldest: u64,
    /// Groups behind the hole.
    cut: u64,
    /// Up to here a group says that groups are durable.
    durable: u64,
}

impl Reading {
    fn new(first: u64) -> Self {
        Self { first, next: first, groups: Vec::new(), oldest: 0, cut: 0, durable: 0 }
    }

    /// Reads a segment, as much of it as counts; gives what was read.
    async fn read_segment(&mut self, live: &[Found], position: usize) -> Result<Vec<u8>, Error> {
        let segment = &live[position];
        let mut content = Content::open(&segment.path).await?;
        let first_group = segment.header.first_group;
        let is_later_epoch = position > 0 && segment.header.epoch > live[position - 1].header.epoch;
        if first_group > self.next {
            // The end was found in an older segment. Only a start begins an epoch, and a start begins it where the log ended.
            if is_later_epoch {
                return Err(self.damaged(segment, BLOCK, first_group));
            }
            while content.read_on().await? {}
            self.check_behind(segment, BLOCK, &content.bytes)?;
            return Ok(content.bytes);
        }
        // A later start cut the log at this segment's first group: what older segments hold from there on is void.
        self.groups.retain(|(_, group)| group.number < first_group);
        self.next = first_group;
        if is_later_epoch {
            self.cut = 0;
        }
        let mut offset = BLOCK;
        loop {
            while let Some(group) = self.group_at(segment, offset, &content.bytes)? {
                offset = usize::try_from(group.end).unwrap_or(usize::MAX);
                self.next += 1;
                self.groups.push((position, group));
            }
            let cut_by_later = live.get(position + 1..).unwrap_or_default().iter().any(|later| {
                later.header.epoch > segment.header.epoch && later.header.first_group <= self.next
            });
            // What a later start made void need not even be read.
            if cut_by_later {
                return Ok(content.bytes);
            }
            if !content.read_on().await? {
                break;
            }
        }
        self.check_behind(segment, offset, &content.bytes)?;
        Ok(content.bytes)
    }

    /// The group that is due, if it begins at `offset`.
    fn group_at(
        &mut self,
        segment: &Found,
        offset: usize,
        bytes: &[u8],
    ) -> Result<Option<FoundGroup>, Error> {
        let Some((header, body)) = bytes.get(offset..).and_then(GroupHeader::decode) else { return Ok(None) };
        let SegmentHeader { epoch, number, .. } = segment.header;
        if (header.epoch, header.segment, header.number) != (epoch, number, self.next) {
            return Ok(None);
        }
        let corrupt = |what| Error::corrupt(&segment.path, offset as u64, what);
        let records = decode_records(body).map_err(corrupt)?;
        if records.len() != header.records as usize {
            return Err(corrupt("a group has another number of records than it says"));
        }
        self.oldest = header.oldest;
        self.durable = self.durable.max(header.durable_through);
        let end = (offset + group_bytes(header.body_len as usize)) as u64;
        Ok(Some(FoundGroup { number: header.number, offset: offset as u64, end, records }))
    }

    /// Looks behind the end for groups that say that what is missing was durable.
    fn check_behind(&mut self, segment: &Found, from: usize, bytes: &[u8]) -> Result<(), Error> {
        let mut offset = from;
        while offset < bytes.len() {
            let found = bytes.get(offset..).and_then(GroupHeader::decode).filter(|(header, _)| {
                (header.epoch, header.segment) == (segment.header.epoch, segment.header.number)
                    && header.number > self.next
            });
            let Some((header, _)) = found else {
                offset += BLOCK;
                continue;
            };
            if header.durable_through >= self.next {
                return Err(self.damaged(segment, from, header.durable_through));
            }
            self.cut += 1;
            offset += group_bytes(header.body_len as usize);
        }
        Ok(())
    }

    fn damaged(&self, segment: &Found, offset: usize, durable_through: u64) -> Error {
        let file = segment.path.clone();
        Error::LogDamaged { file, offset: offset as u64, group: self.next, durable_through }
    }

    /// The last group names the oldest segment that was in use: it must be there.
    fn check_oldest(&self, directory: &Path, live: &[Found]) -> Result<(), Error> {
        match live.first() {
            Some(first) if self.oldest > 0 && first.header.number > self.oldest => {
                Err(Error::SegmentMissing { directory: directory.to_owned(), number: self.oldest })
            }
            _ => Ok(()),
        }
    }
}

/// Drops the entries that a later one of their stream took the place of, itself or by standing before them. Of those some may be gone with
/// their segments: the hole that is left would look as if all before it had been released.
fn without_superseded(records: Vec<(ReadRecord, u64)>) -> Vec<(ReadRecord, u64)> {
    let mut kept = Vec::with_capacity(records.len());
    // The lowest position among the entries of the same stream that come later.
    let mut lowest: Option<(RegionId, LogIndex)> = None;
    for (record, group) in records.into_iter().rev() {
        match record.body {
            ReadBody::Entry { index, .. } => {
                if lowest.is_some_and(|(stream, later)| stream == record.stream && later <= index) {
                    continue;
                }
                lowest = Some((record.stream, index));
            }
            // What came before is void anyway, and says nothing of what comes behind.
            ReadBody::Adopt { .. } | ReadBody::Remove => lowest = None,
            _ => {}
        }
        kept.push((record, group));
    }
    kept.reverse();
    kept
}

impl State {
    /// Takes in the records of all groups, by stream and sequence.
    fn replay(&mut self, groups: Vec<(usize, FoundGroup)>) {
        let mut records: Vec<(ReadRecord, u64)> = groups
            .into_iter()
            .flat_map(|(_, group)| group.records.into_iter().map(move |record| (record, group.number)))
            .collect();
        // A record that was written again counts where it stands last: the place that is kept longest.
        records.sort_by_key(|(record, group)| (record.stream, record.sequence, std::cmp::Reverse(*group)));
        records.dedup_by_key(|(record, _)| (record.stream, record.sequence));
        for (record, group) in without_superseded(records) {
            self.replay_record(record, group);
        }
    }

    fn replay_record(&mut self, record: ReadRecord, group: u64) {
        let ReadRecord { stream: id, sequence, body: what } = record;
        if let ReadBody::Structure(payload) = what {
            self.structure_sequence = sequence;
            self.structures.push((sequence, group, payload));
            return;
        }
        let stream = self.streams.entry(id).or_default();
        stream.sequence = sequence;
        match what {
            ReadBody::Entry { index, term, kind, offset, len } => {
                let place = Place {
                    group,
                    offset: u32::try_from(offset).expect("a group fits"),
                    len: u32::try_from(len).expect("a group fits"),
                };
                stream.replay(index, Slot { term, kind, sequence, place, bytes_through: 0, cached: None });
            }
            ReadBody::HardState { term, vote, commit } => {
                stream.hard_state = Latest { value: (term, vote, commit), sequence, group };
            }
            ReadBody::Compact { index, term } => {
                stream.compacted = Latest { value: (index, term), sequence, group };
            }
            ReadBody::Edit(payload) => stream.edits.push_back((sequence, group, payload)),
            ReadBody::Adopt { generation } => {
                let generation = Latest { value: generation, sequence, group };
                *stream = Stream { sequence, generation, ..Stream::default() };
            }
            ReadBody::Remove => {
                self.streams.remove(&id);
                self.removed.insert(id, sequence);
            }
            ReadBody::Structure(_) => {}
        }
    }

    fn recovered(&self, cut_groups: u64) -> Recovered {
        let streams = self.streams.iter().map(|(id, stream)| {
            let recovered = RecoveredStream {
                generation: stream.generation.value,
                hard_state: stream.hard_state.value,
                compacted: stream.compacted.value,
                last_index: stream.last_index(),
                edits: stream
                    .edits
                    .iter()
                    .map(|(sequence, _, payload)| (*sequence, payload.clone()))
                    .collect(),
            };
            (*id, recovered)
        });
        let structures = self.structures.iter().map(|(_, _, payload)| payload.clone()).collect();
        Recovered { streams: streams.collect(), structures, cut_groups }
    }
}
