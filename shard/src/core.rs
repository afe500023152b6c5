//! A core at work: the loop that turns calls into durable, applied entries.
//!
//! One turn of [`Shard::run`]: collect what every region wants written, write it in one group with one sync, and when that is durable let the
//! regions commit, apply and answer. While a group is on its way the next turn collects, so that commands that come meanwhile share an
//! entry, and regions share a write.
//!
//! What must not happen here: waiting for anything but the bell between turns; work for a region that has none; an answer before the entry
//! was applied.

use crate::admission::{Admission, AdmissionLimits};
use crate::appends::in_appends;
use crate::error::ShardError;
use crate::event::Event;
use crate::links::Links;
use crate::message::Message;
use crate::peer::{Peer, Persist, Proposal, Turn};
use crate::router::{Route, Router};
use crate::snapshots::Incoming;
use crate::stop::UnderWay;
use crate::structures::Tombstone;
use pinion_engine::log::{Durability, Ticket};
use pinion_engine::{Engine, RegionSnapshot};
use pinion_runtime::{Instant, mailbox};
use pinion_types::map::{HashMap, HashSet};
use pinion_types::{CoreId, LogIndex, PeerId, RegionId, StoreId, Term};
use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// Calls under way from which on a turn waits for more to come, and how long. The clients of the turn before are just being answered and ask
/// again within that time: a turn has a fifth more commands for it, and 50 clients get 5 % more done.
const GATHER_FROM: usize = 8;
const GATHER_FOR: Duration = Duration::from_micros(10);
/// Least election timeouts without a leader after which a peer asks whether it is still a member. A group that can elect one has by then.
const INQUIRE_ELECTIONS: u32 = 5;
/// How long a compaction that is to bring the log back within its bound may take before the bound is looked at again.
const LOG_BOUND_WAIT: Duration = Duration::from_millis(20);

/// What a core accepts.
#[derive(Clone, Copy, Debug)]
pub struct ShardLimits {
    /// Calls and bytes under way.
    pub admission: AdmissionLimits,
    /// Entries that a region's log keeps below its applied index before it is compacted. Default 16384. Too small: compaction
    /// runs often. Too large: memory for the log's index. Counterpart: TiKV's `raft-log-gc-count-limit`.
    pub log_entries_max: u64,
    /// Bytes of entries that a region's log keeps below its applied index before it is compacted. Default 16 MiB. As above. A slow follower
    /// is waited for up to four times as much, one that is sent a snapshot up to twice the snapshot's bytes more, and up to 16 times as many
    /// entries. Counterpart: TiKV's `raft-log-gc-size-limit`.
    pub log_bytes_max: u64,
    /// Bytes of a scan's answer.
    pub scan_bytes_max: usize,
    /// Bytes a second of each region snapshot that the core sends; 0 is no bound. Default 100 MB. Too small: a new peer, or one that
    /// was away for long, takes long to be of use. Too large: the disk and the network are busy with it when callers need them.
    /// Counterpart: TiKV's `snap-io-max-bytes-per-sec`.
    pub snapshot_bytes_per_second: u64,
    /// Bytes from which on a region is split in two, superseded versions not counted; 0 never splits. Default 256 MiB. Too small: many regions, each
    /// with a log, heartbeats and small tables of its own. Too large: one core and one leader have all the work, and a new peer waits long
    /// for its data. Counterpart: TiKV's `region-split-size`.
    pub region_split_bytes: u64,
    /// Keys from which on a region is split in two, every version of a transactional key counted; 0 never splits. Default 2560000. As above.
    /// Counterpart: TiKV's `region-split-keys`.
    pub region_split_keys: u64,
    /// Voters that a region which this core leads is given, where there are as many stores. Default 3; 0 leaves its members to the operator.
    /// Too small: a region is lost with fewer stores. Too large: each write is made so many times, and waits for most of them. It takes no
    /// voter away. Counterpart: PD's `max-replicas`.
    pub replicas: usize,
    /// How fast regions notice that a leader is gone.
    pub raft: RaftTiming,
}

