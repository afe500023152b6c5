//! Starting a core: its log, who owns which region, the trees, the peers; and making a new store.
//!
//! All cores start together. Each opens its log and tells the others what it holds; of a region that two logs hold the higher generation
//! counts. Core 0's log holds the store's identity; on a new store core 0 makes it, with the first regions, in one log group.

use crate::acquaintances;
use crate::core::{Parts, Shard, ShardLimits};
use crate::error::ShardError;
use crate::identity::Identity;
use crate::message::{Message, Opened};
use crate::meta::Meta;
use crate::orphans::{self, Orphan};
use crate::peer::Peer;
use crate::steward;
use crate::structures::{Structures, Tombstone};
use crate::value::ExpiryFilter;
use pinion_capnp::{ClientError, JoinRequest, StoreRecord, WireError};
use pinion_engine::{EngineOptions, NewTree, Opening};
use pinion_runtime::mailbox;
use pinion_types::key::Zone;
use pinion_types::map::HashMap;
use pinion_types::{CoreId, Epoch, PeerId, Region, RegionId, StoreId};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// How long a core waits before it tries again to send to a core whose mailbox is full.
const MAILBOX_WAIT: Duration = Duration::from_millis(1);
/// How often a start that takes long says what it waits for.
const SERVED_TELL: Duration = Duration::from_secs(1);
/// How often a member is asked to take this store in, and how long it waits in between.
const JOIN_TRIES_MAX: usize = 10;
const JOIN_WAIT: Duration = Duration::from_millis(500);
/// Messages that one core's mailbox holds from each other core.
pub const MAILBOX_MESSAGES_MAX: usize = 4096;

/// The ends of the mailboxes between a store's cores, to be handed to [`Shard::start`], each on its core.
pub struct CorePort(mailbox::Sender<Message>, mailbox::Receiver<Message>);

/// The ports of a store with so many cores.
pub fn ports(cores: usize) -> Vec<CorePort> {
    mailbox::mesh(cores, MAILBOX_MESSAGES_MAX)
        .into_iter()
        .map(|(sender, receiver)| CorePort(sender, receiver))
        .collect()
}

/// How a store that belongs to no cluster yet gets to belong to one.
#[derive(Clone, Debug)]
pub enum Founding {
    /// It makes a cluster, and is its first store.
    New,
    /// It asks a member of a cluster to be taken in.
    Join {
        /// Where the member listens.
        member: SocketAddr,
        /// Where this store's own cores listen, in their order.
        addresses: Vec<String>,
    },
}

