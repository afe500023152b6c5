//! Write batches: operations that apply together.
//!
//! A batch is one buffer from the start, and that buffer is also what the log keeps: it is encoded once. Who takes a batch from the
//! log decodes it into a [`BatchView`], which borrows the log's bytes and was checked whole, so that applying it cannot fail midway.
//!
//! ```text
//! offset  size  name     meaning
//! 0       1     version  1
//! 1       4     count    operations that follow, u32
//! 5       …     operations, each:
//!         1     op       1 put, 2 delete, 3 delete range
//!         1     family   0 default, 1 lock, 2 write
//!         v     key_len  varint; for a range: of its start
//!         …     key
//!         v     len      varint; put: of the value, range: of its end; delete: absent
//!         …     value or end
//! ```
//!
//! There is no checksum: the log's record has one.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::expect_used))]

use crate::Error;
use pinion_types::ColumnFamily;

const VERSION: u8 = 1;
const HEADER_LEN: usize = 5;
const OP_PUT: u8 = 1;
const OP_DELETE: u8 = 2;
const OP_DELETE_RANGE: u8 = 3;

/// Writes that apply together, in their order. Keys are stored keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteBatch {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for WriteBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl WriteBatch {
    /// A batch without operations.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// Bytes that an operation takes at most beside its key and its value.
    pub const OPERATION_OVERHEAD_MAX: usize = 12;

    /// A batch without operations, with room for `bytes` bytes of them.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_LEN + bytes);
        buffer.push(VERSION);
        buffer.extend_from_slice(&0u32.to_le_bytes());
        Self { bytes: buffer, count: 0 }
    }

    /// Gives `key` the value `value`.
    pub fn put(&mut self, family: ColumnFamily, key: &[u8], value: &[u8]) {
        self.put_parts(family, key, [value, &[]]);
    }

    /// The same with a value in two parts.
    pub fn put_parts(&mut self, family: ColumnFamily, key: &[u8], value: [&[u8]; 2]) {
        self.begin(OP_PUT, family, key);
        self.push_len(value[0].len() + value[1].len());
        self.bytes.extend_from_slice(value[0]);
        self.bytes.extend_from_slice(value[1]);
    }

    /// Takes `key`'s value away.
    pub fn delete(&mut self, family: ColumnFamily, key: &[u8]) {
        self.begin(OP_DELETE, family, key);
    }

    /// Takes the values of all keys in `[start, end)` away; an empty `end` means the end of the family.
    pub fn delete_range(&mut self, family: ColumnFamily, start: &[u8], end: &[u8]) {
        self.begin(OP_DELETE_RANGE, family, start);
        self.push_bytes(end);
    }

    /// Removes all operations and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER_LEN);
        self.set_count(0);
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are no operations.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Length of the encoded form in bytes.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The encoded form: the log's payload.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The encoded form.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The operations, to be applied.
    pub fn view(&self) -> BatchView<'_> {
        BatchView { operations: self.bytes.get(HEADER_LEN..).unwrap_or_default(), count: self.count }
    }

    /// The operations of an encoded batch.
    ///
    /// # Errors
    /// When the bytes are not exactly one whole batch of a known version.
    pub fn decode(bytes: &[u8]) -> Result<BatchView<'_>, Error> {
        BatchView::decode(bytes)
    }

    fn begin(&mut self, op: u8, family: ColumnFamily, key: &[u8]) {
        let count = self.count.checked_add(1);
        assert!(count.is_some(), "a batch has fewer operations than u32 counts");
        self.set_count(count.unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(&[op, family.as_byte()]);
        self.push_bytes(key);
    }

    fn set_count(&mut self, count: u32) {
        self.count = count;
        for (to, from) in self.bytes.iter_mut().skip(1).zip(count.to_le_bytes()) {
            *to = from;
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        self.push_len(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    fn push_len(&mut self, mut len: usize) {
        while len >= 0x80 {
            self.bytes.push(low_byte(len) | 0x80);
            len >>= 7;
        }
        self.bytes.push(low_byte(len));
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low byte is what is wanted")]
fn low_byte(number: usize) -> u8 {
    number as u8
}

/// One write of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Gives a key a value.
    Put {
        /// The namespace.
        family: ColumnFamily,
        /// The stored key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// Takes a key's value away.
    Delete {
        /// The namespace.
        family: ColumnFamily,
        /// The stored key.
        key: &'a [u8],
    },
    /// Takes the values of a range of keys away.
    DeleteRange {
        /// The namespace.
        family: ColumnFamily,
        /// The first stored key.
        start: &'a [u8],
        /// The first stored key after the range; empty for the end of the family.
        end: &'a [u8],
    },
}

/// A batch's operations, checked, borrowed from its encoded form.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    operations: &'a [u8],
    count: u32,
}

impl<'a> BatchView<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let damaged = |left: &[u8], what| Error::BatchDamaged { offset: bytes.len() - left.len(), what };
        let Some((&[version, a, b, c, d], operations)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(damaged(bytes, "a batch is at least five bytes long"));
        };
        if version != VERSION {
            return Err(Error::BatchVersion { got: version, known: VERSION });
        }
        let view = Self { operations, count: u32::from_le_bytes([a, b, c, d]) };
        let mut rest = view.iter();
        for _ in 0..view.count {
            let before = rest.operations;
            if rest.next().is_none() {
                return Err(damaged(before, "an operation is cut off or unknown"));
            }
        }
        if !rest.operations.is_empty() {
            return Err(damaged(rest.operations, "bytes follow the last operation"));
        }
        Ok(view)
    }

    /// The operations in their order.
    pub fn iter(&self) -> Operations<'a> {
        Operations { operations: self.operations, left: self.count }
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are no operations.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> From<&'a WriteBatch> for BatchView<'a> {
    fn from(batch: &'a WriteBatch) -> Self {
        batch.view()
    }
}

impl<'a> IntoIterator for &BatchView<'a> {
    type Item = Operation<'a>;
    type IntoIter = Operations<'a>;

    fn into_iter(self) -> Operations<'a> {
        self.iter()
    }
}

/// Iterates over a batch's operations.
#[derive(Clone, Debug)]
pub struct Operations<'a> {
    operations: &'a [u8],
    left: u32,
}

impl<'a> Iterator for Operations<'a> {
    type Item = Operation<'a>;

    fn next(&mut self) -> Option<Operation<'a>> {
        if self.left == 0 {
            return None;
        }
        let (&[op, family], rest) = self.operations.split_first_chunk::<2>()?;
        let family = ColumnFamily::from_byte(family)?;
        let (key, rest) = take_bytes(rest)?;
        let (operation, rest) = match op {
            OP_PUT => {
                let (value, rest) = take_bytes(rest)?;
                (Operation::Put { family, key, value }, rest)
            }
            OP_DELETE => (Operation::Delete { family, key }, rest),
            OP_DELETE_RANGE => {
                let (end, rest) = take_bytes(rest)?;
                (Operation::DeleteRange { family, start: key, end }, rest)
            }
            _ => return None,
        };
        self.operations = rest;
        self.left -= 1;
        Some(operation)
    }
}

