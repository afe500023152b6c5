//! A store in memory behind the wire's traits: for tests of the wire, and to measure the wire alone.
//!
//! Regions are there only as far as the wire can show them: they are split, have epochs and are checked against contexts.

use bytes::Bytes;
use pinion_capnp::{
    AdminService, Atomicity, Context, JoinRequest, Joined, OperationKind, Operations, Page, Pairs,
    PeerChange, PeerChangeKind, RawAnswer, RawCall, RawReply, RawRequest, RawService, RegionInfo, RegionPage,
    Remaining, Results, Scan, StoreInfo, StoreRecord, WireError,
};
use pinion_runtime::{Instant, now};
use pinion_types::key::Zone;
use pinion_types::{ColumnFamily, Epoch, Peer, PeerId, PeerRole, Region, RegionId, StoreId};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

const STORE: StoreId = StoreId(1);

struct Entry {
    value: Bytes,
    expires: Option<Instant>,
}

impl Entry {
    fn is_live(&self) -> bool {
        self.expires.is_none_or(|expires| now() < expires)
    }
}

/// The store. Clones share it.
#[derive(Clone)]
pub(crate) struct Memory(Rc<Inner>);

struct Inner {
    families: [RefCell<BTreeMap<Vec<u8>, Entry>>; 3],
    regions: RefCell<Vec<Region>>,
    /// How long each call takes.
    delay: Cell<Duration>,
    /// Calls that began and neither ended nor were dropped.
    running: Cell<usize>,
    /// What the next calls are refused with, if anything.
    refusals: RefCell<Vec<WireError>>,
    /// The cluster's stores, each with the token that it joined with.
    stores: RefCell<Vec<(u64, StoreRecord)>>,
}

/// A call that counts as running until it is dropped.
struct Running(Rc<Inner>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
    }
}

impl Memory {
    /// An empty store with one region, which holds all raw keys.
    pub(crate) fn new() -> Self {
        let peer = Peer { id: PeerId(1), store: STORE, role: PeerRole::Voter };
        let region = Region {
            id: RegionId(1),
            start: vec![Zone::Raw.prefix()],
            end: Zone::Raw.end().to_vec(),
            epoch: Epoch::INITIAL,
            peers: vec![peer],
        };
        Self(Rc::new(Inner {
            families: Default::default(),
            regions: RefCell::new(vec![region]),
            delay: Cell::default(),
            running: Cell::default(),
            refusals: RefCell::default(),
            stores: RefCell::new(vec![(0, StoreRecord { id: STORE, ..StoreRecord::default() })]),
        }))
    }

