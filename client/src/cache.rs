//! What is known of regions: by the first stored key of each. It is a guess: whoever is asked by it says when it is wrong.

use pinion_types::{Region, RegionId, StoreId};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

/// A region as it was when it was learned of.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) region: Region,
    leader: Cell<Option<StoreId>>,
}

impl Entry {
    fn new(region: Region, leader: Option<StoreId>) -> Self {
        Self { region, leader: Cell::new(leader) }
    }

    /// The store to ask: the leader's, or where none is known the members in turn.
    pub(crate) fn target(&self, tries: u32) -> Option<StoreId> {
        let in_turn = || {
            let count = self.region.peers.len();
            let place = (tries as usize).checked_rem(count)?;
            Some(self.region.peers[place].store)
        };
        self.leader.get().or_else(in_turn)
    }

    /// This store leads the region.
    pub(crate) fn set_leader(&self, store: StoreId) {
        self.leader.set(Some(store));
    }

    /// This store does not.
    pub(crate) fn is_not_leader(&self, store: StoreId) {
        if self.leader.get() == Some(store) {
            self.leader.set(None);
        }
    }
}

/// The regions, none of which overlap.
#[derive(Debug, Default)]
pub(crate) struct Cache(BTreeMap<Vec<u8>, Rc<Entry>>);

impl Cache {
    /// The region that a stored key is in.
    pub(crate) fn find(&self, stored: &[u8]) -> Option<Rc<Entry>> {
        let (_, entry) = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(stored))).next_back()?;
        entry.region.contains(stored).then(|| entry.clone())
    }

    /// The region of the keys just before a stored key.
    pub(crate) fn find_before(&self, stored: &[u8]) -> Option<Rc<Entry>> {
        let (_, entry) = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(stored))).next_back()?;
        entry.region.contains_inclusive(stored).then(|| entry.clone())
    }

    /// The region with this id.
    pub(crate) fn of(&self, region: RegionId) -> Option<Rc<Entry>> {
        self.0.values().find(|entry| entry.region.id == region).cloned()
    }

    /// Notes a region, in place of all older ones that it overlaps; where a newer one is known, that stays. The entry to go on with.
    pub(crate) fn insert(&mut self, region: Region, leader: Option<StoreId>) -> Rc<Entry> {
        let overlapping = self.overlapping(&region);
        if let [same] = overlapping.as_slice()
            && same.region == region
        {
            if leader.is_some() {
                same.leader.set(leader);
            }
            return same.clone();
        }
        let newer = |entry: &Rc<Entry>| {
            let (there, here) = (entry.region.epoch, region.epoch);
            there.version > here.version
                || (entry.region.id == region.id
                    && there.version == here.version
                    && there.conf_ver > here.conf_ver)
        };
        let is_old = overlapping.iter().any(newer);
        let kept = overlapping.iter().find(|entry| entry.region.id == region.id);
        let leader = leader.or_else(|| kept.and_then(|entry| entry.leader.get()));
        let entry = Rc::new(Entry::new(region, leader));
        if !is_old {
            for older in overlapping {
                self.0.remove(&older.region.start);
            }
            self.0.insert(entry.region.start.clone(), entry.clone());
        }
        entry
    }

    /// Forgets a region that turned out not to be so.
    pub(crate) fn remove(&mut self, entry: &Rc<Entry>) {
        if self.0.get(&entry.region.start).is_some_and(|there| Rc::ptr_eq(there, entry)) {
            self.0.remove(&entry.region.start);
        }
    }

    fn overlapping(&self, region: &Region) -> Vec<Rc<Entry>> {
        let upper = match region.end.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(region.end.as_slice()),
        };
        let before_end = self.0.range::<[u8], _>((Bound::Unbounded, upper)).rev();
        let is_beyond_start =
            |entry: &Rc<Entry>| entry.region.end.is_empty() || entry.region.end > region.start;
        before_end.map(|(_, entry)| entry.clone()).take_while(is_beyond_start).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_types::{Epoch, Peer, PeerId};

    fn region(id: u64, start: &str, end: &str, version: u64) -> Region {
        let peers = (1..=3).map(|store| Peer { id: PeerId(store), store: StoreId(store), ..Peer::default() });
        Region {
            id: RegionId(id),
            start: start.into(),
            end: end.into(),
            epoch: Epoch { conf_ver: 1, version },
            peers: peers.collect(),
        }
    }

    fn found(cache: &Cache, key: &str) -> Option<u64> {
        cache.find(key.as_bytes()).map(|entry| entry.region.id.0)
    }

    #[test]
    fn a_split_replaces_what_it_divides_and_an_old_region_does_not_come_back() {
        let mut cache = Cache::default();
        cache.insert(region(1, "a", "z", 1), Some(StoreId(2)));
        cache.insert(region(1, "a", "m", 2), None);
        assert_eq!((found(&cache, "b"), found(&cache, "m")), (Some(1), None));
        assert_eq!(cache.find(b"b").unwrap().target(0), Some(StoreId(2)));
        cache.insert(region(5, "m", "", 2), Some(StoreId(2)));
        assert_eq!((found(&cache, "m"), found(&cache, "zz")), (Some(5), Some(5)));
        cache.insert(region(1, "a", "z", 1), None);
        assert_eq!((found(&cache, "b"), found(&cache, "n")), (Some(1), Some(5)));
        assert_eq!(cache.find_before(b"m").unwrap().region.id, RegionId(1));
        assert_eq!(cache.find_before(b"ma").unwrap().region.id, RegionId(5));
    }

    #[test]
    fn where_no_leader_is_known_members_are_asked_in_turn() {
        let mut cache = Cache::default();
        let entry = cache.insert(region(1, "", "", 1), None);
        let asked: Vec<_> = (0..4).filter_map(|tries| entry.target(tries)).map(|store| store.0).collect();
        assert_eq!(asked, [1, 2, 3, 1]);
        entry.set_leader(StoreId(3));
        entry.is_not_leader(StoreId(1));
        assert_eq!(entry.target(0), Some(StoreId(3)));
        entry.is_not_leader(StoreId(3));
        assert_eq!(entry.target(0), Some(StoreId(1)));
    }
}