fn take_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        return rest.split_at_checked(usize::from(first));
    }
    let mut len = u64::from(first & 0x7f);
    let mut rest = rest;
    // Five bytes hold all lengths up to 32 GiB; a longer form is damage.
    for shift in (7..35).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        len |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return rest.split_at_checked(usize::try_from(len).ok()?);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_types::ColumnFamily::{Default, Lock, Write};

    fn sample() -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.put(Default, b"ra", b"one");
        batch.delete(Lock, b"rb");
        batch.delete_range(Write, b"rc", b"rd");
        batch.put(Default, b"rlong", &[7; 300]);
        batch
    }

    #[test]
    fn a_batch_is_what_was_put_in() {
        let batch = sample();
        let view = WriteBatch::decode(batch.as_bytes()).unwrap();
        assert_eq!(view.len(), 4);
        let operations: Vec<_> = view.iter().collect();
        assert_eq!(
            operations,
            [
                Operation::Put { family: Default, key: b"ra", value: b"one" },
                Operation::Delete { family: Lock, key: b"rb" },
                Operation::DeleteRange { family: Write, start: b"rc", end: b"rd" },
                Operation::Put { family: Default, key: b"rlong", value: &[7; 300] },
            ]
        );
        assert_eq!(batch.view().iter().collect::<Vec<_>>(), operations);
    }

    #[test]
    fn the_encoding_is_what_logs_were_written_with() {
        let mut batch = WriteBatch::new();
        batch.put(Default, b"k", b"v");
        batch.delete_range(Write, b"a", b"");
        assert_eq!(batch.as_bytes(), [1, 2, 0, 0, 0, 1, 0, 1, b'k', 1, b'v', 3, 2, 1, b'a', 0]);
    }

    #[test]
    fn clear_leaves_an_empty_batch() {
        let mut batch = sample();
        batch.clear();
        assert_eq!(batch, WriteBatch::new());
    }

    #[test]
    fn every_cut_and_every_extension_is_refused() {
        let batch = sample();
        let bytes = batch.as_bytes();
        for len in 0..bytes.len() {
            assert!(WriteBatch::decode(&bytes[..len]).is_err(), "cut to {len} bytes");
        }
        let longer = [bytes, &[0]].concat();
        assert!(
            matches!(WriteBatch::decode(&longer), Err(Error::BatchDamaged { offset, .. }) if offset == bytes.len())
        );
    }

    #[test]
    fn unknown_versions_operations_and_families_are_refused() {
        let mut batch = WriteBatch::new();
        batch.put(Default, b"k", b"v");
        for (offset, byte) in [(0, 2), (5, 9), (6, 3)] {
            let mut bytes = batch.as_bytes().to_vec();
            bytes[offset] = byte;
            assert!(WriteBatch::decode(&bytes).is_err(), "byte {offset} is {byte}");
        }
    }

    #[test]
    fn a_length_that_is_too_long_is_refused() {
        let mut bytes = vec![1, 1, 0, 0, 0, 2, 0];
        bytes.extend_from_slice(&[0xff; 10]);
        assert!(WriteBatch::decode(&bytes).is_err());
    }
}
