//! Reading entries back: from memory, or from the segments, many with one read.

use super::format::{ENTRY_HEADER, GROUP_HEADER, entry_crc};
use super::stream::{Place, Slot};
use super::{Log, LogEntry, State};
use crate::Error;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use pinion_runtime::fs::{File, ReadBuffer};
use pinion_types::{LogIndex, RegionId};
use std::path::PathBuf;
use std::pin::pin;

/// Bytes that one read asks for at most, unless one entry is larger. Smaller: a follower that is behind costs a read for every few entries. Larger:
/// other reads wait behind it.
const READ_BYTES_MAX: u64 = 256 << 10;
/// Bytes between two entries that are read and passed over. Smaller: entries of few regions among many cost a read each. Larger: most of what
/// is read is passed over.
const GAP_BYTES_MAX: u64 = 16 << 10;
/// Reads that are on their way at once while a start replays. Fewer: a start waits for the disk most of that time. A follower that catches up has
/// one, since callers wait behind it: their p99 beside it is 0.7 to 1.5 times what it is without, and with eight reads 1.9 to 13 times.
const READS_AT_START: usize = 8;

/// Entries that lie near each other in one file.
struct Span {
    segment: u64,
    file: File,
    path: PathBuf,
    start: u64,
    end: u64,
    /// Where each of them begins with its own header, in the order of their positions.
    offsets: Vec<u64>,
}

impl Span {
    /// Puts an entry in if it lies closely behind the last one.
    fn take(&mut self, segment: u64, start: u64, end: u64) -> bool {
        let is_near = segment == self.segment
            && start >= self.end
            && start - self.end <= GAP_BYTES_MAX
            && end - self.start <= READ_BYTES_MAX;
        if is_near {
            self.end = end;
            self.offsets.push(start);
        }
        is_near
    }
}

impl Log {
    /// The entries in `[low, high)`, as many from the front as are within `bytes_max`, but at least one; `None` when one of them must be read
    /// from disk, or is not there.
    pub fn entries_cached(
        &self,
        stream: RegionId,
        low: LogIndex,
        high: LogIndex,
        bytes_max: usize,
    ) -> Option<Vec<LogEntry>> {
        let state = self.0.state.borrow();
        let stream = state.streams.get(&stream)?;
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut index = low;
        while index < high {
            let slot = stream.slot(index)?;
            bytes += slot.place.len as usize;
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            let payload = slot.cached.clone()?;
            entries.push(LogEntry { index, term: slot.term, kind: slot.kind, payload });
            index = index.next();
        }
        Some(entries)
    }

