//! A file's content: what a reader sees, what a power cut leaves, and what lies between.
//!
//! Both images are vectors of shared blocks, so that a sync, a crash and a write copy no block that they do not tear. Changes that are
//! not durable yet wait in order; each block carries the number of its write, so that an old write that becomes durable late does not
//! undo a newer one.

use super::super::config::CrashOdds;
use super::super::random::Random;
use std::collections::VecDeque;
use std::rc::Rc;

/// Blocks of the file system.
pub(super) const BLOCK: usize = 4096;
/// What the medium writes whole.
const SECTOR: usize = 512;

/// A block's content: a part of a write's data.
#[derive(Clone)]
struct Block {
    data: Rc<[u8]>,
    at: usize,
    sequence: u64,
}

impl Block {
    fn bytes(&self) -> &[u8] {
        &self.data[self.at..self.at + BLOCK]
    }

    fn alone(bytes: &[u8], sequence: u64) -> Self {
        Self { data: Rc::from(bytes), at: 0, sequence }
    }
}

/// A place in the file; `None` is a hole, which reads as zeros.
#[derive(Clone, Default)]
struct Slot {
    current: Option<Block>,
    durable: Option<Block>,
}

/// A change that a power cut may undo.
enum Pending {
    Write { sequence: u64, first: usize, data: Rc<[u8]> },
    Length { sequence: u64, len: u64 },
}

impl Pending {
    fn sequence(&self) -> u64 {
        match self {
            Self::Write { sequence, .. } | Self::Length { sequence, .. } => *sequence,
        }
    }
}

#[derive(Default)]
pub(super) struct FileData {
    len: u64,
    durable_len: u64,
    slots: Vec<Slot>,
    /// Blocks from the beginning that are reserved, written or not.
    reserved: usize,
    /// Blocks that count against the disk's size.
    charged: usize,
    pending: VecDeque<Pending>,
    /// Whether changes were given up that readers still see.
    diverged: bool,
}

impl FileData {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Blocks that the file takes of the disk.
    pub(super) fn charged(&self) -> usize {
        self.charged
    }

    /// Whether a power cut may change it.
    pub(super) fn is_at_risk(&self) -> bool {
        self.diverged || !self.pending.is_empty()
    }

    /// Blocks that a write would take in addition.
    pub(super) fn blocks_to_write(&self, first: usize, count: usize) -> usize {
        (first..first + count)
            .filter(|&index| {
                index >= self.reserved && self.slots.get(index).is_none_or(|slot| slot.current.is_none())
            })
            .count()
    }

    /// Blocks that a reservation would take in addition.
    pub(super) fn blocks_to_reserve(&self, len: u64) -> usize {
        let end = blocks(len);
        if end > self.reserved { self.blocks_to_write(self.reserved, end - self.reserved) } else { 0 }
    }

    /// The bytes from block `first`, up to `count` blocks and the end of the file, appended to `to`.
    pub(super) fn read(&self, first: usize, count: usize, to: &mut Vec<u8>) {
        let start = (first * BLOCK) as u64;
        let Some(available) = self.len.checked_sub(start) else {
            return;
        };
        let mut left = (count * BLOCK).min(usize::try_from(available).unwrap_or(usize::MAX));
        for index in first..first + count {
            let part = left.min(BLOCK);
            match self.slots.get(index).and_then(|slot| slot.current.as_ref()) {
                Some(block) => to.extend_from_slice(&block.bytes()[..part]),
                None => to.resize(to.len() + part, 0),
            }
            left -= part;
            if left == 0 {
                return;
            }
        }
    }

    /// Writes whole blocks. A durable write is on the medium when this returns.
    pub(super) fn write(&mut self, sequence: u64, first: usize, data: Rc<[u8]>, durable: bool) {
        let count = data.len() / BLOCK;
        self.charged += self.blocks_to_write(first, count);
        self.ensure(first + count);
        for index in 0..count {
            let block = Block { data: data.clone(), at: index * BLOCK, sequence };
            self.slots[first + index].current = Some(block);
        }
        self.len = self.len.max(((first + count) * BLOCK) as u64);
        if durable {
            self.commit_lengths();
            self.commit_write(sequence, first, &data);
        } else {
            self.pending.push_back(Pending::Write { sequence, first, data });
        }
    }