impl Shard {
    /// Starts this core. Returns when the regions that it alone keeps are served.
    pub async fn start(
        options: EngineOptions,
        limits: ShardLimits,
        port: CorePort,
        founding: &Founding,
    ) -> Result<Self, ShardError> {
        let CorePort(sender, receiver) = port;
        let core = receiver.core();
        let data_dir = options.data_dir.clone();
        let orphans = match core {
            CoreId(0) => orphans::open_orphans(&options, sender.cores()).await?,
            _ => Vec::new(),
        };
        let opening = Opening::open(options).await?;
        let mut early = Early { receiver, set_aside: VecDeque::new(), stores: Vec::new() };
        let structures = Structures::decode(opening.structures())?;
        let (owners, tombstones) =
            early.agree_on_owners(&sender, &opening, &structures.tombstones, &orphans).await?;
        if core == CoreId(0) {
            // The others wait for the identity: nothing is made meanwhile.
            pinion_engine::remove_strays(&data_dir, |region| owners.contains_key(&region)).await?;
            early.stores = acquaintances::read(&data_dir).await?;
        }
        let identity =
            early.agree_on_identity(&sender, &opening, structures.identity, founding, &data_dir).await?;
        let is_new = structures.identity.is_none() && core == CoreId(0) && matches!(founding, Founding::New);
        let opening = opening.with_filter(Rc::new(ExpiryFilter));
        let (engine, mut recovered) = opening.finish(|region| owners.get(&region) == Some(&core)).await?;
        if is_new {
            recovered = engine.bootstrap(identity.encode(), first_regions(identity.store)).await?;
        }
        let shard = Self::new(Parts {
            core,
            store: identity.store,
            cluster: identity.cluster,
            engine,
            data_dir,
            limits,
            mailbox: sender,
            tombstones,
            homes: owners.iter().map(|(region, core)| (*region, *core)).collect(),
        });
        for message in early.set_aside {
            shard.take(message);
        }
        pinion_runtime::spawn(shard.clone().receive(early.receiver));
        // A split that is applied again on another core may want a region that has nothing yet.
        recovered.sort_by_key(|region| (region.tree.applied().0, region.id));
        for region in recovered {
            let peer = Peer::recover(&shard, region, is_new).await?;
            shard.begin_peer(&peer);
        }
        pinion_runtime::spawn(shard.clone().run());
        pinion_runtime::spawn(shard.clone().tick());
        pinion_runtime::spawn(shard.clone().keep_log_in_bound());
        pinion_runtime::spawn(shard.clone().split_large_regions());
        shard.learn_stores(&early.stores);
        for message in shard.0.set_aside.take().into_iter().flatten() {
            shard.take(message);
        }
        shard.adopt(orphans, &owners).await?;
        shard.tell_recovered();
        shard.wait_until_served().await?;
        Ok(shard)
    }

    /// Waits until every region of this core has a leader that has applied an entry of its own term.
    async fn wait_until_served(&self) -> Result<(), ShardError> {
        let mut told = pinion_runtime::now();
        loop {
            if let Some(failure) = self.failure() {
                return Err(ShardError::Identity(failure));
            }
            let peers = self.peers();
            // What a region of several stores waits for is not this store's to give.
            let waits = |peer: &&Rc<Peer>| peer.is_alone() && !peer.serves();
            let Some(waiting) = peers.iter().find(waits) else { return Ok(()) };
            if told.elapsed() >= SERVED_TELL {
                told = pinion_runtime::now();
                log::info!("core {} waits for region {}: {}", self.0.core, waiting.id(), waiting.state());
            }
            pinion_runtime::sleep(Duration::from_micros(200)).await;
        }
    }

    /// Sends to another core; waits and tries again where its mailbox is full.
    pub(crate) fn send(&self, core: CoreId, message: Message) {
        if let Err(mailbox::SendError::Full(message)) = self.0.mailbox.try_send(core, message) {
            let shard = self.clone();
            pinion_runtime::spawn(async move {
                pinion_runtime::sleep(MAILBOX_WAIT).await;
                shard.send(core, message);
            });
        }
    }

    /// Takes other cores' messages for ever.
    async fn receive(self, mut receiver: mailbox::Receiver<Message>) {
        while !self.0.stopping.get() {
            let message = receiver.recv().await;
            self.take(message);
        }
    }

    /// Tells every core that this one has taken in what the start has found.
    fn tell_recovered(&self) {
        let route = |peer: &Rc<Peer>| (!peer.is_blank()).then(|| self.route_of(peer));
        let routes: Vec<_> = self.peers().iter().filter_map(route).collect();
        for core in self.other_cores() {
            self.send(core, Message::Recovered(routes.clone()));
        }
        self.0.cores_recovered.set(self.0.cores_recovered.get() + 1);
    }

    /// Sets a message aside for which this core must know its regions, while it does not.
    fn set_aside(&self, message: Message) -> Option<Message> {
        let can_be_taken = matches!(
            message,
            Message::Route(_)
                | Message::Home(..)
                | Message::Recovered(_)
                | Message::FetchBlank { .. }
                | Message::MoveIn { .. }
                | Message::Buried(_)
                | Message::Stores(_)
        );
        match &mut *self.0.set_aside.borrow_mut() {
            Some(waiting) if !can_be_taken => {
                waiting.push(message);
                None
            }
            _ => Some(message),
        }
    }