    /// The entries in `[low, high)`, as many from the front as are within `bytes_max`, but at least one; from disk what is not cached.
    ///
    /// # Errors
    /// When one is not there, or its bytes are damaged.
    pub async fn entries(
        &self,
        stream: RegionId,
        low: LogIndex,
        high: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<LogEntry>, Error> {
        self.read_entries(stream, low, high, bytes_max, 1).await
    }

    /// The same for a start: as fast as the disk gives them, since nobody else waits for it.
    ///
    /// # Errors
    /// As [`entries`](Self::entries).
    pub async fn entries_for_replay(
        &self,
        stream: RegionId,
        low: LogIndex,
        high: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<LogEntry>, Error> {
        self.read_entries(stream, low, high, bytes_max, READS_AT_START).await
    }

    async fn read_entries(
        &self,
        stream: RegionId,
        low: LogIndex,
        high: LogIndex,
        bytes_max: usize,
        reads_at_once: usize,
    ) -> Result<Vec<LogEntry>, Error> {
        let slots = self.slots(stream, low, high, bytes_max)?;
        let mut entries = Vec::with_capacity(slots.len());
        let lengths = self.pieces(stream, low, &slots);
        let mut rest = slots.into_iter();
        let mut next = low;
        let pieces = lengths.into_iter().map(|len| {
            let first = next;
            next = LogIndex(first.0 + len as u64);
            self.read_piece(stream, first, rest.by_ref().take(len).collect())
        });
        let mut reading = pin!(stream::iter(pieces).buffered(reads_at_once));
        while let Some(mut piece) = reading.try_next().await? {
            entries.append(&mut piece);
        }
        Ok(entries)
    }

    /// How many of the slots from `first` on come with one read, and with the next, and so on.
    fn pieces(&self, stream: RegionId, first: LogIndex, slots: &[Slot]) -> Vec<usize> {
        let mut lengths = Vec::new();
        let mut at = 0;
        while at < slots.len() {
            let rest = &slots[at..];
            let cached = rest.iter().take_while(|slot| slot.cached.is_some()).count();
            let len = match cached {
                0 => self
                    .span_of(stream, LogIndex(first.0 + at as u64), rest)
                    .map_or(1, |span| span.offsets.len()),
                cached => cached,
            };
            lengths.push(len);
            at += len;
        }
        lengths
    }

    /// Entries of which those that are not cached come with one read, if nothing changes meanwhile and all can be read.
    async fn read_piece(
        &self,
        stream: RegionId,
        first: LogIndex,
        mut slots: Vec<Slot>,
    ) -> Result<Vec<LogEntry>, Error> {
        let mut entries = Vec::with_capacity(slots.len());
        while entries.len() < slots.len() {
            let index = LogIndex(first.0 + entries.len() as u64);
            let rest = &mut slots[entries.len()..];
            if let Slot { term, kind, cached: Some(payload), .. } = &rest[0] {
                entries.push(LogEntry { index, term: *term, kind: *kind, payload: payload.clone() });
                continue;
            }
            let read = match self.read(stream, index, rest).await {
                // What lies between it and others may be what can't be read.
                Err(_) => self.read(stream, index, &rest[..1]).await,
                read => read,
            };
            match read {
                Ok(mut read) => entries.append(&mut read),
                // What is needed may have been written again elsewhere meanwhile, and its old place written over.
                Err(error) if !self.look_again(stream, index, rest)? => return Err(error),
                Err(_) => {}
            }
        }
        Ok(entries)
    }

    /// The slots in `[low, high)`, as many from the front as are within `bytes_max`, but at least one.
    fn slots(
        &self,
        stream: RegionId,
        low: LogIndex,
        high: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Slot>, Error> {
        let mut slots: Vec<Slot> = Vec::new();
        let mut bytes = 0;
        let mut index = low;
        while index < high {
            let slot = self.slot(stream, index)?;
            bytes += slot.place.len as usize;
            if bytes > bytes_max && !slots.is_empty() {
                break;
            }
            slots.push(slot);
            index = index.next();
        }
        Ok(slots)
    }

    fn slot(&self, stream: RegionId, index: LogIndex) -> Result<Slot, Error> {
        let found = self.with(stream, |stream| stream.slot(index).cloned()).flatten();
        found.ok_or_else(|| self.no_such_entry(stream, index))
    }

    /// Takes the slots from `index` on as they are now; whether the first of them has changed.
    fn look_again(&self, stream: RegionId, index: LogIndex, slots: &mut [Slot]) -> Result<bool, Error> {
        let before = (slots[0].place, slots[0].term, slots[0].cached.is_some());
        for (behind, slot) in slots.iter_mut().enumerate() {
            *slot = self.slot(stream, LogIndex(index.0 + behind as u64))?;
        }
        Ok(before != (slots[0].place, slots[0].term, slots[0].cached.is_some()))
    }

    /// Reads the first entry of `slots` from disk, and what of the others comes with the same read, and checks them.
    async fn read(&self, stream: RegionId, first: LogIndex, slots: &[Slot]) -> Result<Vec<LogEntry>, Error> {
        let span = self.span_of(stream, first, slots)?;
        let len = usize::try_from(span.end - span.start).expect("a read fits into memory");
        let read = span.file.read_at(span.start, len).await;
        let bytes = read.map_err(|source| Error::io(&span.path, source))?;
        let mut entries = Vec::with_capacity(span.offsets.len());
        for (behind, (offset, slot)) in span.offsets.iter().zip(slots).enumerate() {
            let index = LogIndex(first.0 + behind as u64);
            match span.payload(&bytes, *offset, stream, index, slot) {
                Ok(payload) => {
                    entries.push(LogEntry { index, term: slot.term, kind: slot.kind, payload });
                }
                // What comes before it is good; it is asked for again, and then it is the first.
                Err(_) if behind > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    fn span_of(&self, stream: RegionId, first: LogIndex, slots: &[Slot]) -> Result<Span, Error> {
        let segments = self.0.segments.borrow();
        let locate = |Place { group, offset, len }: Place| {
            let (segment, of_group) = segments.place_of(group)?;
            let start = of_group + (GROUP_HEADER + offset as usize - ENTRY_HEADER) as u64;
            let end = start + ENTRY_HEADER as u64 + u64::from(len);
            Some((segment, start, end))
        };
        let (segment, start, end) =
            locate(slots[0].place).ok_or_else(|| self.no_such_entry(stream, first))?;
        let (number, file) = (segment.number, segment.file.clone());
        let path = segments.path_of(number);
        let mut span = Span { segment: number, file, path, start, end, offsets: vec![start] };
        for slot in slots[1..].iter().take_while(|slot| slot.cached.is_none()) {
            let Some((segment, start, end)) = locate(slot.place) else { break };
            if !span.take(segment.number, start, end) {
                break;
            }
        }
        Ok(span)
    }

    /// Brings the entries in `[low, high)` into memory, as many from the front as are within `bytes_max`, but at least one; up to which. They
    /// stay at least until they are applied.
    ///
    /// # Errors
    /// When one is not there, or its bytes are damaged.
    pub async fn load(
        &self,
        stream: RegionId,
        low: LogIndex,
        high: LogIndex,
        bytes_max: usize,
    ) -> Result<LogIndex, Error> {
        let entries = self.entries(stream, low, high, bytes_max).await?;
        let through = entries.last().map_or(low.previous(), |entry| entry.index);
        let mut state = self.0.state.borrow_mut();
        let State { streams, cache, .. } = &mut *state;
        for entry in entries {
            let found = streams.get_mut(&stream).and_then(|stream| stream.slot_mut(entry.index));
            // What was replaced meanwhile is in memory already.
            if let Some(slot) = found.filter(|slot| slot.term == entry.term && slot.cached.is_none()) {
                cache.note(stream, entry.index, slot.sequence, entry.payload.len());
                slot.cached = Some(entry.payload);
            }
        }
        Ok(through)
    }
}

impl Span {
    /// The payload of the entry that begins at `offset`, once it is known to be that entry's.
    fn payload(
        &self,
        bytes: &ReadBuffer,
        offset: u64,
        stream: RegionId,
        index: LogIndex,
        slot: &Slot,
    ) -> Result<Bytes, Error> {
        let begin = usize::try_from(offset - self.start).expect("a read fits into memory");
        let end = begin + ENTRY_HEADER + slot.place.len as usize;
        let entry =
            bytes.get(begin..end).ok_or_else(|| Error::corrupt(&self.path, offset, "an entry is cut off"))?;
        let (header, payload) = entry.split_at(ENTRY_HEADER);
        let expected = u32::from_le_bytes([header[16], header[17], header[18], header[19]]);
        let got = entry_crc(stream, index, slot.term, header[20], payload);
        if got != expected {
            return Err(Error::ChecksumMismatch { file: self.path.clone(), offset, expected, got });
        }
        Ok(Bytes::copy_from_slice(payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Durability, LogConfig, Record, Released};
    use futures_util::poll;
    use pinion_runtime::sim::{Config, DiskError, Failing, Host, run};
    use pinion_types::Term;
    use std::path::Path;
    use std::time::Duration;

    const COLD: RegionId = RegionId(1);
    const BUSY: RegionId = RegionId(2);
    const SEGMENT_BYTES: u64 = 64 << 10;
    /// So slow that what is asked for meanwhile at the usual speed is done before.
    const SLOW: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(3);
    const USUAL: std::ops::Range<Duration> = Duration::from_micros(50)..Duration::from_micros(100);

    fn entry(stream: RegionId, index: u64, payload: &Bytes) -> Record<'_> {
        Record::Entry { stream, index: LogIndex(index), term: Term(1), kind: 0, payload }
    }

    /// A log that keeps nothing in memory that is applied.
    fn with_log(segment_bytes: u64, test: impl AsyncFnOnce(Log, &Host) + Send) {
        run(Config::new(1), |simulation| {
            simulation.block_on(async {
                pinion_runtime::fs::create_dir_durably("/", "log").await.unwrap();
                let config = LogConfig { segment_bytes, cache_bytes: 0, ..LogConfig::default() };
                let (log, _) = Log::open(Path::new("/log"), config).await.unwrap();
                test(log, simulation.driver()).await;
            });
        });
    }

    async fn append(log: &Log, stream: RegionId, payloads: &[Bytes]) {
        for payload in payloads {
            let index = log.last_index(stream).next();
            log.append(&[entry(stream, index.0, payload)], Durability::Sync).await.unwrap();
            log.applied(stream, index);
        }
    }

    fn payloads(count: usize, bytes: usize) -> Vec<Bytes> {
        (0..count).map(|number| Bytes::from(vec![u8::try_from(number % 251).unwrap(); bytes])).collect()
    }

    #[test]
    fn many_entries_are_read_at_once_and_come_in_their_order() {
        with_log(1 << 20, async |log, host| {
            // Some fill several blocks, some lie behind another stream's.
            let written: Vec<Bytes> = payloads(60, 100)
                .into_iter()
                .chain(payloads(10, 5000))
                .chain(payloads(3, 300 << 10))
                .collect();
            for part in written.chunks(7) {
                append(&log, COLD, part).await;
                append(&log, BUSY, &payloads(1, 9000)).await;
            }
            let end = log.last_index(COLD).next();
            let before = host.io_counts().reads;
            let read = log.entries(COLD, LogIndex(1), end, usize::MAX).await.unwrap();
            let reads = host.io_counts().reads - before;
            assert!(read.iter().map(|entry| &entry.payload).eq(&written));
            assert!((4..12).contains(&reads), "{reads} reads");
            // The bound on bytes is met whatever a read brings.
            let few = log.entries(COLD, LogIndex(3), end, 250).await.unwrap();
            assert_eq!(few.iter().map(|entry| entry.index.0).collect::<Vec<_>>(), [3, 4]);
        });
    }

    #[test]
    fn a_start_has_several_reads_on_their_way_at_once() {
        with_log(4 << 20, async |log, host| {
            let written = payloads(2 * READS_AT_START, 200 << 10);
            append(&log, COLD, &written).await;
            host.set_io_latency(SLOW);
            let begun = pinion_runtime::now();
            let end = log.last_index(COLD).next();
            let read = log.entries_for_replay(COLD, LogIndex(1), end, usize::MAX).await.unwrap();
            assert!(read.iter().map(|entry| &entry.payload).eq(&written));
            assert!(begun.elapsed() < 4 * SLOW.end, "{:?}", begun.elapsed());
        });
    }

    #[test]
    fn an_entry_is_read_alone_where_the_read_of_many_fails() {
        with_log(SEGMENT_BYTES, async |log, host| {
            let written = payloads(5, 3000);
            append(&log, COLD, &written).await;
            host.fail_io(Failing::Once(host.io_count()), DiskError::Io);
            let read = log.entries(COLD, LogIndex(1), LogIndex(6), usize::MAX).await.unwrap();
            assert!(read.iter().map(|entry| &entry.payload).eq(&written));
            host.fail_io(Failing::From(host.io_count()), DiskError::Io);
            let failed = log.entries(COLD, LogIndex(1), LogIndex(6), usize::MAX).await;
            assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
        });
    }

    #[test]
    fn an_entry_that_is_written_again_elsewhere_while_it_is_read_is_read_there() {
        with_log(SEGMENT_BYTES, async |log, host| {
            append(&log, COLD, &payloads(3, 700)).await;
            append(&log, BUSY, &payloads(12, 9000)).await;
            let before = log.reuse();
            host.set_io_latency(SLOW);
            let mut reading = pin!(log.entries(COLD, LogIndex(1), LogIndex(4), usize::MAX));
            assert!(poll!(&mut reading).is_pending());
            host.set_io_latency(USUAL);
            for _ in 0..4 {
                let index = log.last_index(BUSY);
                let compact = Record::Compact { stream: BUSY, index, term: Term(1) };
                log.append(&[compact], Durability::Sync).await.unwrap();
                log.release(BUSY, Released { entries_through: index, edits_through: 0 });
                log.settle().await;
                append(&log, BUSY, &payloads(12, 9000)).await;
            }
            assert!(log.reuse().0 > before.0 && log.reuse().1 > before.1, "nothing was written again");
            assert!(poll!(&mut reading).is_pending(), "the read was done before");
            let read = reading.await.unwrap();
            assert!(read.iter().map(|entry| &entry.payload).eq(&payloads(3, 700)));
        });
    }
}
