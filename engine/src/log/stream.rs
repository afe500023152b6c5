//! What the log holds of each stream, in memory: an index from positions to places, and what is still needed.

use bytes::Bytes;
use pinion_types::{LogIndex, RegionId, Term};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

/// Where a record is: its group, and where in the group's body its payload begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) group: u64,
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// One entry.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) term: Term,
    pub(super) kind: u8,
    pub(super) sequence: u64,
    pub(super) place: Place,
    /// Bytes of the payloads of all slots of the stream up to this one, counted from some slot on; [`Stream::put`] sets it.
    pub(super) bytes_through: u64,
    /// The payload, while it is cached.
    pub(super) cached: Option<Bytes>,
}

/// A record that is superseded by the next of its kind, and the group that holds it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latest<T> {
    pub(super) value: T,
    pub(super) sequence: u64,
    /// 0 when there is none.
    pub(super) group: u64,
}

/// One stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    /// The sequence of the last record.
    pub(super) sequence: u64,
    pub(super) generation: Latest<u64>,
    pub(super) hard_state: Latest<(Term, u64, LogIndex)>,
    pub(super) compacted: Latest<(LogIndex, Term)>,
    /// The position of the first slot.
    pub(super) first: LogIndex,
    pub(super) slots: VecDeque<Slot>,
    /// Edits that are not released: sequence, group, payload.
    pub(super) edits: VecDeque<(u64, u64, Bytes)>,
    /// Entries up to here may go.
    pub(super) entries_released: LogIndex,
    /// The lowest group of all slots, once it was asked for, until slots go or change places.
    pub(super) oldest: Cell<Option<u64>>,
}

impl Stream {
    /// The position of the first entry: the one after the compacted position.
    pub(super) fn first_index(&self) -> LogIndex {
        self.compacted.value.0.next()
    }

    /// The position of the last entry; the compacted position when there is none.
    pub(super) fn last_index(&self) -> LogIndex {
        let last = LogIndex(self.first.0 + self.slots.len() as u64).previous();
        if self.slots.is_empty() { self.compacted.value.0 } else { last.max(self.compacted.value.0) }
    }

    /// The entry at a position, if it is there.
    pub(super) fn slot(&self, index: LogIndex) -> Option<&Slot> {
        let offset = index.0.checked_sub(self.first.0)?;
        self.slots.get(usize::try_from(offset).ok()?)
    }

    /// The same to change. Who changes its place calls [`places_change`](Self::places_change).
    pub(super) fn slot_mut(&mut self, index: LogIndex) -> Option<&mut Slot> {
        let offset = index.0.checked_sub(self.first.0)?;
        self.slots.get_mut(usize::try_from(offset).ok()?)
    }

    /// An entry is written again at another place.
    pub(super) fn places_change(&mut self) {
        self.oldest.set(None);
    }

    /// The term of the entry at a position, the compacted one included.
    pub(super) fn term(&self, index: LogIndex) -> Option<Term> {
        if index == self.compacted.value.0 {
            return Some(self.compacted.value.1);
        }
        if index < self.compacted.value.0 {
            return None;
        }
        self.slot(index).map(|slot| slot.term)
    }

    /// Puts an entry at a position; whatever was there and behind it is gone.
    ///
    /// # Panics
    /// When the entry would leave a hole behind the last.
    pub(super) fn put(&mut self, index: LogIndex, mut slot: Slot) {
        if self.slots.is_empty() {
            self.first = index;
        }
        assert!(
            index >= self.first && index.0 <= self.first.0 + self.slots.len() as u64,
            "an entry at {index} leaves a hole: the log reaches from {} for {} entries",
            self.first,
            self.slots.len()
        );
        let kept = usize::try_from(index.0 - self.first.0).expect("an index within memory");
        if kept < self.slots.len() {
            self.slots.truncate(kept);
            self.oldest.set(None);
        }
        // At a start groups come in any order.
        if self.oldest.get().is_some_and(|oldest| slot.place.group < oldest) {
            self.oldest.set(None);
        }
        let bytes_before = self.slots.back().map_or(0, |before| before.bytes_through);
        slot.bytes_through = bytes_before + u64::from(slot.place.len);
        self.slots.push_back(slot);
    }

    /// Bytes of the payloads of the entries in `[low, high)`, as far as they are there.
    pub(super) fn entry_bytes(&self, low: LogIndex, high: LogIndex) -> u64 {
        let low = low.max(self.first_index()).max(self.first);
        let high = high.min(self.last_index().next());
        if low >= high {
            return 0;
        }
        match (self.slot(low), self.slot(high.previous())) {
            (Some(first), Some(last)) => {
                last.bytes_through - first.bytes_through + u64::from(first.place.len)
            }
            _ => 0,
        }
    }

    /// Takes in an entry at a start. Entries before it may be gone: they were released, and their segments used again.
    pub(super) fn replay(&mut self, index: LogIndex, slot: Slot) {
        let end = self.first.0 + self.slots.len() as u64;
        if index < self.first || index.0 > end {
            self.slots.clear();
            self.oldest.set(None);
        }
        self.put(index, slot);
    }

    /// Forgets entries that are released.
    pub(super) fn release(&mut self, entries_through: LogIndex, edits_through: u64) {
        let through = entries_through.min(self.compacted.value.0);
        self.entries_released = self.entries_released.max(through);
        while self.first <= through && self.slots.pop_front().is_some() {
            self.oldest.set(None);
            self.first = self.first.next();
        }
        while self.edits.front().is_some_and(|(sequence, ..)| *sequence <= edits_through) {
            self.edits.pop_front();
        }
    }

    /// The entries that are needed, with their positions.
    pub(super) fn entries(&self) -> impl Iterator<Item = (LogIndex, &Slot)> {
        self.slots.iter().enumerate().map(|(offset, slot)| (LogIndex(self.first.0 + offset as u64), slot))
    }

    /// The lowest group that holds an entry that is needed.
    pub(super) fn oldest_entry_group(&self) -> Option<u64> {
        // Entries that were written again stand in later groups than their neighbours: the first slot's need not be the lowest.
        if self.oldest.get().is_none() {
            self.oldest.set(self.slots.iter().map(|slot| slot.place.group).min());
        }
        self.oldest.get()
    }
}

/// The cached payloads of entries, oldest first, within a budget.
#[derive(Debug, Default)]
pub(super) struct PayloadCache {
    order: VecDeque<(RegionId, LogIndex, u64, usize)>,
    bytes: usize,
}

impl PayloadCache {
    /// Bytes of the payloads.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes a payload that was put into its slot.
    pub(super) fn note(&mut self, stream: RegionId, index: LogIndex, sequence: u64, len: usize) {
        self.order.push_back((stream, index, sequence, len));
        self.bytes += len;
    }

    /// Drops the oldest payloads until the rest is within `bytes_max`, or up to one that is needed.
    pub(super) fn shrink(
        &mut self,
        bytes_max: usize,
        streams: &mut BTreeMap<RegionId, Stream>,
        is_needed: impl Fn(RegionId, LogIndex, &Slot) -> bool,
    ) {
        while self.bytes > bytes_max {
            let Some(&(id, index, sequence, len)) = self.order.front() else { break };
            let slot = streams.get_mut(&id).and_then(|stream| stream.slot_mut(index));
            if let Some(slot) = slot.filter(|slot| slot.sequence == sequence) {
                if is_needed(id, index, slot) {
                    break;
                }
                slot.cached = None;
            }
            self.order.pop_front();
            self.bytes -= len;
        }
    }
}