    /// A write that failed half way: each sector may have got the new data or kept the old.
    pub(super) fn tear(&mut self, sequence: u64, first: usize, data: &Rc<[u8]>, chance: &Random) {
        let count = data.len() / BLOCK;
        // The file does not grow by a write that failed.
        let within = blocks(self.len).saturating_sub(first).min(count);
        let mut torn = Vec::with_capacity(within * BLOCK);
        self.read(first, within, &mut torn);
        torn.resize(within * BLOCK, 0);
        mix_sectors(&mut torn, data, chance);
        if within > 0 {
            let len = self.len;
            self.write(sequence, first, Rc::from(torn), false);
            self.len = len;
        }
    }

    /// Cuts or extends the file.
    pub(super) fn set_len(&mut self, sequence: u64, len: u64) {
        if len < self.len {
            truncate(&mut self.slots, len, |slot| &mut slot.current);
            self.reserved = self.reserved.min(blocks(len));
        }
        self.len = len;
        self.ensure(blocks(len));
        self.pending.push_back(Pending::Length { sequence, len });
        self.recharge();
    }

    /// Reserves blocks from the beginning, and makes the file at least that long.
    pub(super) fn allocate(&mut self, sequence: u64, len: u64) {
        self.charged += self.blocks_to_reserve(len);
        self.reserved = self.reserved.max(blocks(len));
        if len > self.len {
            self.len = len;
            self.ensure(blocks(len));
            self.pending.push_back(Pending::Length { sequence, len });
        }
    }

