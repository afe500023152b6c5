//! The order of a memtable's entries: a B+tree of arena positions.
//!
//! A node keeps, for every entry, eight bytes of its key as a number, so that a search touches no entry until the numbers tie. Those
//! eight bytes begin where the node's keys begin to differ: after the common prefix of the two entries that fence the node in its
//! ancestors (Graefe, "Modern B-Tree Techniques", 2011, §3.5). Nodes at the edges lack a fence; for them the common prefix of the
//! whole tree counts, which is kept beside the root.
//!
//! Invariants:
//! - entries are ordered by key ascending, then by sequence descending; no two are equal;
//! - all keys that may come into a node share its first `skip` bytes;
//! - entries are never removed, and a node keeps its number; whenever a leaf's entries change place its `version` grows, so that
//!   who remembers a place in it can tell.
//!
//! Cost: at 500,000 entries four nodes deep. A node's search is sixteen comparisons without a branch, and its cache lines are
//! asked for at once. An entry that comes in at the end of a full node leaves the node full: ascending inserts fill nodes whole.

use super::arena::{Arena, Position};
use std::cmp::Ordering;

/// Entries of a node at most. Searched as eight runs of eight.
const FANOUT: usize = 64;
const RUN: usize = 8;
/// Levels of a tree at most: even half full nodes hold all positions that there are in six.
const HEIGHT_MAX: usize = 8;
/// Nodes are allocated this many at a time.
const NODES_PER_CHUNK_BITS: u32 = 4;
/// While the numbers of a node's entries have fewer than this many leading bits in common, they are good enough.
const SHARED_BITS_MAX: u32 = 24;
/// The highest number that a key's bytes make.
const PREFIX_MAX: u64 = u64::MAX >> 1;
/// Keys whose way down is looked for together: their cache lines fill a core's fetches under way several times.
const TOUCHED_TOGETHER: usize = 16;
/// No leaf.
const NONE: u32 = u32::MAX;

#[derive(Clone)]
struct Node {
    /// Numbers made of the keys' bytes from `skip` on ([`prefix_of`]); the highest behind the last entry.
    prefixes: [u64; FANOUT],
    /// In a leaf the entries, in an inner node the first entry of each child but the first.
    entries: [Position; FANOUT],
    len: u32,
    skip: u32,
}

impl Node {
    fn new(skip: u32) -> Self {
        Self { prefixes: [PREFIX_MAX; FANOUT], entries: [Position::default(); FANOUT], len: 0, skip }
    }

    fn len(&self) -> usize {
        self.len as usize
    }

    fn is_full(&self) -> bool {
        self.len() == FANOUT
    }

    /// Asks the memory for the entries before it is known which of them is needed: it answers while the numbers are compared.
    #[inline]
    fn touch(&self) {
        std::hint::black_box([0, 16, 32, 48].map(|at| self.entries[at].0));
    }

    /// Asks the memory for all that a search looks at but the entries themselves.
    #[inline]
    fn touch_all(&self) {
        std::hint::black_box(([0, 8, 16, 24, 32, 40, 48, 56].map(|at| self.prefixes[at]), self.len));
        self.touch();
    }

    /// The place of the first entry whose number is not below `prefix`.
    #[inline]
    fn first_from(&self, prefix: u64) -> usize {
        let (runs, _) = self.prefixes.as_chunks::<RUN>();
        let full_runs = index(runs.iter().map(|run| is_below(run[RUN - 1], prefix)).sum());
        let within = match runs.get(full_runs) {
            Some(run) => index(run.iter().map(|other| is_below(*other, prefix)).sum()),
            None => 0,
        };
        (full_runs * RUN + within).min(self.len())
    }

    /// The place of the first entry that does not come before (`key`, `sequence`).
    #[inline]
    fn search(&self, arena: &Arena, key: &[u8], sequence: u64) -> usize {
        let prefix = prefix_of(key, self.skip);
        let first = self.first_from(prefix);
        if self.prefixes.get(first) == Some(&prefix) {
            self.search_tied(arena, first, key, sequence)
        } else {
            first
        }
    }

    /// The same among the entries from `first` on whose number is that of `key`.
    fn search_tied(&self, arena: &Arena, first: usize, key: &[u8], sequence: u64) -> usize {
        let prefix = self.prefixes[first];
        let tied = self.prefixes[first..self.len()].partition_point(|other| *other == prefix);
        let before = |entry: &Position| compare(arena, *entry, key, sequence) == Ordering::Less;
        match self.entries.get(first) {
            // The newest version of a key comes before all others: one look is enough.
            Some(entry) if tied > 0 && before(entry) => {
                let rest = &self.entries[first + 1..first + tied];
                first + 1 + rest.partition_point(before)
            }
            _ => first,
        }
    }