    /// Lets each call take so long.
    #[allow(dead_code, reason = "not every user of this module does")]
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.0.delay.set(delay);
    }

    /// How many calls run.
    #[allow(dead_code, reason = "not every user of this module does")]
    pub(crate) fn running(&self) -> usize {
        self.0.running.get()
    }

    /// Refuses the next call.
    #[allow(dead_code, reason = "not every user of this module does")]
    pub(crate) fn refuse_next(&self, error: WireError) {
        self.0.refusals.borrow_mut().push(error);
    }

    fn family(&self, family: ColumnFamily) -> &RefCell<BTreeMap<Vec<u8>, Entry>> {
        &self.0.families[usize::from(family.as_byte())]
    }

    fn read(&self, family: ColumnFamily, key: &[u8]) -> Option<Bytes> {
        let map = self.family(family).borrow();
        map.get(key).filter(|entry| entry.is_live()).map(|entry| entry.value.clone())
    }

    fn write(&self, family: ColumnFamily, key: &[u8], value: &[u8], ttl: Option<Duration>) {
        let entry = Entry { value: Bytes::copy_from_slice(value), expires: ttl.map(|ttl| now() + ttl) };
        self.family(family).borrow_mut().insert(key.to_vec(), entry);
    }

    fn stores_now(&self) -> Vec<StoreRecord> {
        self.0.stores.borrow().iter().map(|(_, record)| record.clone()).collect()
    }

    fn region_of(&self, key: &[u8]) -> RegionId {
        let stored = Zone::Raw.stored(key);
        let regions = self.0.regions.borrow();
        regions.iter().find(|region| region.contains(&stored)).expect("regions cover all raw keys").id
    }

    fn check(&self, context: &Context, keys: &mut dyn Iterator<Item = &[u8]>) -> Result<(), WireError> {
        if let Some(peer) = context.peer
            && peer.store != STORE
        {
            return Err(WireError::StoreNotMatch { requested: peer.store, actual: STORE });
        }
        let regions = self.0.regions.borrow();
        let region = regions.iter().find(|region| region.id == context.region);
        let region = region.ok_or(WireError::RegionNotFound(context.region))?;
        if context.epoch.is_some_and(|epoch| epoch.version != region.epoch.version) {
            return Err(WireError::EpochNotMatch { current: vec![region.clone()] });
        }
        for key in keys {
            if !region.contains(&Zone::Raw.stored(key)) {
                return Err(WireError::KeyNotInRegion {
                    key: key.to_vec(),
                    region: region.id,
                    start: region.start.clone(),
                    end: region.end.clone(),
                });
            }
        }
        Ok(())
    }

    fn answer(&self, request: RawRequest) -> RawAnswer {
        if let Some(error) = self.0.refusals.borrow_mut().pop() {
            return Err(error);
        }
        if let Some(context) = &request.context {
            self.check_call(context, &request.call)?;
        }
        match request.call {
            RawCall::Get { family, key } => Ok(RawReply::Value(self.read(family, &key))),
            RawCall::Put { family, key, value, ttl } => {
                self.write(family, &key, &value, ttl);
                Ok(RawReply::Done)
            }
            RawCall::Delete { family, key } => {
                self.family(family).borrow_mut().remove(&key);
                Ok(RawReply::Done)
            }
            RawCall::Batch { operations, atomicity } => self.batch(&operations, atomicity),
            RawCall::DeleteRange { family, start, end } => {
                self.family(family)
                    .borrow_mut()
                    .retain(|key, _| *key < start || (!end.is_empty() && *key >= end));
                Ok(RawReply::Done)
            }
            RawCall::Scan(scan) => Ok(RawReply::Page(self.scan(&scan))),
            RawCall::CompareAndSwap { family, key, expected, value, ttl } => {
                let previous = self.read(family, &key);
                let swapped = previous.as_deref() == expected.as_deref();
                if swapped {
                    self.write(family, &key, &value, ttl);
                }
                Ok(RawReply::Swap { swapped, previous })
            }
            RawCall::TimeToLive { family, key } => Ok(RawReply::TimeToLive(self.remaining(family, &key))),
        }
    }

    fn check_call(&self, context: &Context, call: &RawCall) -> Result<(), WireError> {
        match call {
            RawCall::Get { key, .. }
            | RawCall::Put { key, .. }
            | RawCall::Delete { key, .. }
            | RawCall::CompareAndSwap { key, .. }
            | RawCall::TimeToLive { key, .. } => self.check(context, &mut std::iter::once(key.as_slice())),
            RawCall::Batch { operations, .. } => {
                self.check(context, &mut operations.iter().map(|operation| operation.key))
            }
            RawCall::DeleteRange { start, .. } => self.check(context, &mut std::iter::once(start.as_slice())),
            RawCall::Scan(_) => self.check(context, &mut std::iter::empty()),
        }
    }

    fn remaining(&self, family: ColumnFamily, key: &[u8]) -> Remaining {
        let map = self.family(family).borrow();
        match map.get(key).filter(|entry| entry.is_live()) {
            None => Remaining::NotFound,
            Some(Entry { expires: None, .. }) => Remaining::Forever,
            Some(Entry { expires: Some(expires), .. }) => Remaining::For(expires.since(now())),
        }
    }

    fn batch(&self, operations: &Operations, atomicity: Atomicity) -> RawAnswer {
        let regions = self.0.regions.borrow().len();
        if atomicity == Atomicity::Whole && regions > 1 {
            let first = self.region_of(operations.at(0).key);
            if operations.iter().any(|operation| self.region_of(operation.key) != first) {
                return Err(WireError::BatchSpansRegions);
            }
        }
        let mut results = Results::done(operations.len());
        for (index, operation) in operations.iter().enumerate() {
            if operation.kind == OperationKind::Get {
                let map = self.family(operation.family).borrow();
                match map.get(operation.key).filter(|entry| entry.is_live()) {
                    None => results.set_not_found(index),
                    Some(entry) => results.set_value(index, &entry.value),
                }
            }
        }
        for operation in operations.iter() {
            match operation.kind {
                OperationKind::Get => {}
                OperationKind::Put { value, ttl } => self.write(operation.family, operation.key, value, ttl),
                OperationKind::Delete => {
                    self.family(operation.family).borrow_mut().remove(operation.key);
                }
            }
        }
        Ok(RawReply::Results(results))
    }

    fn scan(&self, scan: &Scan) -> Page {
        let map = self.family(scan.family).borrow();
        let start = Bound::Included(scan.start.as_slice());
        let end = if scan.end.is_empty() { Bound::Unbounded } else { Bound::Excluded(scan.end.as_slice()) };
        if !scan.end.is_empty() && scan.start >= scan.end {
            return Page::default();
        }
        let range = map.range::<[u8], _>((start, end)).filter(|(_, entry)| entry.is_live());
        if scan.reverse { page(range.rev(), scan) } else { page(range, scan) }
    }
}