    fn take(&self, message: Message) {
        let Some(message) = self.set_aside(message) else { return };
        let shard = self.clone();
        match message {
            Message::Home(region, core) => {
                self.0.homes.borrow_mut().insert(region, core);
            }
            Message::Recovered(routes) => {
                for route in routes {
                    self.learn_route(route);
                }
                self.0.cores_recovered.set(self.0.cores_recovered.get() + 1);
            }
            Message::FetchBlank { region, to, answer } => {
                pinion_runtime::spawn(async move {
                    let given = shard.give_blank(region, to).await;
                    let _ = answer.send(given.map_err(|error| error.to_string()));
                });
            }
            Message::Call { request, region, answer } => {
                let under_way = self.0.calls_of_others.enter();
                pinion_runtime::spawn(async move {
                    let _ = answer.send(shard.execute_for(region, &request).await);
                    drop(under_way);
                });
            }
            Message::Route(route) => self.learn_route(route),
            Message::Describe(answer) => drop(answer.send(self.describe())),
            Message::Split { region, keys, answer } => {
                pinion_runtime::spawn(async move {
                    let _ = answer.send(shard.split_here(region, keys).await);
                });
            }
            Message::Cluster { call, answer } => {
                pinion_runtime::spawn(async move {
                    let _ = answer.send(shard.cluster_call_here(call).await);
                });
            }
            Message::MoveOut { region, to, answer } => {
                pinion_runtime::spawn(async move {
                    let moved = shard.move_region(region, to).await;
                    let _ = answer.send(moved.map_err(|error| crate::service::wire_error(&error)));
                });
            }
            Message::MoveIn { luggage, answer } => {
                pinion_runtime::spawn(async move { shard.take_luggage(*luggage, answer).await });
            }
            Message::Raft(messages) => messages.into_iter().for_each(|message| self.receive_message(message)),
            Message::Snapshot(call) => self.take_snapshot_call(call),
            Message::Heard(store, addresses) => self.hear_store_here(store, &addresses),
            Message::Stores(records) => {
                self.learn_stores_here(&records);
            }
            Message::ChangeMembers { region, changes, answer } => {
                pinion_runtime::spawn(async move {
                    let _ = answer.send(shard.change_peers_here(region, &changes).await);
                });
            }
            Message::Transfer { region, to, answer } => {
                pinion_runtime::spawn(async move {
                    let _ = answer.send(shard.transfer_leader(region, to).await);
                });
            }
            Message::Buried(tombstone) => self.bury(tombstone),
            Message::Opened(..) | Message::Identity(_) => {
                log::warn!("a message of the start came after the start");
            }
        }
    }
}

/// A core's mailbox during the start: what is not yet wanted is set aside.
struct Early {
    receiver: mailbox::Receiver<Message>,
    set_aside: VecDeque<Message>,
    /// The cluster's stores, as far as core 0 knows them from its last life, or because the store has just joined.
    stores: Vec<StoreRecord>,
}

impl Early {
    /// The next message that `wanted` takes; others are set aside.
    async fn next<T>(&mut self, wanted: impl Fn(&mut Message) -> Option<T>) -> T {
        for position in 0..self.set_aside.len() {
            if let Some(found) = wanted(&mut self.set_aside[position]) {
                self.set_aside.remove(position);
                return found;
            }
        }
        loop {
            let mut message = self.receiver.recv().await;
            match wanted(&mut message) {
                Some(found) => return found,
                None => self.set_aside.push_back(message),
            }
        }
    }

