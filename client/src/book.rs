//! What is known of stores: where each listens, and on which of its cores each region is.

use pinion_capnp::{RegionInfo, StoreInfo, StoreRecord};
use pinion_runtime::{Instant, now};
use pinion_types::map::HashMap;
use pinion_types::{CoreId, RegionId, StoreId};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How long it is believed on which cores a store's regions are: regions change cores without telling clients, and a call that comes to
/// the wrong core is passed on, at a cost.
const CORES_FRESH: Duration = Duration::from_secs(10);

/// The cluster's stores.
#[derive(Debug, Default)]
pub(crate) struct Book(BTreeMap<StoreId, Known>);

#[derive(Debug, Default)]
struct Known {
    record: StoreRecord,
    addresses: Vec<SocketAddr>,
    /// Where it was reached, whatever it says of itself.
    reached: Option<SocketAddr>,
    cores: HashMap<RegionId, CoreId>,
    /// When the cores were asked for last.
    cores_asked: Option<Instant>,
}

impl Book {
    /// Notes a store of the cluster's list.
    pub(crate) fn note(&mut self, record: StoreRecord) {
        let known = self.0.entry(record.id).or_default();
        if known.addresses.is_empty() || known.record.version < record.version {
            let addresses: Vec<_> = record.addresses.iter().filter_map(|text| text.parse().ok()).collect();
            if !addresses.is_empty() {
                known.addresses = addresses;
            }
            known.record = record;
        }
    }

    /// Notes what a store says of itself, and where it was asked.
    pub(crate) fn note_itself(&mut self, info: &StoreInfo, at: SocketAddr) {
        self.note(StoreRecord { id: info.store, addresses: info.addresses.clone(), version: 0 });
        if let Some(known) = self.0.get_mut(&info.store) {
            known.reached = Some(at);
        }
    }

    /// The stores, in the order of their ids.
    pub(crate) fn stores(&self) -> Vec<StoreId> {
        self.0.keys().copied().collect()
    }

    /// What the cluster says of its stores.
    pub(crate) fn records(&self) -> Vec<StoreRecord> {
        self.0.iter().map(|(id, known)| StoreRecord { id: *id, ..known.record.clone() }).collect()
    }

    /// Where a core of a store listens, and where else the store may be reached.
    pub(crate) fn addresses(&self, store: StoreId, core: CoreId) -> Vec<SocketAddr> {
        let Some(known) = self.0.get(&store) else { return Vec::new() };
        let own = known.addresses.get(usize::from(core.0));
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in own.into_iter().chain(known.addresses.first()).chain(&known.reached) {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        addresses
    }

    /// The core of a store that a region is on; 0 where that is not known.
    pub(crate) fn core_of(&self, store: StoreId, region: RegionId) -> CoreId {
        let known = self.0.get(&store).and_then(|known| known.cores.get(&region));
        known.copied().unwrap_or_default()
    }

    /// Whether it is time to ask a store for its regions' cores. Who is told so does ask.
    pub(crate) fn take_turn_to_ask(&mut self, store: StoreId, region: RegionId) -> bool {
        let Some(known) = self.0.get_mut(&store) else { return false };
        // A store of one core has nothing to tell.
        if known.addresses.len() < 2 {
            return false;
        }
        let patience = if known.cores.contains_key(&region) { CORES_FRESH } else { CORES_FRESH / 20 };
        let is_due = known.cores_asked.is_none_or(|asked| asked.elapsed() >= patience);
        if is_due {
            known.cores_asked = Some(now());
        }
        is_due
    }

    /// Notes the cores of all of a store's regions.
    pub(crate) fn note_cores(&mut self, store: StoreId, regions: &[RegionInfo]) {
        if let Some(known) = self.0.get_mut(&store) {
            known.cores = regions.iter().map(|info| (info.region.id, info.core)).collect();
        }
    }

    /// Notes the core of one region.
    pub(crate) fn note_core(&mut self, store: StoreId, region: RegionId, core: CoreId) {
        if let Some(known) = self.0.get_mut(&store) {
            known.cores.insert(region, core);
        }
    }
}
