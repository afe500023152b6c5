//! Which region a key belongs to, and which core of this store works on it.
//!
//! Every core has a copy; changes travel by mailbox. A copy may be behind for a moment: the core that gets a call for a region
//! that it no longer has says so, and the caller looks again.

use pinion_types::{CoreId, Region, RegionId};
use std::collections::BTreeMap;
use std::ops::Bound;

/// A region and its core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The region, with its range and epoch.
    pub region: Region,
    /// The core that works on it.
    pub core: CoreId,
    /// How often the region changed cores; the higher one is the newer route of the same epoch.
    pub generation: u64,
}

/// The store's regions by their first key.
#[derive(Clone, Debug, Default)]
pub struct Router {
    by_start: BTreeMap<Vec<u8>, Route>,
    starts: BTreeMap<RegionId, Vec<u8>>,
}

impl Router {
    /// Takes a route in, unless what is there is as new or newer. Routes that it overlaps and supersedes are dropped.
    pub fn insert(&mut self, route: Route) {
        let newer = |there: &Route| {
            let rank =
                |route: &Route| (route.region.epoch.version, route.region.epoch.conf_ver, route.generation);
            rank(there) > rank(&route)
        };
        if self.get(route.region.id).is_some_and(newer) {
            return;
        }
        let overlapping: Vec<RegionId> =
            self.overlapping(&route.region).map(|there| there.region.id).collect();
        for id in overlapping {
            let there = self.get(id).expect("an overlapping region is in the table");
            if id == route.region.id || there.region.epoch.version < route.region.epoch.version {
                self.remove(id);
            }
        }
        self.remove(route.region.id);
        self.starts.insert(route.region.id, route.region.start.clone());
        self.by_start.insert(route.region.start.clone(), route);
    }

    /// Forgets a region.
    pub fn remove(&mut self, id: RegionId) {
        if let Some(start) = self.starts.remove(&id)
            && self.by_start.get(&start).is_some_and(|route| route.region.id == id)
        {
            self.by_start.remove(&start);
        }
    }

    /// The region that a stored key lies in.
    pub fn find(&self, key: &[u8]) -> Option<&Route> {
        let (_, route) =
            self.by_start.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        route.region.contains(key).then_some(route)
    }

    /// The region that holds the stored keys just before `key`; the last region when `key` is empty.
    pub fn find_before(&self, key: &[u8]) -> Option<&Route> {
        if key.is_empty() {
            return self.by_start.values().next_back();
        }
        self.by_start
            .range::<[u8], _>((Bound::Unbounded, Bound::Excluded(key)))
            .next_back()
            .map(|(_, route)| route)
    }

    /// A region by its id.
    pub fn get(&self, id: RegionId) -> Option<&Route> {
        self.by_start.get(self.starts.get(&id)?)
    }

    /// All regions in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Route> {
        self.by_start.values()
    }

    /// The routes whose regions have keys of this one's range.
    pub fn overlapping<'a>(&'a self, region: &'a Region) -> impl Iterator<Item = &'a Route> {
        self.by_start.values().filter(move |there| {
            let ends_after = |end: &[u8], start: &[u8]| end.is_empty() || end > start;
            ends_after(&there.region.end, &region.start) && ends_after(&region.end, &there.region.start)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_types::Epoch;

    fn route(id: u64, start: &str, end: &str, version: u64, core: u16) -> Route {
        let region = Region {
            id: RegionId(id),
            start: start.into(),
            end: end.into(),
            epoch: Epoch { conf_ver: 1, version },
            peers: Vec::new(),
        };
        Route { region, core: CoreId(core), generation: 0 }
    }

    fn found(router: &Router, key: &str) -> Option<u64> {
        router.find(key.as_bytes()).map(|route| route.region.id.0)
    }

    #[test]
    fn a_key_finds_its_region() {
        let mut router = Router::default();
        router.insert(route(1, "", "m", 1, 0));
        router.insert(route(2, "m", "", 1, 0));
        assert_eq!(found(&router, "a"), Some(1));
        assert_eq!(found(&router, "m"), Some(2));
        assert_eq!(router.find_before(b"m").unwrap().region.id, RegionId(1));
        assert_eq!(router.find_before(b"").unwrap().region.id, RegionId(2));
    }

    #[test]
    fn a_split_supersedes_its_parent_in_either_order() {
        let halves = [route(1, "", "m", 2, 0), route(2, "m", "", 2, 1)];
        for order in [[0, 1], [1, 0]] {
            let mut router = Router::default();
            router.insert(route(1, "", "", 1, 0));
            for index in order {
                router.insert(halves[index].clone());
            }
            assert_eq!((found(&router, "a"), found(&router, "z")), (Some(1), Some(2)));
        }
    }

    #[test]
    fn an_older_route_changes_nothing() {
        let mut router = Router::default();
        router.insert(Route { generation: 3, ..route(1, "", "", 2, 1) });
        router.insert(route(1, "", "", 1, 0));
        router.insert(Route { generation: 2, ..route(1, "", "", 2, 0) });
        assert_eq!(router.get(RegionId(1)).unwrap().core, CoreId(1));
    }
}