    /// The core that owns each region: the one whose log holds its highest generation.
    async fn agree_on_owners(
        &mut self,
        sender: &mailbox::Sender<Message>,
        opening: &Opening,
        tombstones: &[Tombstone],
        orphans: &[Orphan],
    ) -> Result<(Owners, HashMap<RegionId, Tombstone>), ShardError> {
        let core = self.receiver.core();
        let mut own = Opened { core, streams: held_by(core, opening), tombstones: tombstones.to_vec() };
        for orphan in orphans {
            own.streams.extend(held_by(orphan.core, &orphan.opening));
            own.tombstones.extend(Structures::decode(orphan.opening.structures())?.tombstones);
        }
        for other in all_cores(sender).filter(|other| *other != core) {
            // At the start a mailbox is empty: it has room.
            let _ = sender.try_send(other, Message::Opened(own.clone()));
        }
        let mut held = vec![own];
        while held.len() < sender.cores() {
            let opened = self.next(|message| match message {
                Message::Opened(opened) => Some(opened.clone()),
                _ => None,
            });
            held.push(opened.await);
        }
        held.sort_by_key(|opened| opened.core);
        let mut best: HashMap<RegionId, (u64, CoreId)> = HashMap::default();
        let mut buried: HashMap<RegionId, Tombstone> = HashMap::default();
        for opened in held {
            for (region, generation, core) in opened.streams {
                let there = best.entry(region).or_insert((generation, core));
                if generation > there.0 {
                    *there = (generation, core);
                }
            }
            for tombstone in opened.tombstones {
                let there: &mut Tombstone = buried.entry(tombstone.region).or_default();
                *there = there.later(tombstone);
            }
        }
        // A copy that a move left behind, and whose region was then removed where it went, is nobody's.
        let is_buried = |region: &RegionId, generation: u64| {
            buried.get(region).is_some_and(|there| there.generation >= generation)
        };
        best.retain(|region, (generation, _)| !is_buried(region, *generation));
        Ok((best.into_iter().map(|(region, (_, core))| (region, core)).collect(), buried))
    }

    /// The store's identity: core 0 has it in its log, or makes it; the others are told.
    async fn agree_on_identity(
        &mut self,
        sender: &mailbox::Sender<Message>,
        opening: &Opening,
        kept: Option<Identity>,
        founding: &Founding,
        data_dir: &Path,
    ) -> Result<Identity, ShardError> {
        let own = self.receiver.core();
        if own != CoreId(0) {
            let told = self.next(|message| match message {
                Message::Identity(bytes) => Some(bytes.clone()),
                _ => None,
            });
            return Identity::decode(told.await);
        }
        let identity = match (kept, founding) {
            (Some(kept), Founding::New) if kept.is_member() => kept,
            (Some(kept), Founding::New) => {
                return Err(ShardError::Identity(format!(
                    "it was joining a cluster, as {:016x}, when it stopped: start it with --join again",
                    kept.token
                )));
            }
            (Some(kept), Founding::Join { .. }) if kept.is_member() => {
                return Err(ShardError::Identity(format!(
                    "it is store {} of cluster {:016x} already, and can't join another: start it without --join",
                    kept.store, kept.cluster
                )));
            }
            (kept, Founding::Join { member, addresses }) => {
                let (identity, stores) = join(opening, kept, *member, addresses.clone(), data_dir).await?;
                self.stores = stores;
                identity
            }
            (None, Founding::New) => Identity {
                cluster: pinion_runtime::random_u64(),
                store: StoreId(1),
                token: pinion_runtime::random_u64(),
            },
        };
        for core in all_cores(sender).filter(|core| *core != own) {
            let _ = sender.try_send(core, Message::Identity(identity.encode()));
        }
        Ok(identity)
    }
}

