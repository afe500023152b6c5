//! The memory of a memtable's entries: chunks that are only appended to.
//!
//! An entry's [`Position`] is a chunk's number and an offset in units of eight bytes, in 32 bits. An entry never moves.
//!
//! ```text
//! offset  size  name       meaning
//! 0       8     tag        sequence << 1 | (1 for a put, 0 for a delete)
//! 8       4     key_len
//! 12      4     value_len
//! 16      …     key, value, and nothing up to a multiple of eight bytes
//! ```

use crate::table::{EntryKind, EntryRef};

/// Length of a chunk; a longer entry has a chunk of its own.
const CHUNK_BYTES: usize = 1 << 20;
/// Room that the first chunk starts with, so that many small trees cost little.
const FIRST_CHUNK_BYTES: usize = 8 << 10;
const UNIT: usize = 8;
const UNITS_BITS: u32 = (CHUNK_BYTES / UNIT).trailing_zeros();
const HEADER_LEN: usize = 16;
const CACHE_LINE_BYTES: usize = 64;
/// The lines of an entry that are asked for ahead. What lies behind them the processor sees coming.
const TOUCHED_LINES: [usize; 3] = [0, 1, 2];
/// Chunks that a position can name.
const CHUNKS_MAX: usize = 1 << (u32::BITS - UNITS_BITS);

/// Where an entry is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position(pub(super) u32);

/// Bytes that an arena takes at most: what positions can name.
pub(super) const ARENA_BYTES_MAX: usize = CHUNKS_MAX * CHUNK_BYTES;

#[derive(Default)]
pub(super) struct Arena {
    /// An entry longer than a chunk stands alone, at offset 0 of a chunk that is longer too.
    chunks: Vec<Vec<u8>>,
    allocated: usize,
}

impl Arena {
    /// Bytes taken from the allocator.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.allocated + self.chunks.capacity() * size_of::<Vec<u8>>()
    }

    /// Bytes that an entry takes.
    pub(super) fn entry_len(key: &[u8], value: &[u8]) -> usize {
        (HEADER_LEN + key.len() + value.len()).next_multiple_of(UNIT)
    }

    pub(super) fn push(&mut self, entry: EntryRef<'_>) -> Position {
        let len = Self::entry_len(entry.key, entry.value);
        if self.chunks.last().is_none_or(|chunk| chunk.len() + len > CHUNK_BYTES) {
            self.add_chunk(len);
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let offset = chunk.len();
        let capacity = chunk.capacity();
        let tag = (entry.sequence << 1) | u64::from(entry.kind == EntryKind::Put);
        chunk.extend_from_slice(&tag.to_le_bytes());
        chunk.extend_from_slice(&length(entry.key).to_le_bytes());
        chunk.extend_from_slice(&length(entry.value).to_le_bytes());
        chunk.extend_from_slice(entry.key);
        chunk.extend_from_slice(entry.value);
        chunk.resize(offset + len, 0);
        self.allocated += chunk.capacity() - capacity;
        position(number, offset)
    }

    fn add_chunk(&mut self, len: usize) {
        let capacity = if self.chunks.is_empty() { FIRST_CHUNK_BYTES.max(len) } else { CHUNK_BYTES.max(len) };
        let chunk = Vec::with_capacity(capacity);
        self.allocated += chunk.capacity();
        self.chunks.push(chunk);
    }

    #[inline]
    pub(super) fn entry(&self, position: Position) -> EntryRef<'_> {
        let (bytes, tag, key_len, value_len) = self.parts(position);
        let (key, rest) = bytes.split_at(key_len);
        let kind = if tag & 1 == 1 { EntryKind::Put } else { EntryKind::Delete };
        EntryRef { key, sequence: tag >> 1, kind, value: &rest[..value_len] }
    }

    /// Asks the memory for an entry's first bytes.
    #[inline]
    pub(super) fn touch(&self, position: Position) {
        let (chunk, offset) = place_of(position);
        let bytes = &self.chunks[chunk];
        std::hint::black_box(TOUCHED_LINES.map(|line| bytes.get(offset + line * CACHE_LINE_BYTES).copied()));
    }

    /// The entry's key and sequence.
    #[inline]
    pub(super) fn key(&self, position: Position) -> (&[u8], u64) {
        let (bytes, tag, key_len, _) = self.parts(position);
        (&bytes[..key_len], tag >> 1)
    }

    #[inline]
    fn parts(&self, position: Position) -> (&[u8], u64, usize, usize) {
        let (chunk, offset) = place_of(position);
        let bytes = &self.chunks[chunk][offset..];
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>().expect("positions are of entries");
        let [tag, lengths] = *header.as_chunks::<8>().0 else {
            unreachable!("sixteen bytes are two times eight")
        };
        let lengths = u64::from_le_bytes(lengths);
        #[expect(clippy::cast_possible_truncation, reason = "the low half is the key's length")]
        let key_len = lengths as u32;
        let value_len = lengths >> 32;
        (rest, u64::from_le_bytes(tag), key_len as usize, usize::try_from(value_len).unwrap_or(usize::MAX))
    }
}

fn position(chunk: usize, offset: usize) -> Position {
    assert!(chunk < CHUNKS_MAX, "a memtable is rotated long before positions run out");
    let position = (chunk << UNITS_BITS) | (offset / UNIT);
    Position(u32::try_from(position).expect("chunks are counted below CHUNKS_MAX"))
}

/// The chunk and the offset that a position names.
#[inline]
fn place_of(position: Position) -> (usize, usize) {
    ((position.0 >> UNITS_BITS) as usize, (position.0 & ((1 << UNITS_BITS) - 1)) as usize * UNIT)
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("keys and values are shorter than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(key: &'a [u8], sequence: u64, value: &'a [u8]) -> EntryRef<'a> {
        EntryRef { key, sequence, kind: EntryKind::Put, value }
    }

    #[test]
    fn entries_come_back_whatever_their_length() {
        let mut arena = Arena::default();
        let large = vec![7; 3 * CHUNK_BYTES];
        let values: Vec<&[u8]> =
            vec![b"", b"v", &large[..CHUNK_BYTES - 24], &large, b"after", &large[..CHUNK_BYTES]];
        let mut positions = Vec::new();
        for _ in 0..3 {
            for value in &values {
                let sequence = positions.len() as u64 + 1;
                positions.push((arena.push(entry(b"key", sequence, value)), sequence, *value));
            }
        }
        for (position, sequence, value) in positions {
            assert_eq!(arena.entry(position), entry(b"key", sequence, value));
            assert_eq!(arena.key(position), (&b"key"[..], sequence));
        }
    }

    #[test]
    fn accounting_counts_what_is_allocated() {
        let mut arena = Arena::default();
        for sequence in 1..=100_000 {
            arena.push(entry(b"\0rk000000000000001", sequence, &[1; 100]));
        }
        let sum: usize = arena.chunks.iter().map(Vec::capacity).sum();
        assert_eq!(arena.allocated_bytes(), sum + arena.chunks.capacity() * size_of::<Vec<u8>>());
        let entries = 100_000 * Arena::entry_len(b"\0rk000000000000001", &[1; 100]);
        assert!((entries..entries + 2 * CHUNK_BYTES).contains(&arena.allocated_bytes()));
    }
}