/// The clockwork of every region's Raft; the same on all stores of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct RaftTiming {
    /// Time between two ticks. Default 50 ms. Too small: processor time for nothing. Too large: a dead leader is missed late.
    /// Counterpart: TiKV's `raft-base-tick-interval`.
    pub tick: Duration,
    /// Ticks without a leader after which a follower may campaign; the timeout is drawn from once to twice this. Default 12: 600 to
    /// 1200 ms. Too small: a busy processor or disk deposes good leaders. Too large: writes wait longer when a leader dies.
    /// Counterpart: TiKV's `raft-election-timeout-ticks`.
    pub election_ticks: usize,
    /// Ticks between two heartbeats of a leader. Default 2. Too small: idle regions cost messages. Too large: leases run out between two.
    /// Counterpart: TiKV's `raft-heartbeat-ticks`.
    pub heartbeat_ticks: usize,
}

impl Default for RaftTiming {
    fn default() -> Self {
        Self { tick: Duration::from_millis(50), election_ticks: 12, heartbeat_ticks: 2 }
    }
}

impl RaftTiming {
    /// For how long whoever answered a heartbeat votes for nobody else: the least election timeout.
    pub fn promise(&self) -> Duration {
        self.tick * u32::try_from(self.election_ticks).unwrap_or(u32::MAX)
    }

    /// By how much two stores' clocks may differ over that time: a tenth, a hundred times what machines' clocks do.
    pub fn drift_max(&self) -> Duration {
        self.promise() / 10
    }
}

/// One core of a store: its regions, and the way to the other cores'.
#[derive(Clone)]
pub struct Shard(pub(crate) Rc<Inner>);

pub(crate) struct Inner {
    pub(crate) core: CoreId,
    pub(crate) store: StoreId,
    pub(crate) cluster: u64,
    pub(crate) engine: Engine,
    pub(crate) data_dir: PathBuf,
    pub(crate) limits: ShardLimits,
    pub(crate) admission: Rc<Admission>,
    pub(crate) router: RefCell<Router>,
    /// The cores on which the regions are, blank ones among them, which have no route.
    pub(crate) homes: RefCell<HashMap<RegionId, CoreId>>,
    /// How many cores have taken in all regions that the start has found. Before all have, nobody knows that a region is not here.
    pub(crate) cores_recovered: Cell<usize>,
    /// Other cores' messages that wait until this one has taken in its regions; nothing waits any more once it has.
    pub(crate) set_aside: RefCell<Option<Vec<Message>>>,
    pub(crate) mailbox: mailbox::Sender<Message>,
    /// The store is being stopped: other cores may have stopped already.
    pub(crate) ending: Cell<bool>,
    /// No more calls are taken.
    pub(crate) draining: Cell<bool>,
    pub(crate) drains: Event,
    pub(crate) stopping: Cell<bool>,
    /// Calls that other cores have sent here.
    pub(crate) calls_of_others: UnderWay,
    /// Why the core stopped serving, once it has.
    pub(crate) failure: RefCell<Option<String>>,
    pub(crate) links: Links,
    /// Peers of this store that were removed: the latest of each region.
    pub(crate) tombstones: RefCell<HashMap<RegionId, Tombstone>>,
    /// Regions whose peer is being made or deleted.
    pub(crate) in_transition: RefCell<HashSet<RegionId>>,
    /// Since when learners are not heard of whose regions this core leads.
    pub(crate) learners_lost: RefCell<HashMap<PeerId, Instant>>,
    /// Snapshots on their way in.
    pub(crate) incoming: RefCell<Vec<Incoming>>,
    /// How many are on their way out.
    pub(crate) sending: Cell<usize>,
    /// Those that were made here and whose files are on the disk: a peer that is gone, or has made another, leaves its own behind.
    pub(crate) snapshots_made: RefCell<Vec<Rc<RegionSnapshot>>>,
    /// How many regions this core has split because they were too large.
    pub(crate) regions_split: Cell<u64>,
    /// How often a peer's entries waited for room in the memtables.
    pub(crate) held_back: Cell<u64>,
    peers: RefCell<HashMap<RegionId, Rc<Peer>>>,
    /// Peers that have something to propose or to write.
    queue: RefCell<Vec<Rc<Peer>>>,
    work: Event,
    /// What was given to the log and is not known to be durable, in its order.
    writes: RefCell<VecDeque<Write>>,
    written: Event,
}

/// Parts of turns that are on their way to the log together.
struct Write {
    /// Nothing where they are as durable as what was written before them.
    ticket: Option<Ticket>,
    parts: Vec<(Rc<Peer>, Persist)>,
}