/// Asks a member of a cluster to take this store in. The name under which it asks is kept first, and the answer before anything is done with
/// it, so that a crash at any moment leads to the same store.
async fn join(
    opening: &Opening,
    kept: Option<Identity>,
    member: SocketAddr,
    addresses: Vec<String>,
    data_dir: &Path,
) -> Result<(Identity, Vec<StoreRecord>), ShardError> {
    let refused = |what: String| Err(ShardError::Join { member, what });
    if addresses.iter().any(|own| own.parse() == Ok(member)) {
        return refused("that is this store's own address".to_owned());
    }
    let asking = match kept {
        Some(kept) => kept,
        None => {
            // An address that is nobody's leaves no trace in the directory.
            reach(member).await?;
            let token = pinion_runtime::random_u64().max(1);
            let asking = Identity { cluster: 0, store: StoreId(0), token };
            opening.write_structure(&asking.encode()).await?;
            asking
        }
    };
    let request = JoinRequest { token: asking.token, addresses };
    let mut tries = 0;
    let joined = loop {
        tries += 1;
        match steward::ask_to_join(member, &request).await {
            Ok(joined) => break joined,
            Err(ClientError::Refused(error)) if !may_pass(&error) || tries >= JOIN_TRIES_MAX => {
                return refused(error.to_string());
            }
            Err(error) if tries >= JOIN_TRIES_MAX => return refused(error.to_string()),
            Err(error) => log::info!("joining through {member}: {error}; asking again"),
        }
        pinion_runtime::sleep(JOIN_WAIT).await;
    };
    let identity = Identity { cluster: joined.cluster, store: joined.store, token: asking.token };
    acquaintances::write(data_dir, &joined.stores).await?;
    opening.write_structure(&identity.encode()).await?;
    Ok((identity, joined.stores))
}

/// Waits until a store can be reached that is to take this one in.
async fn reach(member: SocketAddr) -> Result<(), ShardError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match steward::connect(member).await {
            Ok(_) => return Ok(()),
            Err(ClientError::Io(_) | ClientError::Closed(_) | ClientError::TimedOut(_))
                if tries < JOIN_TRIES_MAX => {}
            Err(error) => {
                return Err(ShardError::Join {
                    member,
                    what: format!("no store can be reached there: {error}"),
                });
            }
        }
        pinion_runtime::sleep(JOIN_WAIT).await;
    }
}

/// Whether a member's refusal says no more than that the cluster is busy with itself.
fn may_pass(error: &WireError) -> bool {
    matches!(
        error,
        WireError::NotLeader { .. }
            | WireError::RegionNotFound(_)
            | WireError::ServerBusy { .. }
            | WireError::StaleCommand
            | WireError::Undetermined
            | WireError::TimedOut
    )
}

/// The core that owns each region.
type Owners = HashMap<RegionId, CoreId>;

/// The regions that a core's log holds, with their generations.
fn held_by(core: CoreId, opening: &Opening) -> Vec<(RegionId, u64, CoreId)> {
    opening.streams().into_iter().map(|(region, generation)| (region, generation, core)).collect()
}

fn all_cores(sender: &mailbox::Sender<Message>) -> impl Iterator<Item = CoreId> + use<> {
    let cores = u16::try_from(sender.cores()).expect("cores are counted in u16");
    (0..cores).map(CoreId)
}

/// Ids up to this one belong to the first regions and their peers.
pub(crate) const FIRST_IDS_END: u64 = 6;

/// The regions of a new store: cut at the zones' borders, so that no region has keys of two.
fn first_regions(store: StoreId) -> Vec<NewTree> {
    let raw = vec![Zone::Raw.prefix()];
    let transactional = vec![Zone::Transactional.prefix()];
    let bounds = [(Vec::new(), raw.clone()), (raw, transactional.clone()), (transactional, Vec::new())];
    let mut regions = Vec::new();
    for (number, (start, end)) in (0u64..).zip(bounds) {
        let peer = pinion_types::Peer { id: PeerId(2 * number + 2), store, ..Default::default() };
        let id = RegionId(2 * number + 1);
        let region = Region { id, start, end, epoch: Epoch::INITIAL, peers: vec![peer] };
        let meta = Meta { region: region.clone(), own: peer.id, ..Meta::default() };
        regions.push(NewTree::of_split(&region, meta.encode()));
    }
    regions
}