fn page<'a>(range: impl Iterator<Item = (&'a Vec<u8>, &'a Entry)>, scan: &Scan) -> Page {
    let mut pairs = Pairs::default();
    let mut last: Option<&[u8]> = None;
    for (key, entry) in range {
        let value = if scan.keys_only { &[][..] } else { &entry.value };
        let is_full = !pairs.is_empty() && pairs.size_bytes() + key.len() + value.len() > scan.bytes_max;
        if pairs.len() >= scan.limit || is_full {
            // Backwards, the next end is just behind the key that comes next.
            let resume = if scan.reverse { last.unwrap_or(key) } else { key };
            return Page { pairs, resume: Some(resume.to_vec()) };
        }
        pairs.push(key, value);
        last = Some(key);
    }
    Page { pairs, resume: None }
}

impl RawService for Memory {
    fn call(&self, request: RawRequest) -> impl Future<Output = RawAnswer> + 'static {
        let memory = self.clone();
        let running = Running(self.0.clone());
        self.0.running.set(self.0.running.get() + 1);
        async move {
            let delay = memory.0.delay.get();
            if !delay.is_zero() {
                pinion_runtime::sleep(delay).await;
            }
            drop(running);
            memory.answer(request)
        }
    }
}

impl AdminService for Memory {
    fn regions(
        &self,
        start: Vec<u8>,
        limit: usize,
    ) -> impl Future<Output = Result<RegionPage, WireError>> + 'static {
        let regions = self.0.regions.borrow();
        let mut matching = regions.iter().filter(|region| region.end.is_empty() || region.end > start);
        let infos = matching.by_ref().take(limit).cloned();
        let infos = infos.map(|region| RegionInfo { region, ..RegionInfo::default() }).collect();
        let resume = matching.next().map(|region| region.start.clone());
        std::future::ready(Ok(RegionPage { regions: infos, resume }))
    }

    fn split(
        &self,
        keys: Vec<Vec<u8>>,
    ) -> impl Future<Output = Result<Vec<RegionInfo>, WireError>> + 'static {
        let mut regions = self.0.regions.borrow_mut();
        let mut changed = Vec::new();
        for key in keys {
            let stored = Zone::Raw.stored(&key);
            let next = RegionId(regions.len() as u64 + 1);
            let Some(index) = regions.iter().position(|region| region.contains_exclusive(&stored)) else {
                continue;
            };
            let left = &mut regions[index];
            left.epoch.version += 1;
            let right = Region { id: next, start: stored.clone(), ..left.clone() };
            left.end = stored;
            changed.extend([left.clone(), right.clone()]);
            regions.insert(index + 1, right);
        }
        let infos = changed.into_iter().map(|region| RegionInfo { region, ..RegionInfo::default() });
        std::future::ready(Ok(infos.collect()))
    }

    fn info(&self) -> StoreInfo {
        StoreInfo { store: STORE, cluster: 7, version: "memory".into(), cores: 1, ..StoreInfo::default() }
    }

    fn statistics(&self) -> impl Future<Output = String> + 'static {
        std::future::ready(format!("regions {}\n", self.0.regions.borrow().len()))
    }

    fn stores(&self) -> impl Future<Output = Result<Vec<StoreRecord>, WireError>> + 'static {
        std::future::ready(Ok(self.stores_now()))
    }

    fn join(&self, request: JoinRequest) -> impl Future<Output = Result<Joined, WireError>> + 'static {
        let mut stores = self.0.stores.borrow_mut();
        let known = stores.iter().find(|(token, _)| *token == request.token).map(|(_, record)| record.id);
        let store = known.unwrap_or(StoreId(stores.len() as u64 + 1));
        if known.is_none() {
            let record = StoreRecord { id: store, addresses: request.addresses, version: 1 };
            stores.push((request.token, record));
        }
        drop(stores);
        std::future::ready(Ok(Joined { cluster: 7, store, stores: self.stores_now() }))
    }

    fn announce(
        &self,
        store: StoreId,
        addresses: Vec<String>,
    ) -> impl Future<Output = Result<(), WireError>> + 'static {
        let mut stores = self.0.stores.borrow_mut();
        let record = stores.iter_mut().map(|(_, record)| record).find(|record| record.id == store);
        let outcome = record.map(|record| {
            record.addresses = addresses;
            record.version += 1;
        });
        std::future::ready(outcome.ok_or_else(|| WireError::invalid("no such store")))
    }

    fn change_peers(
        &self,
        region: RegionId,
        changes: Vec<PeerChange>,
    ) -> impl Future<Output = Result<RegionInfo, WireError>> + 'static {
        let mut regions = self.0.regions.borrow_mut();
        let found = regions.iter_mut().find(|known| known.id == region);
        let outcome = found.map(|region| {
            for change in changes {
                region.peers.retain(|peer| peer.store != change.store);
                let role = match change.kind {
                    PeerChangeKind::AddVoter => PeerRole::Voter,
                    PeerChangeKind::AddLearner => PeerRole::Learner,
                    PeerChangeKind::Remove => continue,
                };
                region.peers.push(Peer { id: PeerId(change.store.0 * 10), store: change.store, role });
            }
            let peers_pending = region.peers.iter().skip(1).map(|peer| peer.id).collect();
            RegionInfo { region: region.clone(), peers_pending, is_leader: true, ..RegionInfo::default() }
        });
        std::future::ready(outcome.ok_or(WireError::RegionNotFound(region)))
    }

    fn transfer_leader(
        &self,
        region: RegionId,
        to: StoreId,
    ) -> impl Future<Output = Result<(), WireError>> + 'static {
        let regions = self.0.regions.borrow();
        let known = regions.iter().find(|known| known.id == region && known.peer_on(to).is_some());
        std::future::ready(known.map(drop).ok_or(WireError::RegionNotFound(region)))
    }

    fn region(&self, stored_key: Vec<u8>) -> impl Future<Output = Result<RegionInfo, WireError>> + 'static {
        let regions = self.0.regions.borrow();
        let found = regions.iter().find(|region| region.contains(&stored_key)).cloned();
        let info = found.map(|region| RegionInfo { region, ..RegionInfo::default() });
        std::future::ready(info.ok_or_else(|| WireError::invalid("no region has this key")))
    }
}