    /// Makes the changes up to number `upto` durable.
    pub(super) fn sync(&mut self, upto: u64) {
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.sequence() <= upto) {
            self.commit(pending);
        }
    }

    /// A sync that failed: what waited never gets to the medium, although readers see it and a later sync says nothing.
    pub(super) fn lose_pending(&mut self) {
        if !self.pending.is_empty() {
            self.pending.clear();
            self.diverged = true;
        }
    }

    /// A power cut.
    pub(super) fn crash(&mut self, odds: &CrashOdds, chance: &Random) {
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Length { len, .. } => {
                    if !chance.percent(odds.length_lost_percent) {
                        self.commit_length(len);
                    }
                }
                Pending::Write { sequence, first, data } => {
                    self.crash_write(sequence, first, &data, odds, chance);
                }
            }
        }
        truncate(&mut self.slots, self.durable_len, |slot| &mut slot.durable);
        self.slots.truncate(blocks(self.durable_len));
        for slot in &mut self.slots {
            slot.current.clone_from(&slot.durable);
        }
        self.len = self.durable_len;
        self.reserved = self.reserved.min(blocks(self.len));
        self.diverged = false;
        self.recharge();
    }

    fn crash_write(
        &mut self,
        sequence: u64,
        first: usize,
        data: &Rc<[u8]>,
        odds: &CrashOdds,
        chance: &Random,
    ) {
        let count = data.len() / BLOCK;
        let end = ((first + count) * BLOCK) as u64;
        let grown = self.durable_len.max(if chance.percent(odds.length_lost_percent) { 0 } else { end });
        let fate = chance.below(100);
        let (lost, torn) = (u64::from(odds.lost_percent), u64::from(odds.torn_percent));
        if fate >= lost + torn {
            self.commit_write(sequence, first, data);
        } else if fate >= lost {
            let mut mixed = Vec::with_capacity(data.len());
            for slot in &self.slots[first..first + count] {
                match &slot.durable {
                    Some(block) => mixed.extend_from_slice(block.bytes()),
                    None => mixed.resize(mixed.len() + BLOCK, 0),
                }
            }
            mix_sectors(&mut mixed, data, chance);
            self.commit_write(sequence, first, &Rc::from(mixed));
        }
        // The blocks and the length are separate pieces of the file system.
        self.durable_len = grown;
    }

    /// Flips a bit, on the medium and for readers. Whether there was such a bit.
    pub(super) fn flip(&mut self, offset: u64, bit: u8) -> bool {
        if offset >= self.len {
            return false;
        }
        let Ok(offset) = usize::try_from(offset) else {
            return false;
        };
        self.ensure(offset / BLOCK + 1);
        let slot = &mut self.slots[offset / BLOCK];
        for side in [&mut slot.current, &mut slot.durable] {
            let (mut bytes, sequence) = match side {
                Some(block) => (block.bytes().to_vec(), block.sequence),
                None => (vec![0; BLOCK], 0),
            };
            bytes[offset % BLOCK] ^= 1 << (bit % 8);
            *side = Some(Block::alone(&bytes, sequence));
        }
        self.recharge();
        true
    }

    /// The whole content, as a reader sees it.
    pub(super) fn content(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.read(0, blocks(self.len), &mut bytes);
        bytes
    }

    fn commit(&mut self, pending: Pending) {
        match pending {
            Pending::Length { len, .. } => self.commit_length(len),
            Pending::Write { sequence, first, data } => self.commit_write(sequence, first, &data),
        }
    }

    fn commit_write(&mut self, sequence: u64, first: usize, data: &Rc<[u8]>) {
        let count = data.len() / BLOCK;
        self.ensure(first + count);
        for index in 0..count {
            let durable = &mut self.slots[first + index].durable;
            if durable.as_ref().is_none_or(|block| block.sequence < sequence) {
                *durable = Some(Block { data: data.clone(), at: index * BLOCK, sequence });
            }
        }
        self.durable_len = self.durable_len.max(((first + count) * BLOCK) as u64);
    }

    fn commit_length(&mut self, len: u64) {
        if len < self.durable_len {
            truncate(&mut self.slots, len, |slot| &mut slot.durable);
        }
        self.ensure(blocks(len));
        self.durable_len = len;
    }

    /// A synchronous write takes the file's length along, and what came before a cut goes before it.
    fn commit_lengths(&mut self) {
        let is_length = |pending: &Pending| matches!(pending, Pending::Length { .. });
        if let Some(last) = self.pending.iter().rposition(is_length) {
            for pending in self.pending.drain(..=last).collect::<Vec<_>>() {
                self.commit(pending);
            }
        }
    }

    fn ensure(&mut self, slots: usize) {
        if self.slots.len() < slots {
            self.slots.resize_with(slots, Slot::default);
        }
    }

    fn recharge(&mut self) {
        let written = self.slots.iter().skip(self.reserved).filter(|slot| slot.current.is_some()).count();
        self.charged = self.reserved + written;
    }
}

/// How many blocks `len` bytes take.
pub(super) fn blocks(len: u64) -> usize {
    usize::try_from(len.div_ceil(BLOCK as u64)).expect("a simulated file fits in memory")
}

/// Clears one image of the file from `len` on.
fn truncate(slots: &mut [Slot], len: u64, side: impl Fn(&mut Slot) -> &mut Option<Block>) {
    let whole = blocks(len);
    for slot in slots.iter_mut().skip(whole) {
        *side(slot) = None;
    }
    let rest = usize::try_from(len % BLOCK as u64).expect("less than a block");
    if rest > 0
        && let Some(slot) = slots.get_mut(whole - 1)
        && let Some(block) = side(slot)
    {
        let mut bytes = block.bytes().to_vec();
        bytes[rest..].fill(0);
        *block = Block::alone(&bytes, block.sequence);
    }
}

/// Brings a part of the sectors of `new` into `old`: the first ones, the last ones, or any.
fn mix_sectors(old: &mut [u8], new: &[u8], chance: &Random) {
    let sectors = old.len() / SECTOR;
    if sectors == 0 {
        return;
    }
    let cut = chance.index(sectors);
    let way = chance.below(3);
    for (index, (old, new)) in old.chunks_mut(SECTOR).zip(new.chunks(SECTOR)).enumerate() {
        let taken = match way {
            0 => index < cut,
            1 => index >= cut,
            _ => chance.percent(50),
        };
        if taken {
            old.copy_from_slice(new);
        }
    }
}
