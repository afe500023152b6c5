//! Frames: where a table finds its cached blocks without asking the cache.

use super::state::USES_MAX;
use crate::table::Block;
use std::cell::Cell;
use std::rc::Rc;

/// A place for one block.
#[derive(Default)]
struct Frame {
    block: Cell<Option<Block>>,
    uses: Cell<u8>,
}

/// The places of all blocks of an index partition. The table owns them; the cache fills and clears them.
pub(crate) struct Frames(Box<[Frame]>);

impl Frames {
    /// Empty places for `count` blocks.
    pub(crate) fn new(count: usize) -> Rc<Self> {
        Rc::new(Self((0..count).map(|_| Frame::default()).collect()))
    }

    /// Bytes in memory.
    pub(crate) fn byte_len(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Takes the block out of a frame.
    pub(super) fn clear(&self, index: usize) {
        self.0[index].block.take();
    }

    /// Puts a block into a frame.
    pub(super) fn fill(&self, index: usize, block: &Block) {
        self.0[index].block.set(Some(block.clone()));
    }

    /// How often the frame's block was used, up to [`USES_MAX`]; `next` is what is counted from now on.
    pub(super) fn replace_uses(&self, index: usize, next: u8) -> u8 {
        self.0[index].uses.replace(next)
    }
}

/// One block's frame.
#[derive(Clone, Copy)]
pub(crate) struct Home<'a> {
    /// The frames of its partition.
    pub(crate) frames: &'a Rc<Frames>,
    /// Which of them.
    pub(crate) index: usize,
}

impl Home<'_> {
    /// The block, when the cache has put it there; counts the use.
    #[inline]
    pub(super) fn get(&self) -> Option<Block> {
        let frame = self.frames.0.get(self.index)?;
        let block = frame.block.take()?;
        let copy = block.clone();
        frame.block.set(Some(block));
        let uses = frame.uses.get();
        if uses < USES_MAX {
            frame.uses.set(uses + 1);
        }
        Some(copy)
    }
}