    fn insert(&mut self, at: usize, prefix: u64, entry: Position) {
        let len = self.len();
        self.prefixes.copy_within(at..len, at + 1);
        self.entries.copy_within(at..len, at + 1);
        self.prefixes[at] = prefix;
        self.entries[at] = entry;
        self.len += 1;
    }

    /// Moves the entries from `at` on to a new node.
    fn split_off(&mut self, at: usize) -> Self {
        let mut right = Self::new(self.skip);
        let moved = self.len() - at;
        right.prefixes[..moved].copy_from_slice(&self.prefixes[at..at + moved]);
        right.entries[..moved].copy_from_slice(&self.entries[at..at + moved]);
        right.len = count(moved);
        self.truncate(at);
        right
    }

    fn truncate(&mut self, len: usize) {
        self.prefixes[len..].fill(PREFIX_MAX);
        self.len = count(len);
    }

    fn set_skip(&mut self, arena: &Arena, skip: u32) {
        self.skip = skip;
        let len = self.len();
        for (prefix, entry) in self.prefixes.iter_mut().zip(&self.entries).take(len) {
            *prefix = prefix_of(arena.key(*entry).0, skip);
        }
    }

    /// Whether the entries' numbers have so much in common that they should begin further on.
    fn is_coarse(&self) -> bool {
        let len = self.len();
        // The highest bit is never set.
        len > 1 && (self.prefixes[0] ^ self.prefixes[len - 1]).leading_zeros() > SHARED_BITS_MAX + 1
    }
}

struct Leaf {
    node: Node,
    version: u32,
    previous: u32,
    next: u32,
}

struct Inner {
    node: Node,
    children: [u32; FANOUT + 1],
}

impl Inner {
    fn insert(&mut self, at: usize, prefix: u64, separator: Position, child: u32) {
        let len = self.node.len();
        self.children.copy_within(at + 1..=len, at + 2);
        self.children[at + 1] = child;
        self.node.insert(at, prefix, separator);
    }
}

/// Nodes by number, allocated a few at a time so that none ever moves.
struct Nodes<T> {
    chunks: Vec<Vec<T>>,
    count: u32,
}

impl<T> Default for Nodes<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), count: 0 }
    }
}

impl<T> Nodes<T> {
    fn push(&mut self, node: T) -> u32 {
        if self.count.trailing_zeros() >= NODES_PER_CHUNK_BITS {
            // A tree of one leaf is common and small.
            let room = if self.count == 0 { 1 } else { 1 << NODES_PER_CHUNK_BITS };
            self.chunks.push(Vec::with_capacity(room));
        }
        let number = self.count;
        self.chunks.last_mut().expect("a chunk was added when the last was full").push(node);
        self.count += 1;
        number
    }

    #[inline]
    fn get(&self, number: u32) -> &T {
        let (chunk, place) = Self::place(number);
        &self.chunks[chunk][place]
    }

    #[inline]
    fn get_mut(&mut self, number: u32) -> &mut T {
        let (chunk, place) = Self::place(number);
        &mut self.chunks[chunk][place]
    }

    fn place(number: u32) -> (usize, usize) {
        ((number >> NODES_PER_CHUNK_BITS) as usize, (number & ((1 << NODES_PER_CHUNK_BITS) - 1)) as usize)
    }

    fn allocated_bytes(&self) -> usize {
        // Only the first chunk may be smaller than the others, and it grows by doubling.
        let nodes: usize = match self.chunks.split_first() {
            Some((first, rest)) => first.capacity() + (rest.len() << NODES_PER_CHUNK_BITS),
            None => 0,
        };
        nodes * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }
}

/// A place in a leaf, good as long as the leaf's version is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    leaf: u32,
    slot: u32,
    version: u32,
}

/// The way down to a leaf: each inner node and the child that was taken.
struct Path {
    steps: [(u32, u32); HEIGHT_MAX],
    len: usize,
}

#[derive(Default)]
pub(super) struct Index {
    leaves: Nodes<Leaf>,
    inners: Nodes<Inner>,
    root: u32,
    /// Levels of inner nodes above the leaves.
    height: usize,
    /// What all keys begin with.
    common: Vec<u8>,
    first_leaf: u32,
    last_leaf: u32,
    /// The last entry in order.
    last: Option<Position>,
}

