//! Iterates over a memtable's entries of one family while others are written.

use super::index::Place;
use super::{Memtable, place_of};
use crate::table::{EntryKind, EntryRef};
use pinion_types::ColumnFamily;
use std::rc::Rc;

/// A cursor over a memtable's entries. The current entry is a copy, in buffers that are used again: the memtable may be written to at
/// any time.
pub(crate) struct MemtableIterator {
    memtable: Rc<Memtable>,
    family: usize,
    place: Option<Place>,
    key: Vec<u8>,
    value: Vec<u8>,
    sequence: u64,
    kind: EntryKind,
}

impl MemtableIterator {
    pub(crate) fn new(memtable: Rc<Memtable>, family: ColumnFamily) -> Self {
        Self {
            memtable,
            family: place_of(family),
            place: None,
            key: Vec::new(),
            value: Vec::new(),
            sequence: 0,
            kind: EntryKind::Delete,
        }
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.place.is_some()
    }

    /// The current entry.
    #[inline]
    pub(crate) fn entry(&self) -> EntryRef<'_> {
        debug_assert!(self.is_valid());
        EntryRef { key: &self.key, sequence: self.sequence, kind: self.kind, value: &self.value }
    }

    /// Goes to the first entry that does not come before (`key`, `sequence`).
    pub(crate) fn seek(&mut self, key: &[u8], sequence: u64) {
        self.place = {
            let content = self.memtable.content.borrow();
            content.families[self.family].index.seek(&content.arena, key, sequence)
        };
        self.load();
    }

    /// Goes to the last entry that comes before (`key`, `sequence`).
    pub(crate) fn seek_before(&mut self, key: &[u8], sequence: u64) {
        self.place = {
            let content = self.memtable.content.borrow();
            content.families[self.family].index.seek_before(&content.arena, key, sequence)
        };
        self.load();
    }

    /// Goes to the entry after the current one.
    #[inline]
    pub(crate) fn next(&mut self) {
        self.place = {
            let content = self.memtable.content.borrow();
            let index = &content.families[self.family].index;
            self.place.and_then(|place| match index.is_current(place) {
                true => index.next(place),
                false => {
                    index.seek(&content.arena, &self.key, self.sequence).and_then(|place| index.next(place))
                }
            })
        };
        self.load();
    }

    /// Goes to the entry before the current one.
    #[inline]
    pub(crate) fn previous(&mut self) {
        self.place = {
            let content = self.memtable.content.borrow();
            let index = &content.families[self.family].index;
            self.place.and_then(|place| match index.is_current(place) {
                true => index.previous(place),
                false => index.seek_before(&content.arena, &self.key, self.sequence),
            })
        };
        self.load();
    }

    #[inline]
    fn load(&mut self) {
        let Some(place) = self.place else { return };
        let content = self.memtable.content.borrow();
        let entry = content.arena.entry(content.families[self.family].index.entry(place));
        self.key.clear();
        self.key.extend_from_slice(entry.key);
        self.value.clear();
        self.value.extend_from_slice(entry.value);
        self.sequence = entry.sequence;
        self.kind = entry.kind;
    }
}
