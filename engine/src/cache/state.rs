//! The cache's slots and queues.

use super::ghost::Ghost;
use super::{BlockKey, CacheStats};
use crate::table::Block;
use pinion_types::map::{HashMap, HashSet};
use std::cell::Cell;
use std::collections::VecDeque;

/// Bytes that a block costs beside its own: counts and allocator, slot, queue, hash table.
const OVERHEAD: usize = 128;
/// Part of the room for blocks that the small queue takes: one in so many.
const SMALL_SHARE: usize = 10;
/// How often a slot's uses are counted.
const USES_MAX: u8 = 3;
/// Slots that one insertion looks at to make room. Past it, the block is not admitted: nobody waits for a long search.
const EVICTION_STEPS_MAX: usize = 512;
/// Slots that one insertion clears of removed tables' blocks.
const SWEEP_STEPS: usize = 32;
/// A block is remembered for each so many bytes of the budget.
const GHOST_BYTES: usize = 8 << 10;
/// No block larger than one part in so many of the budget is admitted.
const BLOCK_SHARE: usize = 8;

/// A place for a block.
struct Slot {
    key: BlockKey,
    block: Option<Block>,
    charge: usize,
    uses: Cell<u8>,
    in_main: bool,
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

    /// The slot that holds the block.
    pub(super) fn find(&self, key: BlockKey) -> Option<u32> {
        self.index.get(&key).copied()
    }

    /// The block, if the slot at `index` holds it; counts the use.
    #[inline]
    pub(super) fn get_at(&self, index: u32, key: BlockKey) -> Option<Block> {
        let slot = self.slots.get(index as usize)?;
        if slot.key != key {
            return None;
        }
        let block = slot.block.clone()?;
        let uses = slot.uses.get();
        if uses < USES_MAX {
            slot.uses.set(uses + 1);
        }
        Some(block)
    }

    /// The block of the slot at `index`, without counting.
    pub(super) fn peek_at(&self, index: u32) -> Option<Block> {
        self.slots.get(index as usize)?.block.clone()
    }

    /// Takes a block; says in which slot, or `None` when it is not admitted.
    pub(super) fn insert(&mut self, key: BlockKey, block: &Block) -> Option<u32> {
        self.sweep();
        if let Some(index) = self.find(key) {
            return Some(index);
        }
        let charge = block.bytes().len() + OVERHEAD;
        let in_main = self.ghost.take(key);
        if charge > self.budget / BLOCK_SHARE || !self.make_room(charge, EVICTION_STEPS_MAX) {
            return None;
        }
        let slot = Slot { key, block: Some(block.clone()), charge, uses: Cell::new(0), in_main };
        let index = self.place(slot)?;
        self.index.insert(key, index);
        self.block_bytes += charge;
        if in_main {
            self.main.push_back(index);
        } else {
            self.small_bytes += charge;
            self.small.push_back(index);
        }
        Some(index)
    }

    fn place(&mut self, slot: Slot) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = slot;
            return Some(index);
        }
        let index = u32::try_from(self.slots.len()).ok().filter(|&index| index < u32::MAX)?;
        self.slots.push(slot);
        Some(index)
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
        let uses = slot.uses.get();
        let held = slot.block.as_ref().is_some_and(Block::is_shared);
        if slot.in_main {
            if uses > 0 || held {
                slot.uses.set(uses.saturating_sub(1));
                self.main.push_back(index);
                return;
            }
        } else {
            self.small_bytes -= slot.charge;
            if slot.block.is_some() && (uses > 0 || held) {
                slot.uses.set(0);
                slot.in_main = true;
                self.main.push_back(index);
                return;
            }
            if slot.block.is_some() {
                let key = slot.key;
                self.ghost.insert(key);
            }
        }
        self.evict(index);
    }

    /// Frees a slot that is in no queue any more.
    fn evict(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        self.block_bytes -= slot.charge;
        slot.charge = 0;
        if slot.block.take().is_some() {
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
                slot.block = None;
                slot.uses.set(0);
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
