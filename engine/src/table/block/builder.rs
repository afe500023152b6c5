//! Building a block: entries are collected as they come and laid out once it is known what their keys share.

use super::{HEAD_LEN, HEADER_LEN, RESTART_INTERVAL, SLOT_LEN, WIDE_SLOT_LEN, head_of, varint};
use crate::table::{EntryKind, EntryRef};

/// The most entries of a block.
const ENTRIES_MAX: usize = u16::MAX as usize;
/// The farthest that a record begins behind the first one where slots have 16 bits.
const RECORD_START_MAX: usize = u16::MAX as usize;

/// Collects a block's entries.
#[derive(Default)]
pub(crate) struct BlockBuilder {
    keys: Vec<u8>,
    values: Vec<u8>,
    pending: Vec<Pending>,
    shape: Shape,
}

/// What is remembered of an entry beside its bytes.
#[derive(Clone, Copy)]
struct Pending {
    key_end: usize,
    value_end: usize,
    sequence: u64,
    kind: EntryKind,
}

/// What decides a block's length.
#[derive(Clone, Copy, Default)]
pub(crate) struct Shape {
    prefix_len: usize,
    /// Bytes of all keys after prefix and head, and of the varints, were nothing shared.
    key_bytes: usize,
    value_bytes: usize,
    last_value_len: usize,
    lowest: u64,
    highest: u64,
    entries: usize,
}

impl Shape {
    /// Length of the block in bytes, at most: sharing makes it shorter.
    pub(crate) fn byte_len(&self) -> usize {
        HEADER_LEN + self.prefix_len + self.entries * (HEAD_LEN + self.slot_len()) + self.record_bytes()
    }

    fn record_bytes(&self) -> usize {
        self.entries * width_of(self.highest - self.lowest) + self.key_bytes + self.value_bytes
    }

    fn slot_len(&self) -> usize {
        let last_start = self.record_bytes() - self.last_value_len;
        if last_start <= RECORD_START_MAX { SLOT_LEN } else { WIDE_SLOT_LEN }
    }
}

impl BlockBuilder {
    /// Whether there is no entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Length of the block in bytes, at most.
    pub(crate) fn byte_len(&self) -> usize {
        self.shape.byte_len()
    }

    /// The key that was added last.
    pub(crate) fn last_key(&self) -> &[u8] {
        let start = self.pending.len().checked_sub(2).map_or(0, |index| self.pending[index].key_end);
        &self.keys[start..]
    }