impl Index {
    pub(super) fn allocated_bytes(&self) -> usize {
        self.leaves.allocated_bytes() + self.inners.allocated_bytes() + self.common.capacity()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Takes in an entry that was just put in the arena.
    pub(super) fn insert(&mut self, arena: &Arena, entry: Position) {
        let (key, sequence) = arena.key(entry);
        let Some(last) = self.last else {
            return self.insert_first(key, entry);
        };
        if !key.starts_with(&self.common) {
            self.shrink_common(arena, key);
        }
        if compare(arena, last, key, sequence) == Ordering::Less {
            self.last = Some(entry);
            let leaf = self.leaves.get_mut(self.last_leaf);
            if !leaf.node.is_full() {
                let at = leaf.node.len();
                leaf.node.insert(at, prefix_of(key, leaf.node.skip), entry);
                return;
            }
        }
        let (leaf_number, path) = self.descend(arena, key, sequence);
        let leaf = self.leaves.get_mut(leaf_number);
        let at = leaf.node.search(arena, key, sequence);
        if leaf.node.is_full() {
            return self.split_leaf(arena, leaf_number, &path, at, entry);
        }
        if at < leaf.node.len() {
            leaf.version = leaf.version.wrapping_add(1);
        }
        leaf.node.insert(at, prefix_of(key, leaf.node.skip), entry);
    }

    fn insert_first(&mut self, key: &[u8], entry: Position) {
        self.common = key.to_vec();
        let mut node = Node::new(count(key.len()));
        node.insert(0, prefix_of(key, node.skip), entry);
        self.root = self.leaves.push(Leaf { node, version: 0, previous: NONE, next: NONE });
        (self.first_leaf, self.last_leaf, self.last) = (self.root, self.root, Some(entry));
    }

    fn descend(&self, arena: &Arena, key: &[u8], sequence: u64) -> (u32, Path) {
        let mut path = Path { steps: [(0, 0); HEIGHT_MAX], len: self.height };
        let mut number = self.root;
        for step in &mut path.steps[..self.height] {
            let inner = self.inners.get(number);
            let child = inner.node.search_child(arena, key, sequence);
            *step = (number, count(child));
            number = inner.children[child];
        }
        (number, path)
    }

    fn split_leaf(&mut self, arena: &Arena, number: u32, path: &Path, at: usize, entry: Position) {
        let (low, high) = self.fences(path);
        let key = arena.key(entry).0;
        let new_number = self.leaves.count;
        let leaf = self.leaves.get_mut(number);
        let middle = if at == FANOUT { FANOUT } else { FANOUT / 2 };
        let mut right = leaf.node.split_off(middle);
        leaf.version = leaf.version.wrapping_add(1);
        if at >= middle {
            right.insert(at - middle, prefix_of(key, right.skip), entry);
        } else {
            leaf.node.insert(at, prefix_of(key, leaf.node.skip), entry);
        }
        let separator = right.entries[0];
        let (next, previous) = (std::mem::replace(&mut leaf.next, new_number), number);
        refine(arena, &mut leaf.node, low, Some(separator));
        refine(arena, &mut right, Some(separator), high);
        self.leaves.push(Leaf { node: right, version: 0, previous, next });
        if next == NONE {
            self.last_leaf = new_number;
        } else {
            self.leaves.get_mut(next).previous = new_number;
        }
        self.insert_child(arena, path, separator, new_number);
    }

    /// Puts a new child behind the one that `path` leads to.
    fn insert_child(&mut self, arena: &Arena, path: &Path, separator: Position, child: u32) {
        let (mut separator, mut child) = (separator, child);
        for depth in (0..path.len).rev() {
            let (number, at) = (path.steps[depth].0, path.steps[depth].1 as usize);
            let inner = self.inners.get_mut(number);
            let prefix = prefix_of(arena.key(separator).0, inner.node.skip);
            if !inner.node.is_full() {
                inner.insert(at, prefix, separator, child);
                return;
            }
            let above = Path { steps: path.steps, len: depth };
            (separator, child) = self.split_inner(arena, number, &above, at, separator, child);
        }
        self.add_root(arena, separator, child);
    }

    /// Splits a full inner node and puts the child in; gives the separator and the new node for the level above.
    fn split_inner(
        &mut self,
        arena: &Arena,
        number: u32,
        above: &Path,
        at: usize,
        separator: Position,
        child: u32,
    ) -> (Position, u32) {
        let (low, high) = self.fences(above);
        let inner = self.inners.get_mut(number);
        let middle = if at == FANOUT { FANOUT - 1 } else { FANOUT / 2 };
        let up = inner.node.entries[middle];
        let node = inner.node.split_off(middle + 1);
        inner.node.truncate(middle);
        let mut right = Inner { node, children: [NONE; FANOUT + 1] };
        right.children[..FANOUT - middle].copy_from_slice(&inner.children[middle + 1..]);
        let prefix = prefix_of(arena.key(separator).0, inner.node.skip);
        if at > middle {
            right.insert(at - middle - 1, prefix, separator, child);
        } else {
            inner.insert(at, prefix, separator, child);
        }
        refine(arena, &mut inner.node, low, Some(up));
        refine(arena, &mut right.node, Some(up), high);
        (up, self.inners.push(right))
    }

    fn add_root(&mut self, arena: &Arena, separator: Position, child: u32) {
        assert!(self.height < HEIGHT_MAX, "a tree of all positions is lower");
        let skip = count(self.common.len());
        let mut root = Inner { node: Node::new(skip), children: [NONE; FANOUT + 1] };
        root.children[0] = self.root;
        root.insert(0, prefix_of(arena.key(separator).0, skip), separator, child);
        self.root = self.inners.push(root);
        self.height += 1;
    }

    /// The entries that fence in the node that `path` leads to: its own first, and the first behind it.
    fn fences(&self, path: &Path) -> (Option<Position>, Option<Position>) {
        let (mut low, mut high) = (None, None);
        for (number, child) in path.steps[..path.len].iter().rev() {
            let node = &self.inners.get(*number).node;
            let child = *child as usize;
            if low.is_none() && child > 0 {
                low = Some(node.entries[child - 1]);
            }
            if high.is_none() && child < node.len() {
                high = Some(node.entries[child]);
            }
        }
        (low, high)
    }

    /// Makes `common` a prefix of `key` too. Nodes with two fences are not concerned; the others are at the edges.
    fn shrink_common(&mut self, arena: &Arena, key: &[u8]) {
        let shared = shared_len(&self.common, key);
        self.common.truncate(shared);
        let skip = count(shared);
        for rightmost in [false, true] {
            let mut number = self.root;
            for _ in 0..self.height {
                let inner = self.inners.get_mut(number);
                if inner.node.skip > skip {
                    inner.node.set_skip(arena, skip);
                }
                number = inner.children[if rightmost { inner.node.len() } else { 0 }];
            }
            let leaf = &mut self.leaves.get_mut(number).node;
            if leaf.skip > skip {
                leaf.set_skip(arena, skip);
            }
        }
    }

    /// The first entry that does not come before (`key`, `sequence`).
    pub(super) fn seek(&self, arena: &Arena, key: &[u8], sequence: u64) -> Option<Place> {
        if !key.starts_with(&self.common) {
            let before_all = key < self.common.as_slice();
            return if before_all { self.first() } else { None };
        }
        self.last?;
        let mut number = self.root;
        for _ in 0..self.height {
            let inner = self.inners.get(number);
            number = inner.children[inner.node.search_child(arena, key, sequence)];
        }
        let leaf = self.leaves.get(number);
        leaf.node.touch();
        let slot = leaf.node.search(arena, key, sequence);
        if slot < leaf.node.len() { Some(self.place(number, slot)) } else { self.first_of(leaf.next) }
    }

    /// Asks the memory for what searches for keys will look at, for many keys at once: one search after the other would wait for every
    /// node on its way. `first` is the first byte of all keys, which they are given without.
    ///
    /// Where numbers tie the way is a guess. Nothing depends on it.
    pub(super) fn touch(&self, arena: &Arena, first: u8, keys: &[&[u8]]) {
        if self.last.is_none() || self.common.first() != Some(&first) {
            return;
        }
        for keys in keys.chunks(TOUCHED_TOGETHER) {
            let mut numbers = [self.root; TOUCHED_TOGETHER];
            for levels_below in (0..self.height).rev() {
                for (number, key) in numbers.iter_mut().zip(keys) {
                    let inner = self.inners.get(*number);
                    // What is common to all keys holds their first byte.
                    *number = inner.children[inner.node.first_from(prefix_of(key, inner.node.skip - 1))];
                }
                for number in &numbers[..keys.len()] {
                    match levels_below {
                        0 => self.leaves.get(*number).node.touch_all(),
                        _ => self.inners.get(*number).node.touch_all(),
                    }
                }
            }
            for (number, key) in numbers.iter().zip(keys) {
                let node = &self.leaves.get(*number).node;
                let at = node.first_from(prefix_of(key, node.skip - 1));
                if at < node.len() {
                    arena.touch(node.entries[at]);
                }
            }
        }
    }

    /// The last entry that comes before (`key`, `sequence`).
    pub(super) fn seek_before(&self, arena: &Arena, key: &[u8], sequence: u64) -> Option<Place> {
        match self.seek(arena, key, sequence) {
            Some(place) => self.previous(place),
            None => self.last(),
        }
    }

    pub(super) fn first(&self) -> Option<Place> {
        self.last.and_then(|_| self.first_of(self.first_leaf))
    }

    pub(super) fn last(&self) -> Option<Place> {
        self.last.and_then(|_| self.last_of(self.last_leaf))
    }

    /// Whether the leaf is as it was when the place was found.
    #[inline]
    pub(super) fn is_current(&self, place: Place) -> bool {
        self.leaves.get(place.leaf).version == place.version
    }

    /// The entry after a current place.
    #[inline]
    pub(super) fn next(&self, place: Place) -> Option<Place> {
        let leaf = self.leaves.get(place.leaf);
        let slot = place.slot + 1;
        if slot < leaf.node.len { Some(Place { slot, ..place }) } else { self.first_of(leaf.next) }
    }

    /// The entry before a current place.
    #[inline]
    pub(super) fn previous(&self, place: Place) -> Option<Place> {
        match place.slot.checked_sub(1) {
            Some(slot) => Some(Place { slot, ..place }),
            None => self.last_of(self.leaves.get(place.leaf).previous),
        }
    }

    #[inline]
    pub(super) fn entry(&self, place: Place) -> Position {
        self.leaves.get(place.leaf).node.entries[place.slot as usize]
    }

    fn first_of(&self, leaf: u32) -> Option<Place> {
        (leaf != NONE).then(|| self.place(leaf, 0))
    }

    fn last_of(&self, leaf: u32) -> Option<Place> {
        (leaf != NONE).then(|| self.place(leaf, self.leaves.get(leaf).node.len() - 1))
    }

    fn place(&self, leaf: u32, slot: usize) -> Place {
        Place { leaf, slot: count(slot), version: self.leaves.get(leaf).version }
    }
}

impl Node {
    /// The child in which the first entry that does not come before (`key`, `sequence`) is, or after which it is the first.
    #[inline]
    fn search_child(&self, arena: &Arena, key: &[u8], sequence: u64) -> usize {
        let at = self.search(arena, key, sequence);
        // A separator is the first entry of the child behind it: the entry itself is found there.
        let is_separator = at < self.len()
            && self.prefixes[at] == prefix_of(key, self.skip)
            && compare(arena, self.entries[at], key, sequence) == Ordering::Equal;
        at + usize::from(is_separator)
    }
}

/// Lets the node's numbers begin where the keys between its fences begin to differ, when that tells them apart better.
fn refine(arena: &Arena, node: &mut Node, low: Option<Position>, high: Option<Position>) {
    let (Some(low), Some(high)) = (low, high) else { return };
    if node.is_coarse() {
        let skip = count(shared_len(arena.key(low).0, arena.key(high).0));
        if skip > node.skip {
            node.set_skip(arena, skip);
        }
    }
}

#[inline]
fn compare(arena: &Arena, entry: Position, key: &[u8], sequence: u64) -> Ordering {
    let (entry_key, entry_sequence) = arena.key(entry);
    entry_key.cmp(key).then(sequence.cmp(&entry_sequence))
}

/// The first 63 bits of `key` from its byte `skip` on, as a number of the same order; zeros stand behind the end.
#[inline]
fn prefix_of(key: &[u8], skip: u32) -> u64 {
    super::prefix_at(key, skip as usize) >> 1
}

/// 1 when `number` is below `other`, otherwise 0; both are of 63 bits, so that the difference's sign says it: every processor
/// has that for several numbers at a time, a comparison of unsigned ones not.
#[inline]
fn is_below(number: u64, other: u64) -> u64 {
    number.wrapping_sub(other) >> 63
}

#[inline]
fn index(count: u64) -> usize {
    usize::try_from(count).expect("64-bit machine")
}

fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("nodes and keys are small")
}
