//! The index: which block holds a place among the entries.
//!
//! Two levels of the same kind. A node is a block whose keys are separators: its entry `i` has a key that is not before the last entry
//! of what it points to and before the first entry of what entry `i + 1` points to, and a value of 8 bytes offset and 4 bytes
//! length. Where a key's versions go on in the next block, the separator is that key with the last version's sequence; else it is
//! the shortest key that divides, with sequence 0, behind all versions. The nodes of the lower level are the partitions; the one
//! of the upper level, the top index, points to them and always stays in memory.
#![deny(clippy::indexing_slicing, clippy::expect_used)]

use super::block::{Head, Layout, Target, common_len, count_less, head_of};
use super::footer::Section;
use super::frame::{FRAME_LEN_MAX, TRAILER_LEN};
use super::{Block, EntryKind};
use crate::cache::{Frames, Home};
use std::ops::Range;
use std::rc::Rc;

/// So many heads, two cache lines, are searched after the sample.
const GROUP: usize = 16;
/// Bytes of a node's value.
const POINTER_LEN: usize = 12;

/// A node that stays in memory, with a sample of its heads for the search, its pointers decoded, and frames for the blocks.
pub(super) struct Node {
    block: Block,
    layout: Layout,
    /// The last head of every group of heads.
    sample: Box<[Head]>,
    sections: Box<[Section]>,
    frames: Rc<Frames>,
}

impl Node {
    /// A node from its part; what it points to must lie in `within`.
    pub(super) fn new(block: Block, within: &Range<u64>) -> Result<Self, &'static str> {
        let layout = check(block.bytes(), within)?;
        let sections: Box<[_]> =
            (0..layout.len()).filter_map(|index| pointer(block.bytes(), &layout, index)).collect();
        let groups = layout.heads(block.bytes()).chunks_exact(GROUP);
        let sample = groups.filter_map(|group| group.last().copied()).collect();
        let frames = Frames::new(sections.len());
        Ok(Self { block, layout, sample, sections, frames })
    }

    /// Which pointer leads to what holds `target`; none when all entries stand before it.
    #[inline]
    pub(super) fn search(&self, target: Target<'_>) -> Option<usize> {
        let bytes = self.block.bytes();
        let prefix = self.layout.prefix(bytes);
        let Some(suffix) = target.key.strip_prefix(prefix) else {
            return (target.key < prefix).then_some(0);
        };
        let head = head_of(suffix);
        let heads = self.layout.heads(bytes);
        let start = count_less(&self.sample, head) * GROUP;
        let group = heads.get(start..).map(|rest| rest.get(..GROUP).unwrap_or(rest)).unwrap_or_default();
        let first = start + count_less(group, head);
        let is_same = heads.get(first).is_some_and(|other| u64::from_le_bytes(*other) == head);
        let index = if is_same {
            self.layout.search_tails(bytes, first, head, suffix, target.sequence).0
        } else {
            first
        };
        (index < self.sections.len()).then_some(index)
    }

    /// Where what the pointer at `index` leads to is.
    pub(super) fn section(&self, index: usize) -> Option<Section> {
        self.sections.get(index).copied()
    }

    /// The frame of what the pointer at `index` leads to.
    #[inline]
    pub(super) fn home(&self, index: usize) -> Home<'_> {
        Home { frames: &self.frames, index }
    }

    /// How many pointers there are.
    pub(super) fn len(&self) -> usize {
        self.sections.len()
    }

    /// Where everything is that the node points to, in order.
    pub(super) fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Bytes in memory.
    pub(super) fn byte_len(&self) -> usize {
        self.block.bytes().len()
            + size_of_val(&*self.sample)
            + size_of_val(&*self.sections)
            + self.frames.byte_len()
            + size_of::<Self>()
    }
}

/// Checks a node's structure and that each of its pointers lies in `within`, behind the one before.
pub(super) fn check(bytes: &[u8], within: &Range<u64>) -> Result<Layout, &'static str> {
    let layout = Layout::of(bytes)?;
    let mut end = within.start;
    for index in 0..layout.len() {
        let at = pointer(bytes, &layout, index).ok_or("an index has a pointer of another length")?;
        let next = at.offset.saturating_add(u64::from(at.len));
        let fits = (TRAILER_LEN..=FRAME_LEN_MAX).contains(&(at.len as usize));
        if at.offset < end
            || next > within.end
            || !fits
            || layout.record(bytes, index).kind() != EntryKind::Put
        {
            return Err("an index points to where nothing can be");
        }
        end = next;
    }
    Ok(layout)
}

/// What a node's entry points to.
pub(super) fn pointer(bytes: &[u8], layout: &Layout, index: usize) -> Option<Section> {
    if index >= layout.len() {
        return None;
    }
    let (offset, len) = layout.record(bytes, index).value.split_first_chunk::<8>()?;
    let len: &[u8; 4] = len.try_into().ok()?;
    Some(Section { offset: u64::from_le_bytes(*offset), len: u32::from_le_bytes(*len) })
}

/// A node's value.
pub(super) fn encode_pointer(section: Section) -> [u8; POINTER_LEN] {
    let mut value = [0; POINTER_LEN];
    let fields = section.offset.to_le_bytes().into_iter().chain(section.len.to_le_bytes());
    for (to, from) in value.iter_mut().zip(fields) {
        *to = from;
    }
    value
}

/// Makes `out` the shortest key that is not before `last` and before `next`, which is a later key.
pub(super) fn separate(last: &[u8], next: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let common = common_len(last, next);
    if let (Some(&low), Some(&high)) = (last.get(common), next.get(common))
        && low + 1 < high
    {
        out.extend_from_slice(last.get(..common).unwrap_or_default());
        out.push(low + 1);
        return;
    }
    // One byte more of `next` than both have in common is above `last`; it must stay below `next` itself.
    if let Some(short) = next.get(..=common)
        && short.len() < next.len()
        && short.len() < last.len()
    {
        out.extend_from_slice(short);
        return;
    }
    out.extend_from_slice(last);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_divide_and_are_short() {
        for (last, next, expected) in [
            (&b"abc"[..], &b"abz"[..], &b"abd"[..]),
            (b"abcdef", b"abdef", b"abd"),
            (b"ab", b"abc", b"ab"),
            (b"ab", b"ac", b"ab"),
            (b"a\xff", b"b", b"a\xff"),
            (b"a\xff\xff", b"b\0", b"b"),
        ] {
            let mut out = Vec::new();
            separate(last, next, &mut out);
            assert_eq!(out, expected);
            assert!(last <= &out[..] && &out[..] < next);
        }
    }
}