    /// The sequence that was added last.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.pending.last().map_or(0, |entry| entry.sequence)
    }

    /// The block's shape with one more entry; `None` when it takes no more.
    pub(crate) fn shape_with(&self, entry: &EntryRef<'_>) -> Option<Shape> {
        let shape = &self.shape;
        let Some(first) = self.pending.first() else {
            return Some(Shape {
                prefix_len: entry.key.len(),
                key_bytes: 1,
                value_bytes: entry.value.len(),
                last_value_len: entry.value.len(),
                lowest: entry.sequence,
                highest: entry.sequence,
                entries: 1,
            });
        };
        let prefix = &self.keys[..shape.prefix_len];
        let (prefix_len, key_bytes) = if entry.key.starts_with(prefix) {
            (shape.prefix_len, shape.key_bytes)
        } else {
            let prefix_len = common_len(&self.keys[..first.key_end], entry.key);
            (prefix_len, self.key_bytes(prefix_len))
        };
        let with = Shape {
            prefix_len,
            key_bytes: key_bytes + key_bytes_of(entry.key.len() - prefix_len),
            value_bytes: shape.value_bytes + entry.value.len(),
            last_value_len: entry.value.len(),
            lowest: shape.lowest.min(entry.sequence),
            highest: shape.highest.max(entry.sequence),
            entries: shape.entries + 1,
        };
        (shape.entries < ENTRIES_MAX).then_some(with)
    }

    /// Adds an entry, in order, of which `shape` was asked.
    pub(crate) fn push(&mut self, entry: &EntryRef<'_>, shape: Shape) {
        debug_assert_eq!(shape.entries, self.pending.len() + 1, "the shape is that with this entry");
        self.keys.extend_from_slice(entry.key);
        self.values.extend_from_slice(entry.value);
        self.pending.push(Pending {
            key_end: self.keys.len(),
            value_end: self.values.len(),
            sequence: entry.sequence,
            kind: entry.kind,
        });
        self.shape = shape;
    }

    /// Appends the block to `out` and begins the next one.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        assert!(!self.is_empty(), "a block has an entry");
        let entries = self.pending.len();
        let Shape { prefix_len, lowest, highest, .. } = self.shape;
        let slot_len = self.shape.slot_len();
        let width = width_of(highest - lowest);
        out.reserve(self.shape.byte_len());
        out.extend_from_slice(&short(entries).to_le_bytes());
        out.extend_from_slice(&short(prefix_len).to_le_bytes());
        out.extend_from_slice(&[byte(width), byte(slot_len), 0, 0]);
        out.extend_from_slice(&lowest.to_le_bytes());
        out.extend_from_slice(&self.keys[..prefix_len]);
        let mut key_start = 0;
        for entry in &self.pending {
            let head = head_of(&self.keys[key_start + prefix_len..entry.key_end]);
            out.extend_from_slice(&head.to_le_bytes());
            key_start = entry.key_end;
        }
        let slots_at = out.len();
        out.resize(slots_at + slot_len * entries, 0);
        self.write_records(slots_at, slot_len, width, out);
        self.keys.clear();
        self.values.clear();
        self.pending.clear();
        self.shape = Shape::default();
    }

    fn write_records(&self, slots_at: usize, slot_len: usize, width: usize, out: &mut Vec<u8>) {
        let Shape { prefix_len, lowest, .. } = self.shape;
        let records_at = out.len();
        let (mut key_start, mut value_start) = (0, 0);
        let mut restart: &[u8] = &[];
        for (index, entry) in self.pending.iter().enumerate() {
            let record_start = (out.len() - records_at).to_le_bytes();
            let slot = slots_at + slot_len * index;
            out[slot..slot + slot_len].copy_from_slice(&record_start[..slot_len]);
            let suffix = &self.keys[key_start + prefix_len..entry.key_end];
            let mut shared = 0;
            if index % RESTART_INTERVAL == 0 {
                restart = suffix;
            } else if suffix.len() > HEAD_LEN {
                // One byte says how much is shared, so a single shared byte gains nothing.
                shared = common_len(restart, suffix).saturating_sub(HEAD_LEN);
                shared = if shared > varint::len(shared) { shared } else { 0 };
            }
            varint::write(suffix.len() * 2 + usize::from(shared > 0), out);
            if shared > 0 {
                varint::write(shared, out);
            }
            let packed = (entry.sequence - lowest) << 1 | u64::from(entry.kind == EntryKind::Delete);
            out.extend_from_slice(&packed.to_le_bytes());
            out.truncate(out.len() - (8 - width));
            out.extend_from_slice(suffix.get(HEAD_LEN + shared..).unwrap_or_default());
            out.extend_from_slice(&self.values[value_start..entry.value_end]);
            key_start = entry.key_end;
            value_start = entry.value_end;
        }
    }

    /// Bytes of the keys after a prefix of that length and the heads.
    fn key_bytes(&self, prefix_len: usize) -> usize {
        let mut start = 0;
        let mut sum = 0;
        for entry in &self.pending {
            sum += key_bytes_of(entry.key_end - start - prefix_len);
            start = entry.key_end;
        }
        sum
    }
}

/// Bytes of a key of which `suffix_len` bytes follow the prefix, in its record.
fn key_bytes_of(suffix_len: usize) -> usize {
    suffix_len.saturating_sub(HEAD_LEN) + varint::len(suffix_len * 2)
}

/// Bytes that a packed sequence takes. The lowest bit is for the kind, which a block of one sequence needs too.
fn width_of(span: u64) -> usize {
    let bits = 64 - (span << 1 | 1).leading_zeros();
    bits.div_ceil(8) as usize
}

/// How many bytes both begin with.
pub(crate) fn common_len(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

fn byte(number: usize) -> u8 {
    u8::try_from(number).expect("widths in a block have 8 bits")
}

fn short(number: usize) -> u16 {
    u16::try_from(number).expect("counts and lengths in a block have 16 bits")
}
