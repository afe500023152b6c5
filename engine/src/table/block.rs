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
//! 16            8 n      heads: the 8 bytes of each key after the prefix as a big-endian number, short keys filled with
//!                        zeros; the number is stored little-endian
//! 16 + 8 n      s n      slots: where each record begins, counted from the first record
//! ..            p        the prefix
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
pub(super) use self::layout::{Layout, Target};

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

    /// Whether somebody beside the caller holds the block.
    pub(crate) fn is_shared(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }
}

/// The first eight bytes as a big-endian number, filled up with zeros.
#[inline]
fn head_of(suffix: &[u8]) -> u64 {
    if let Some(head) = suffix.first_chunk::<HEAD_LEN>() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; HEAD_LEN];
    for (to, from) in head.iter_mut().zip(suffix) {
        *to = *from;
    }
    u64::from_be_bytes(head)
}
