//! A table's range tombstones, in a frame of their own.
//!
//! ```text
//! bytes   what
//! 4       length of the first key
//! 4       length of the key after the range
//! 8       sequence
//! ..      first key, key after the range
//! ```
//! One after the other, ordered by first key, then by sequence descending.
#![deny(clippy::indexing_slicing, clippy::expect_used)]

use super::{KEY_LEN_MAX, RangeTombstone};

/// Orders and encodes.
pub(super) fn encode(tombstones: &mut [RangeTombstone]) -> Vec<u8> {
    sort(tombstones);
    let mut out = Vec::new();
    for RangeTombstone { start, end, sequence } in tombstones {
        for key in [&*start, &*end] {
            out.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
        }
        out.extend_from_slice(&sequence.to_le_bytes());
        out.extend_from_slice(start);
        out.extend_from_slice(end);
    }
    out
}

fn sort(tombstones: &mut [RangeTombstone]) {
    tombstones.sort_by(|left, right| left.start.cmp(&right.start).then(right.sequence.cmp(&left.sequence)));
}

/// The tombstones of a frame; `None` when it is none.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<RangeTombstone>> {
    let mut tombstones = Vec::new();
    while !bytes.is_empty() {
        let (start_len, rest) = bytes.split_first_chunk::<4>()?;
        let (end_len, rest) = rest.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (start, rest) = key(rest, *start_len)?;
        let (end, rest) = key(rest, *end_len)?;
        if start >= end {
            return None;
        }
        tombstones.push(RangeTombstone { start, end, sequence: u64::from_le_bytes(*sequence) });
        bytes = rest;
    }
    tombstones.is_sorted_by_key(|tombstone| &tombstone.start).then_some(tombstones)
}

fn key(bytes: &[u8], len: [u8; 4]) -> Option<(Vec<u8>, &[u8])> {
    let len = u32::from_le_bytes(len) as usize;
    let (key, rest) = bytes.split_at_checked(len)?;
    (len <= KEY_LEN_MAX).then(|| (key.to_vec(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tombstone(start: &[u8], end: &[u8], sequence: u64) -> RangeTombstone {
        RangeTombstone { start: start.to_vec(), end: end.to_vec(), sequence }
    }

    #[test]
    fn they_come_back_ordered() {
        let mut tombstones = [tombstone(b"m", b"z", 1), tombstone(b"a", b"b", 2), tombstone(b"a", b"c", 9)];
        let bytes = encode(&mut tombstones);
        let expected = vec![tombstone(b"a", b"c", 9), tombstone(b"a", b"b", 2), tombstone(b"m", b"z", 1)];
        assert_eq!(decode(&bytes), Some(expected));
    }

    #[test]
    fn a_cut_or_an_empty_range_is_refused() {
        let bytes = encode(&mut [tombstone(b"a", b"b", 2)]);
        for len in 1..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None);
        }
        assert_eq!(decode(&encode(&mut [tombstone(b"b", b"b", 2)])), None);
    }
}
