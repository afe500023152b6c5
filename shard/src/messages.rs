//! Messages between the peers of a region on different stores.
//!
//! Out: a peer's messages leave by the core's links. In: a link may end on any core of a store; a message goes on to the core of its region. A
//! message for a region that is not here makes a peer, if it says that this store is to have one: a *blank* one, which votes and waits
//! for a snapshot.
//!
//! Never here: a peer for a region that this store has been removed from, or whose keys belong to another region here, which has not
//! applied a split yet.

use crate::core::Shard;
use crate::error::ShardError;
use crate::inquiry::is_inquiry;
use crate::message::Message;
use crate::meta::Meta;
use crate::peer::{Peer, is_initial};
use crate::structures::Tombstone;
use pinion_capnp::link::RegionMessage;
use pinion_engine::NewTree;
use pinion_raft::MessageKind;
use pinion_types::{CoreId, Epoch, LogIndex, PeerId, Region, RegionId, Term};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// How often a peer that is to be deleted is looked at while an entry is being applied.
const APPLYING_WAIT: Duration = Duration::from_millis(1);

impl Shard {
    /// Sends a peer's messages to the others of its region. Those that can't be sent are reported as lost.
    pub(crate) fn send_to_peers(&self, peer: &Rc<Peer>, messages: Vec<pinion_raft::Message>) {
        for message in messages {
            let to = message.to;
            if message.kind == MessageKind::Snapshot {
                self.send_snapshot(peer, message);
                continue;
            }
            match peer.addressed(message, self.0.core) {
                Some((core, message)) => self.send_message(core, message),
                None => peer.report_unreachable(to),
            }
        }
    }

    /// A message to this peer of a region was lost on its way.
    pub(crate) fn message_lost(&self, region: RegionId, to: PeerId) {
        if let Some(peer) = self.peer(region) {
            peer.report_unreachable(to);
        }
    }

    /// Takes messages from another store, and hands those on that are for regions of other cores.
    pub(crate) fn receive_messages(&self, messages: Vec<RegionMessage>) {
        let mut elsewhere: BTreeMap<CoreId, Vec<RegionMessage>> = BTreeMap::new();
        for message in messages {
            let core = self.core_of(message.region);
            if core == self.0.core {
                self.receive_message(message);
            } else {
                elsewhere.entry(core).or_default().push(message);
            }
        }
        for (core, messages) in elsewhere {
            // A core that is behind loses them, as a network would.
            drop(self.0.mailbox.try_send(core, Message::Raft(messages)));
        }
    }

    /// The core of this store that works on a region, or would.
    pub(crate) fn core_of(&self, region: RegionId) -> CoreId {
        let cores = self.0.mailbox.cores();
        let home = self.0.homes.borrow().get(&region).copied();
        // The cores that there are no more leave their regions to others.
        home.filter(|core| usize::from(core.0) < cores).unwrap_or_else(|| {
            let core = region.0 % cores as u64;
            CoreId(u16::try_from(core).expect("cores are counted in u16"))
        })
    }

    /// Takes a message for a region of this core.
    pub(crate) fn receive_message(&self, message: RegionMessage) {
        if message.to.store != self.0.store || self.0.stopping.get() {
            return;
        }
        let Some(peer) = self.peer(message.region) else { return self.receive_for_nobody(message) };
        if is_inquiry(&message) {
            return self.answer_inquiry(&peer, &message);
        }
        if peer.is_deaf() {
            return;
        }
        let (own, conf_ver) = (peer.peer().id, peer.region().epoch.conf_ver);
        if message.to.id != own {
            // This store has a later peer of the region by now: this one was removed, and did not hear of it.
            if message.to.id > own && message.epoch.conf_ver > conf_ver {
                self.destroy(&peer);
            }
            return;
        }
        if message.gone {
            if message.epoch.conf_ver > conf_ver {
                self.destroy(&peer);
            }
            return;
        }
        let is_removed =
            !peer.is_blank() && message.epoch.conf_ver < conf_ver && !peer.has_member(message.from.id);
        if is_removed {
            return self.tell_removed(&peer, message.from, message.from_core);
        }
        if !message.message.entries.is_empty() && self.is_behind(&peer) {
            return;
        }
        peer.step(message);
        self.enqueue(&peer);
    }

    /// Lets a peer know that it is no longer a member.
    pub(crate) fn tell_removed(&self, peer: &Peer, removed: pinion_types::Peer, core: CoreId) {
        if removed.store == self.0.store {
            return;
        }
        let message = RegionMessage {
            region: peer.id(),
            epoch: peer.region().epoch,
            from: peer.peer(),
            to: removed,
            from_core: self.0.core,
            gone: true,
            ..RegionMessage::default()
        };
        self.send_message(core, message);
    }