impl Shard {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Rc::new(Inner {
            core: parts.core,
            store: parts.store,
            cluster: parts.cluster,
            engine: parts.engine,
            data_dir: parts.data_dir,
            limits: parts.limits,
            admission: Admission::new(parts.limits.admission),
            router: RefCell::default(),
            homes: RefCell::new(parts.homes),
            cores_recovered: Cell::new(0),
            set_aside: RefCell::new(Some(Vec::new())),
            mailbox: parts.mailbox,
            ending: Cell::new(false),
            draining: Cell::new(false),
            drains: Event::default(),
            stopping: Cell::new(false),
            calls_of_others: UnderWay::default(),
            failure: RefCell::default(),
            links: Links::default(),
            tombstones: RefCell::new(parts.tombstones),
            in_transition: RefCell::default(),
            learners_lost: RefCell::default(),
            incoming: RefCell::default(),
            sending: Cell::new(0),
            snapshots_made: RefCell::default(),
            regions_split: Cell::new(0),
            held_back: Cell::new(0),
            peers: RefCell::default(),
            queue: RefCell::default(),
            work: Event::default(),
            writes: RefCell::default(),
            written: Event::default(),
        }))
    }

    /// This core.
    pub fn core(&self) -> CoreId {
        self.0.core
    }

    /// The store that this is a core of.
    pub fn store(&self) -> StoreId {
        self.0.store
    }

    /// The regions of the store as this core knows them.
    pub fn router(&self) -> Ref<'_, Router> {
        self.0.router.borrow()
    }

    /// The core's storage.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Why this core serves no more, if it does not.
    pub fn failure(&self) -> Option<String> {
        self.0.failure.borrow().clone()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.0.failure.borrow().is_some()
    }

    /// Turns for ever; ends when the core is stopped or has failed.
    pub(crate) async fn run(self) {
        pinion_runtime::spawn(self.clone().await_writes());
        while !self.0.stopping.get() && !self.has_failed() {
            self.0.work.wait().await;
            // What could not be written yet need not be collected yet: what comes meanwhile shares its entries.
            self.0.engine.log().wait_for_place().await;
            if self.0.admission.calls() >= GATHER_FROM {
                pinion_runtime::sleep(GATHER_FOR).await;
            }
            self.turn();
        }
    }

    /// What the queued peers want sent is sent, what they want written is given to the log, and then what they have committed is applied: a
    /// tree must not have what the log was not given, since its flushes are records behind it.
    fn turn(&self) {
        let queue = std::mem::take(&mut *self.0.queue.borrow_mut());
        for peer in &queue {
            peer.dequeued();
        }
        let parts = queue.iter().filter_map(|peer| self.take_from(peer, Peer::collect)).collect();
        self.persist(parts);
        for peer in queue {
            self.apply(&peer);
            if peer.has_work() && peer.takes_turns() {
                self.enqueue(&peer);
            }
        }
    }

    /// Puts a peer in the loop's queue.
    pub(crate) fn enqueue(&self, peer: &Rc<Peer>) {
        if peer.enqueue() {
            self.0.queue.borrow_mut().push(peer.clone());
            self.0.work.ring();
        }
    }

    /// What one peer wants written; its messages leave, and entries that Raft lacks begin to be loaded.
    fn take_from(
        &self,
        peer: &Rc<Peer>,
        take: impl FnOnce(&Peer) -> Option<Turn>,
    ) -> Option<(Rc<Peer>, Persist)> {
        if peer.is_gone() || peer.is_installing() {
            return None;
        }
        let turn = take(peer);
        self.load_entries(peer);
        let Turn { persist, messages } = turn?;
        self.send_to_peers(peer, messages);
        if peer.snapshots().begin() {
            self.make_snapshot(peer);
        }
        match persist? {
            persist if persist.snapshot().is_some() => {
                self.install_snapshot(peer, persist);
                None
            }
            persist => Some((peer.clone(), persist)),
        }
    }

    /// Gives a turn's records to the log, in one append if they fit; when they are durable the peers go on. The log of a core that has failed gets
    /// nothing more: it may lack what comes before.
    pub(crate) fn persist(&self, parts: Vec<(Rc<Peer>, Persist)>) {
        if parts.is_empty() || self.has_failed() {
            return;
        }
        let mut records = Vec::new();
        for (peer, persist) in &parts {
            persist.records(peer.id(), &mut records);
        }
        let must_sync = parts.iter().any(|(_, persist)| persist.must_sync());
        let durability = if must_sync { Durability::Sync } else { Durability::Buffered };
        let mut ticket = None;
        let mut refused = None;
        let bytes_max = self.0.engine.log().append_bytes_max();
        let appends = if records.is_empty() { Vec::new() } else { in_appends(records, bytes_max) };
        for append in appends {
            let mut part = self.0.engine.log().append(&append, durability);
            refused = part.refusal();
            if refused.is_some() {
                break;
            }
            // The log makes durable in order: the last speaks for all.
            ticket = Some(part);
        }
        if let Some(refused) = refused {
            return self.fail(&refused.into());
        }
        let must_wait = must_sync && ticket.is_some();
        if !must_wait && self.0.writes.borrow().is_empty() {
            return self.persisted(parts);
        }
        // Without records of its own, what is to be said waits for what was written before.
        self.0.writes.borrow_mut().push_back(Write { ticket: ticket.filter(|_| must_wait), parts });
        self.0.written.ring();
    }

    /// Waits for each write in its turn, for ever.
    async fn await_writes(self) {
        while !self.0.stopping.get() {
            let Some(ticket) = self.0.writes.borrow_mut().front_mut().map(|write| write.ticket.take()) else {
                self.0.written.wait().await;
                continue;
            };
            if let Some(ticket) = ticket
                && let Err(error) = ticket.await
            {
                return self.fail(&error.into());
            }
            let write = self.0.writes.borrow_mut().pop_front().expect("only this task takes writes away");
            self.persisted(write.parts);
        }
    }

    /// A turn is durable: the peers commit, apply and answer.
    fn persisted(&self, parts: Vec<(Rc<Peer>, Persist)>) {
        for (peer, persist) in parts {
            let messages = peer.persisted(persist);
            self.send_to_peers(&peer, messages);
            // What was just committed comes with the next Ready; taking it now saves a turn.
            self.advance(&peer);
        }
    }

    /// Takes what a peer committed, applies it, and sees to it that the peer gets another turn if it needs one. What is pending meanwhile waits
    /// for that turn, which brings more together.
    pub(crate) fn advance(&self, peer: &Rc<Peer>) {
        let part = self.take_from(peer, Peer::take_ready);
        self.persist(part.into_iter().collect());
        self.apply(peer);
        if peer.has_work() && peer.takes_turns() {
            self.enqueue(peer);
        }
    }

    /// Lets time pass for every peer that others depend on; for ever.
    pub(crate) async fn tick(self) {
        let election_ticks = u32::try_from(self.0.limits.raft.election_ticks).unwrap_or(u32::MAX);
        let inquire_ticks = election_ticks.saturating_mul(INQUIRE_ELECTIONS);
        while !self.0.stopping.get() {
            pinion_runtime::sleep(self.0.limits.raft.tick).await;
            for peer in self.peers() {
                let rests = peer.is_alone() && peer.is_leader();
                if !rests && !peer.is_deaf() {
                    peer.tick();
                    if peer.is_forgotten(inquire_ticks) {
                        self.inquire(&peer);
                    }
                    if peer.has_work() && peer.takes_turns() {
                        self.enqueue(&peer);
                    }
                }
            }
        }
    }

    pub(crate) fn compact_log_through(&self, peer: &Rc<Peer>, due: Option<(LogIndex, Term)>) {
        if let Some((index, term)) = due {
            // Nobody waits for it.
            drop(peer.propose(Proposal::Compact(index, term)));
            self.enqueue(peer);
        }
    }

    /// Compacts the logs that hold the core's log over its bound, be they as short as they may, but for what follows on a snapshot that is on
    /// its way; ends when the engine closes. A follower does so for itself: what its leader still needs of the log is the leader's own.
    pub(crate) async fn keep_log_in_bound(self) {
        while let Some(region) = self.0.engine.log_past_bound().await {
            if let Some(peer) = self.peer(region).filter(|peer| peer.takes_turns()) {
                let (log, bytes_max) = (self.0.engine.log(), self.0.engine.options().replay_bytes_max);
                let due = peer.compaction_past_bound(log, log.live_bytes().saturating_sub(bytes_max));
                match due {
                    Some((index, term)) if !peer.is_leader() => self.compact_here(&peer, index, term),
                    due => self.compact_log_through(&peer, due),
                }
            }
            pinion_runtime::sleep(LOG_BOUND_WAIT).await;
        }
    }

    /// The core can't go on: it stops serving and says why. Nothing that was acknowledged is touched.
    pub(crate) fn fail(&self, error: &ShardError) {
        // The cores of a store that stops do so one after the other. What waited for one that has stopped goes on with the next start.
        if self.0.ending.get() && matches!(error, ShardError::CoreStopped(_)) {
            return log::debug!("core {} stops, and does without what it waited for: {error}", self.0.core);
        }
        log::error!("core {} stops serving: {error}", self.0.core);
        self.0.failure.borrow_mut().get_or_insert_with(|| error.to_string());
        for peer in self.peers() {
            peer.abandon(false);
        }
    }

    /// A region's peer on this core.
    pub(crate) fn peer(&self, id: RegionId) -> Option<Rc<Peer>> {
        self.0.peers.borrow().get(&id).cloned()
    }

    /// All peers of this core, in the order of their regions' ids.
    pub(crate) fn peers(&self) -> Vec<Rc<Peer>> {
        let mut peers: Vec<_> = self.0.peers.borrow().values().cloned().collect();
        peers.sort_by_key(|peer| peer.id());
        peers
    }

    /// Takes a peer in and lets every core know.
    pub(crate) fn add_peer(&self, peer: &Rc<Peer>) {
        self.hold_peer(peer);
        self.announce(peer);
        self.enqueue(peer);
    }

    /// Takes a peer in that a start has found. One that its region has removed, and that a crash kept from being deleted, goes now.
    pub(crate) fn begin_peer(&self, peer: &Rc<Peer>) {
        if peer.is_blank() {
            self.hold_peer(peer);
            return self.settle(peer.id());
        }
        if !peer.has_member(peer.peer().id) {
            self.hold_peer(peer);
            return self.destroy(peer);
        }
        if peer.is_alone() {
            peer.lead();
        }
        self.add_peer(peer);
    }

    /// Takes a peer in that is not to serve.
    pub(crate) fn hold_peer(&self, peer: &Rc<Peer>) {
        self.0.peers.borrow_mut().insert(peer.id(), peer.clone());
    }

    /// Whether a peer is taken in.
    pub(crate) fn holds(&self, peer: &Rc<Peer>) -> bool {
        self.0.peers.borrow().get(&peer.id()).is_some_and(|there| Rc::ptr_eq(there, peer))
    }

    /// Drops a peer that another core has taken over.
    pub(crate) fn remove_peer(&self, id: RegionId) {
        self.0.peers.borrow_mut().remove(&id);
    }

    /// Tells every core where a region is. What is on a core that there is no more is nobody's to know.
    pub(crate) fn announce(&self, peer: &Peer) {
        if usize::from(self.0.core.0) >= self.0.mailbox.cores() {
            return;
        }
        let route = self.route_of(peer);
        self.learn_route(route.clone());
        for core in self.other_cores() {
            self.send(core, Message::Route(route.clone()));
        }
    }

    pub(crate) fn route_of(&self, peer: &Peer) -> Route {
        Route { region: peer.region().clone(), core: self.0.core, generation: peer.generation() }
    }

    /// Notes where a region is.
    pub(crate) fn learn_route(&self, route: Route) {
        let mut router = self.0.router.borrow_mut();
        let region = route.region.id;
        router.insert(route);
        if let Some(there) = router.get(region) {
            self.0.homes.borrow_mut().insert(region, there.core);
        }
    }

    /// Tells every core that a region is on this one, which has no route.
    pub(crate) fn settle(&self, region: RegionId) {
        if usize::from(self.0.core.0) >= self.0.mailbox.cores() {
            return;
        }
        self.0.homes.borrow_mut().insert(region, self.0.core);
        for core in self.other_cores() {
            self.send(core, Message::Home(region, self.0.core));
        }
    }

    /// Whether every core of the store has taken in what the start has found.
    pub(crate) fn knows_all_regions(&self) -> bool {
        self.0.cores_recovered.get() >= self.0.mailbox.cores()
    }

    /// The store's other cores.
    pub(crate) fn other_cores(&self) -> impl Iterator<Item = CoreId> + use<> {
        let own = self.0.core;
        let cores = u16::try_from(self.0.mailbox.cores()).expect("cores are counted in u16");
        (0..cores).map(CoreId).filter(move |core| *core != own)
    }
}

/// What a shard is made of.
pub(crate) struct Parts {
    pub(crate) core: CoreId,
    pub(crate) store: StoreId,
    pub(crate) cluster: u64,
    pub(crate) engine: Engine,
    pub(crate) data_dir: PathBuf,
    pub(crate) limits: ShardLimits,
    pub(crate) mailbox: mailbox::Sender<Message>,
    pub(crate) tombstones: HashMap<RegionId, Tombstone>,
    /// The core of each region that the start has found.
    pub(crate) homes: HashMap<RegionId, CoreId>,
}
