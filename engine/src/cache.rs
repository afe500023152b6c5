//! The block cache: one a core, for the blocks of all its tables, with a budget in bytes that is never passed.
//!
//! Eviction is S3-FIFO (Yang et al.: "FIFO queues are all you need for cache eviction", SOSP 2023, §4): new blocks enter a small
//! queue and move to the main one only when they were used there, or come back soon after they left. What is read once, as a
//! scan's blocks are, passes through the small queue and displaces nothing else. A hit only counts up to three; nothing is moved.
//!
//! A table's index has a [frame](Frames) for each block, in which the cache puts a block that it holds, and from which it takes it when it
//! evicts it. So a hit follows one pointer and hashes nothing (as pointer swizzling in LeanStore: Leis et al., ICDE 2018, §3).
//!
//! Invariants:
//! - The bytes of all blocks, of the cache's own bookkeeping, and of what is reserved for filters and indexes are at most the
//!   budget. What does not fit is not admitted; its reader keeps it alone.
//! - A block that a reader holds stays counted: it is evicted only once nobody else holds it.
//! - Several readers that miss the same block read it once.
//!
//! Cost: a hit is one look at the block's frame; without a frame, a hash and a slot.

mod frame;
mod ghost;
mod state;

pub(crate) use self::frame::{Frames, Home};

use self::state::State;
use crate::error::Result;
use crate::table::Block;
use futures_channel::oneshot;
use pinion_types::map::HashMap;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;

/// The least budget in bytes: below it, a single reader could hold everything.
pub const BUDGET_MIN: usize = 256 << 10;

/// Names a block: its table's number in this cache, and its offset in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    pub(crate) table: u64,
    pub(crate) offset: u64,
}

/// What the cache did and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Blocks that were there when they were asked for.
    pub hits: u64,
    /// Blocks that were not.
    pub misses: u64,
    /// Blocks in the cache.
    pub blocks: usize,
    /// Bytes in use, bookkeeping and reservations among them.
    pub used_bytes: usize,
    /// Bytes reserved for indexes and filters.
    pub reserved_bytes: usize,
    /// The most bytes that may be in use.
    pub budget_bytes: usize,
}

/// The blocks of one core's tables.
pub struct BlockCache {
    state: RefCell<State>,
    reading: RefCell<HashMap<BlockKey, Vec<oneshot::Sender<Block>>>>,
    tables: Cell<u64>,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

impl BlockCache {
    /// An empty cache of `budget_bytes` bytes, or of [`BUDGET_MIN`] when that is more.
    pub fn new(budget_bytes: usize) -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(State::new(budget_bytes.max(BUDGET_MIN))),
            reading: RefCell::default(),
            tables: Cell::new(0),
            hits: Cell::new(0),
            misses: Cell::new(0),
        })
    }

    /// Changes the budget; what is over it goes now.
    pub fn set_budget(&self, budget_bytes: usize) {
        self.state.borrow_mut().set_budget(budget_bytes.max(BUDGET_MIN));
    }

    /// What the cache did and holds.
    pub fn stats(&self) -> CacheStats {
        CacheStats { hits: self.hits.get(), misses: self.misses.get(), ..self.state.borrow().stats() }
    }

    /// A number for a table whose blocks are to be cached, never given before.
    pub(crate) fn add_table(&self) -> u64 {
        self.tables.set(self.tables.get() + 1);
        self.tables.get()
    }

    /// Forgets the blocks of a table, a few with each later insertion.
    pub(crate) fn remove_table(&self, table: u64) {
        self.state.borrow_mut().remove_table(table);
    }

    /// The block in a frame, when it is there.
    #[inline]
    pub(crate) fn get_at(&self, home: Home<'_>) -> Option<Block> {
        let block = home.get()?;
        self.hits.set(self.hits.get() + 1);
        Some(block)
    }

    /// The block, when it is there; `home` is its frame.
    pub(crate) fn get(&self, key: BlockKey, home: Option<Home<'_>>) -> Option<Block> {
        if let Some(block) = home.and_then(|home| self.get_at(home)) {
            return Some(block);
        }
        let found = self.state.borrow_mut().get(key, home);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.set(counter.get() + 1);
        found
    }

    /// The block, when it is there; leaves no trace, so that a compaction keeps nothing in the cache that nobody else uses.
    pub(crate) fn peek(&self, key: BlockKey) -> Option<Block> {
        self.state.borrow().peek(key)
    }

    /// Takes a block that was read, if there is room or room can be made; `home` is its frame.
    pub(crate) fn insert(&self, key: BlockKey, block: &Block, home: Option<Home<'_>>) {
        self.state.borrow_mut().insert(key, block, home);
    }

    /// The block, from the cache, from whoever is reading it just now, or by `read`.
    pub(crate) async fn get_or_read<F>(
        &self,
        key: BlockKey,
        home: Option<Home<'_>>,
        read: impl FnOnce() -> F,
    ) -> Result<Block>
    where
        F: Future<Output = Result<Block>>,
    {
        loop {
            if let Some(block) = self.get(key, home) {
                return Ok(block);
            }
            let Some(other) = self.join_reader(key) else { break };
            // When the other's read failed or was given up, nothing comes: this reader finds out by itself.
            if let Ok(block) = other.await {
                return Ok(block);
            }
        }
        let reading = Reading { cache: self, key };
        let block = read().await?;
        self.insert(key, &block, home);
        for waiter in reading.waiters() {
            // A waiter that has gone needs nothing.
            let _ = waiter.send(block.clone());
        }
        Ok(block)
    }

    /// Waits for another reader of the block, or makes the caller the reader.
    fn join_reader(&self, key: BlockKey) -> Option<oneshot::Receiver<Block>> {
        let mut reading = self.reading.borrow_mut();
        if let Some(waiters) = reading.get_mut(&key) {
            let (sender, receiver) = oneshot::channel();
            waiters.push(sender);
            return Some(receiver);
        }
        reading.insert(key, Vec::new());
        None
    }

    /// Room for `bytes` of an index or a filter, as long as the reservation lives; `None` when that would leave less than half of
    /// the budget to blocks.
    pub(crate) fn reserve(self: &Rc<Self>, bytes: usize) -> Option<Reservation> {
        let reserved = self.state.borrow_mut().reserve(bytes);
        reserved.then(|| Reservation { cache: self.clone(), bytes })
    }

    /// Room for `bytes` without which a table can't be used at all. Passes the half of [`reserve`](Self::reserve).
    pub(crate) fn reserve_always(self: &Rc<Self>, bytes: usize) -> Reservation {
        self.state.borrow_mut().reserve_always(bytes);
        Reservation { cache: self.clone(), bytes }
    }
}

/// Bytes of the budget that are taken by what is not a block.
pub(crate) struct Reservation {
    cache: Rc<BlockCache>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.cache.state.borrow_mut().release(self.bytes);
    }
}

/// A read under way. However it ends, those who wait for it are woken.
struct Reading<'a> {
    cache: &'a BlockCache,
    key: BlockKey,
}

impl Reading<'_> {
    fn waiters(self) -> Vec<oneshot::Sender<Block>> {
        self.cache.reading.borrow_mut().remove(&self.key).unwrap_or_default()
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.cache.reading.borrow_mut().remove(&self.key);
    }
}
