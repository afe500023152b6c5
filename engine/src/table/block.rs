//! A block: entries that are read, checked, cached and searched together.
//!
//! ```text
//! offset        bytes    what
//! 0             2        entries n, at least 1
//! 2             2        length p of the prefix that all keys of the block share
//! 4             1        width w of a packed sequence, 0 to 8 bytes
//! 5             1        width s of a slot, 2 or 4 bytes
//! 6             2        0
//! 8             8        base: the lowest sequence of the block
//! 16            p        the prefix
//! 16 + p        8 n      heads: the 8 bytes of each key after the prefix as a big-endian number, short keys filled with
//!                        zeros; the number is stored little-endian
//! 16 + p + 8 n  s n      slots: where each record begins, counted from the first record
//! ..                     records, up to the end
//! ```
//! A record: a varint of `2 * (key length - p)`, plus 1 when the record shares; when it does, a varint of how many of the bytes after
//! the head are the same as in the record at the last restart point (every 16th record is one, and shares nothing); `w` bytes of
//! `2 * (sequence - base)`, plus 1 for a tombstone; the key's bytes after the head that are not shared; the value, up to the next record.
//!
//! So a search compares whole machine words that lie side by side (all their cache lines are fetched at once) and then looks at one
//! record, and no key is put together to be compared.
//!
//! Invariant: a [`Block`] was checked by [`Layout::of`], every record of it. Later reads take what they find through checked slices
//! that give empty bytes where there is nothing, and so cost neither a panic nor a second check.

mod builder;
mod layout;
mod varint;

pub(super) use self::builder::{BlockBuilder, common_len};
pub(super) use self::layout::{Layout, Target, count_less};

use std::rc::Rc;

/// Bytes before the heads.
const HEADER_LEN: usize = 16;
/// Bytes of a head.
const HEAD_LEN: usize = 8;
/// Bytes of a slot, and of a slot of a block whose records begin farther away than that reaches.
const SLOT_LEN: usize = 2;
const WIDE_SLOT_LEN: usize = 4;
/// Every how many records one shares nothing.
const RESTART_INTERVAL: usize = 16;

/// Cache lines from a block's beginning that hold the heads and the slots of a block of 4 KiB with entries of about 100 bytes.
const TOUCHED_LINES: usize = 7;

/// Cache lines of a record that are fetched at once.
const TOUCHED_RECORD_LINES: usize = 3;
/// Bytes of a cache line.
const LINE_LEN: usize = 64;

/// A block's bytes, whole and checked, shared by the cache and by all who read in it.
#[derive(Clone)]
pub(crate) struct Block(Rc<[u8]>);

impl Block {
    /// Takes bytes whose structure [`Layout::of`] has checked, or that are no entries at all.
    pub(super) fn new(bytes: Rc<[u8]>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Fetches what a search begins with: what the header says of it would come one memory access later.
    #[inline]
    pub(super) fn touch(&self) {
        touch_lines::<TOUCHED_LINES>(&self.0, 0);
    }

    /// How many hold the block, the caller among them.
    pub(crate) fn holders(&self) -> usize {
        Rc::strong_count(&self.0)
    }
}

/// Fetches cache lines from `at` on, all at once.
#[inline]
fn touch_lines<const COUNT: usize>(bytes: &[u8], at: usize) {
    for line in 0..COUNT {
        std::hint::black_box(bytes.get(at + line * LINE_LEN).copied());
    }
}

/// The first eight bytes of a key after the prefix, as they stand in a block.
pub(super) type Head = [u8; HEAD_LEN];

/// The first eight bytes as a big-endian number, filled up with zeros.
#[inline]
pub(super) fn head_of(suffix: &[u8]) -> u64 {
    if let Some(head) = suffix.first_chunk::<HEAD_LEN>() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; HEAD_LEN];
    for (to, from) in head.iter_mut().zip(suffix) {
        *to = *from;
    }
    u64::from_be_bytes(head)
}