    /// A message for a region that is not on this store: it may make the peer.
    fn receive_for_nobody(&self, message: RegionMessage) {
        let (region, to) = (message.region, message.to.id);
        let buried = self.0.tombstones.borrow().get(&region).copied().unwrap_or_default().peer;
        if message.gone || !is_initial(&message.message) || to <= buried {
            return;
        }
        // It may have come here by a route that is old by now, or before another core has said that the region is there.
        if !self.knows_all_regions() || self.core_of(region) != self.0.core {
            return;
        }
        if self.has_keys_of(region, &message.start, &message.end) {
            log::debug!("core {}: a message for region {region} comes before its split", self.0.core);
            return;
        }
        if !self.0.in_transition.borrow_mut().insert(region) {
            return;
        }
        let shard = self.clone();
        pinion_runtime::spawn(async move {
            match shard.make_blank(region, to, message.epoch).await {
                Ok(()) => shard.receive_message(message),
                Err(error) => shard.fail(&error),
            }
        });
    }

    /// Whether another region of this store has keys of a range.
    pub(crate) fn has_keys_of(&self, id: RegionId, start: &[u8], end: &[u8]) -> bool {
        let range = Region { start: start.to_vec(), end: end.to_vec(), ..Region::default() };
        self.router().overlapping(&range).any(|route| route.region.id != id)
    }

    /// Makes a peer that knows nothing of its region but the epoch of one that has it as a member: whoever does not know it in a later epoch has
    /// seen it removed.
    pub(crate) async fn make_blank(
        &self,
        region: RegionId,
        own: PeerId,
        epoch: Epoch,
    ) -> Result<(), ShardError> {
        let blank = Region { id: region, epoch, ..Region::default() };
        let meta = Meta { region: blank, own, ..Meta::default() };
        let generation = self.next_generation(region);
        let new = NewTree { id: region, start: Vec::new(), end: Vec::new(), meta: meta.encode(), generation };
        let nowhere = (LogIndex(0), Term(0));
        let made = self.0.engine.create_region(new, nowhere, (Term(0), 0, LogIndex(0))).await?;
        let peer = Peer::recover(self, made, true).await?;
        log::debug!("core {}: peer {own} of region {region} waits for a snapshot", self.0.core);
        self.hold_peer(&peer);
        self.settle(region);
        self.0.in_transition.borrow_mut().remove(&region);
        Ok(())
    }

    /// Deletes a peer that is no longer a member, its data and its log; a tombstone stays, so that it never comes back.
    pub(crate) fn destroy(&self, peer: &Rc<Peer>) {
        if !peer.set_gone() {
            return;
        }
        let (region, own) = (peer.id(), peer.peer().id);
        log::info!("core {}: peer {own} of region {region} was removed", self.0.core);
        self.0.in_transition.borrow_mut().insert(region);
        self.remove_peer(region);
        let tombstone = Tombstone { region, peer: own, generation: peer.generation() };
        peer.abandon(true);
        let (shard, peer) = (self.clone(), peer.clone());
        pinion_runtime::spawn(async move {
            while peer.is_applying() || peer.is_installing() {
                pinion_runtime::sleep(APPLYING_WAIT).await;
            }
            // Not while a split is being applied: the route keeps messages from making the child that the split is about to make.
            shard.bury(tombstone);
            match shard.0.engine.remove_region(region, tombstone.encode()).await {
                Ok(()) => {
                    shard.0.in_transition.borrow_mut().remove(&region);
                    // Not before the directory is free: another core may make the region's next peer as soon as it hears of this.
                    for core in shard.other_cores() {
                        shard.send(core, Message::Buried(tombstone));
                    }
                }
                Err(error) => shard.fail(&error.into()),
            }
        });
    }

    /// The generation of a region that is made anew on this store.
    fn next_generation(&self, region: RegionId) -> u64 {
        self.0.tombstones.borrow().get(&region).map_or(0, |buried| buried.generation + 1)
    }

    /// Notes that a peer of this store was removed, and forgets its route.
    pub(crate) fn bury(&self, tombstone: Tombstone) {
        let Tombstone { region, peer, .. } = tombstone;
        self.0.homes.borrow_mut().remove(&region);
        let mut tombstones = self.0.tombstones.borrow_mut();
        let there = tombstones.entry(region).or_default();
        *there = there.later(tombstone);
        let mut router = self.0.router.borrow_mut();
        let is_own = |route: &crate::router::Route| {
            route.region.peer_on(self.0.store).is_none_or(|own| own.id <= peer)
        };
        if router.get(region).is_some_and(is_own) {
            router.remove(region);
        }
    }
}
