//! The cache's slots and queues.

use super::frame::{Frames, Home};
use super::ghost::Ghost;
use super::{BlockKey, CacheStats};
use crate::table::Block;
use pinion_types::map::{HashMap, HashSet};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

/// Bytes that a block costs beside its own: counts and allocator, slot, queue, hash table.
const OVERHEAD: usize = 176;
/// Part of the room for blocks that the small queue takes: one in so many.
const SMALL_SHARE: usize = 10;
/// Up to how many a block's uses are counted.
pub(super) const USES_MAX: u8 = 3;
/// Slots that one insertion looks at to make room. Past it, the block is not admitted: nobody waits for a long search.
const EVICTION_STEPS_MAX: usize = 512;
/// Slots that one insertion clears of removed tables' blocks.
const SWEEP_STEPS: usize = 32;
/// A block is remembered for each so many bytes of the budget.
const GHOST_BYTES: usize = 8 << 10;
/// No block larger than one part in so many of the budget is admitted.
const BLOCK_SHARE: usize = 8;

/// A block in the cache.
struct Slot {
    key: BlockKey,
    block: Option<Block>,
    /// The frame that has the block, too, as long as its table is open.
    frames: Weak<Frames>,
    frame: usize,
    charge: usize,
    uses: u8,
    in_main: bool,
}

impl Slot {
    /// How often the block was used since it was asked the last time, in place of which `next` is counted.
    fn replace_uses(&mut self, next: u8) -> u8 {
        let here = std::mem::replace(&mut self.uses, 0);
        match self.frames.upgrade() {
            Some(frames) => here.max(frames.replace_uses(self.frame, next)),
            None => std::mem::replace(&mut self.uses, next).max(here),
        }
    }

    /// Whether a reader holds the block.
    fn is_held(&self) -> bool {
        let ours = 1 + usize::from(self.frames.strong_count() > 0);
        self.block.as_ref().is_some_and(|block| block.holders() > ours)
    }

    /// Lets the frame have the block.
    fn settle(&mut self, home: Option<Home<'_>>) {
        if let (Some(Home { frames, index }), Some(block)) = (home, &self.block) {
            frames.fill(index, block);
            frames.replace_uses(index, self.uses);
            self.uses = 0;
            self.frames = Rc::downgrade(frames);
            self.frame = index;
        }
    }

    /// Lets the block go.
    fn clear(&mut self) {
        self.block = None;
        if let Some(frames) = std::mem::take(&mut self.frames).upgrade() {
            frames.clear(self.frame);
        }
    }
}

/// Everything that the cache holds.
pub(super) struct State {
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: HashMap<BlockKey, u32>,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    ghost: Ghost,
    small_bytes: usize,
    block_bytes: usize,
    reserved: usize,
    budget: usize,
    /// Tables whose blocks are to go; `sweeping` are those that the sweep at `sweep_at` takes out.
    removed: HashSet<u64>,
    sweeping: HashSet<u64>,
    sweep_at: usize,
}

impl State {
    pub(super) fn new(budget: usize) -> Self {
        let ghost = Ghost::new(budget / GHOST_BYTES);
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::default(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            reserved: ghost.byte_len(),
            ghost,
            small_bytes: 0,
            block_bytes: 0,
            budget,
            removed: HashSet::default(),
            sweeping: HashSet::default(),
            sweep_at: 0,
        }
    }

    pub(super) fn stats(&self) -> CacheStats {
        CacheStats {
            blocks: self.index.len(),
            used_bytes: self.used(),
            reserved_bytes: self.reserved,
            budget_bytes: self.budget,
            ..CacheStats::default()
        }
    }

    fn used(&self) -> usize {
        self.block_bytes + self.reserved
    }

    /// The block, when there is one; counts the use, and lets the block's frame have it from now on.
    pub(super) fn get(&mut self, key: BlockKey, home: Option<Home<'_>>) -> Option<Block> {
        let index = *self.index.get(&key)?;
        let slot = &mut self.slots[index as usize];
        slot.uses = (slot.uses + 1).min(USES_MAX);
        slot.settle(home);
        slot.block.clone()
    }

    /// The block, when there is one, without counting.
    pub(super) fn peek(&self, key: BlockKey) -> Option<Block> {
        let index = *self.index.get(&key)?;
        self.slots[index as usize].block.clone()
    }

    /// Takes a block, if it is admitted.
    pub(super) fn insert(&mut self, key: BlockKey, block: &Block, home: Option<Home<'_>>) {
        self.sweep();
        if self.index.contains_key(&key) {
            return;
        }
        let charge = block.bytes().len() + OVERHEAD;
        let in_main = self.ghost.take(key);
        if charge > self.budget / BLOCK_SHARE || !self.make_room(charge, EVICTION_STEPS_MAX) {
            return;
        }
        let mut slot =
            Slot { key, block: Some(block.clone()), frames: Weak::new(), frame: 0, charge, uses: 0, in_main };
        slot.settle(home);
        let index = self.place(slot);
        self.index.insert(key, index);
        self.block_bytes += charge;
        if in_main {
            self.main.push_back(index);
        } else {
            self.small_bytes += charge;
            self.small.push_back(index);
        }
    }

    fn place(&mut self, slot: Slot) -> u32 {
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = slot;
            return index;
        }
        self.slots.push(slot);
        u32::try_from(self.slots.len() - 1).expect("each block takes more than its overhead of the budget")
    }

    /// Evicts until `bytes` more fit, or `steps` slots were looked at.
    fn make_room(&mut self, bytes: usize, steps: usize) -> bool {
        for _ in 0..steps {
            if self.used() + bytes <= self.budget {
                return true;
            }
            let small_max = self.budget.saturating_sub(self.reserved) / SMALL_SHARE;
            let from_small = self.small_bytes > small_max || self.main.is_empty();
            let next = if from_small { self.small.pop_front() } else { self.main.pop_front() };
            match next {
                Some(index) => self.consider(index),
                None => break,
            }
        }
        self.used() + bytes <= self.budget
    }

    /// Keeps or evicts the block that is first in its queue.
    fn consider(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let uses = slot.replace_uses(0);
        let kept = slot.block.is_some() && (uses > 0 || slot.is_held());
        let was_in_main = slot.in_main;
        slot.in_main |= kept;
        if !was_in_main {
            self.small_bytes -= slot.charge;
        }
        if kept {
            if was_in_main {
                slot.replace_uses(uses.saturating_sub(1));
            }
            self.main.push_back(index);
            return;
        }
        if !was_in_main && slot.block.is_some() {
            let key = slot.key;
            self.ghost.insert(key);
        }
        self.evict(index);
    }

    /// Frees a slot that is in no queue any more.
    fn evict(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        self.block_bytes -= slot.charge;
        slot.charge = 0;
        if slot.block.is_some() {
            slot.clear();
            let key = slot.key;
            self.index.remove(&key);
        }
        self.free.push(index);
    }

    /// Takes room from blocks; `false` when that would leave them less than half of the budget.
    pub(super) fn reserve(&mut self, bytes: usize) -> bool {
        if self.reserved + bytes > self.budget / 2 || !self.make_room(bytes, self.steps_for_all()) {
            return false;
        }
        self.reserved += bytes;
        true
    }

    /// Takes room from blocks, as much as there is.
    pub(super) fn reserve_always(&mut self, bytes: usize) {
        self.make_room(bytes, self.steps_for_all());
        self.reserved += bytes;
    }

    pub(super) fn release(&mut self, bytes: usize) {
        self.reserved -= bytes;
    }

    pub(super) fn set_budget(&mut self, budget: usize) {
        self.budget = budget;
        self.make_room(0, self.steps_for_all());
    }

    /// Steps in which every use of every slot is counted down.
    fn steps_for_all(&self) -> usize {
        (self.small.len() + self.main.len()) * (usize::from(USES_MAX) + 2)
    }

    /// Notes a table whose blocks are to go.
    pub(super) fn remove_table(&mut self, table: u64) {
        if !self.index.is_empty() {
            self.removed.insert(table);
        }
    }

    /// Clears a few slots of removed tables' blocks. The slots stay in their queues, at the price of their overhead, until they are
    /// first there.
    fn sweep(&mut self) {
        if self.sweeping.is_empty() {
            if self.removed.is_empty() {
                return;
            }
            std::mem::swap(&mut self.sweeping, &mut self.removed);
            self.sweep_at = 0;
        }
        for _ in 0..SWEEP_STEPS {
            let Some(slot) = self.slots.get_mut(self.sweep_at) else {
                self.sweeping.clear();
                return;
            };
            self.sweep_at += 1;
            if slot.block.is_some() && self.sweeping.contains(&slot.key.table) {
                let freed = slot.charge - OVERHEAD;
                slot.clear();
                slot.charge = OVERHEAD;
                self.block_bytes -= freed;
                if !slot.in_main {
                    self.small_bytes -= freed;
                }
                self.index.remove(&slot.key);
            }
        }
    }
}
