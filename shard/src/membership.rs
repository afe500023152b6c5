//! Changes of a region's members: applied on every replica, asked for on the leader.
//!
//! One call adds, removes and moves peers. New voters are learners first, until they have nearly all of the log; then one change,
//! joint where it is of several voters, makes them voters and lets others go. A leader that is to go hands leadership over first, so
//! that whoever stays knows of the change before it goes.

use crate::core::Shard;
use crate::error::ShardError;
use crate::peer::{Applying, Change, Outcome, Peer, Proposal};
use pinion_capnp::{PeerChange, PeerChangeKind, WireError};
use pinion_raft::{ConfChange, ConfChangeKind, ConfChangeSingle, ConfChangeTransition};
use pinion_types::{CoreId, PeerId, PeerRole, Region, RegionId, StoreId};
use std::rc::Rc;
use std::time::Duration;

/// Entries that a learner may lag behind when it becomes a voter.
const LAG_MAX: u64 = 100;
/// How often a leader looks whether learners have caught up.
const CATCH_UP_WAIT: Duration = Duration::from_millis(20);
/// How long learners may take to catch up before the change is given up; they stay learners.
const CATCH_UP_MAX: Duration = Duration::from_mins(10);
/// How long a learner that is not heard of is waited for: its store may just have started again. Too short: the region's data is sent to another
/// store for nothing.
pub(crate) const LEARNER_WAIT: Duration = Duration::from_mins(1);
/// How long handing over leadership may take.
const TRANSFER_MAX: Duration = Duration::from_secs(3);
const TRANSFER_WAIT: Duration = Duration::from_millis(5);
/// How long a store that stops tries to hand over what it leads.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);
/// Changes of one call.
const CHANGES_MAX: usize = 16;
/// When a caller should come back while other changes are under way.
const RETRY_AFTER: Duration = Duration::from_millis(100);

impl Shard {
    /// Applies a change of members.
    pub(crate) fn apply_change(
        &self,
        peer: &Rc<Peer>,
        applying: Applying,
        change: &Change,
    ) -> Result<(), ShardError> {
        let before = peer.region().peers.clone();
        if peer.change_members(&applying, change)? {
            self.0.engine.set_meta(peer.id(), peer.meta_of(&peer.region()).encode());
            peer.wrote(applying.position);
            Peer::answer(applying, || Outcome::Done);
            self.announce(peer);
            if peer.is_leader() {
                before.iter().filter(|member| !peer.has_member(member.id)).for_each(|member| {
                    // It may be lost: who was removed asks, sooner or later.
                    self.tell_removed(peer, *member, CoreId(0));
                });
            }
        } else {
            peer.refuse(applying);
        }
        peer.finish_slow();
        // One that is being recovered is not taken in yet: it goes when it is.
        if !peer.has_member(peer.peer().id) && self.holds(peer) {
            self.destroy(peer);
        }
        Ok(())
    }

    /// Changes the members of a region that this core leads; returns when that is applied here. Asked again after an error it goes on.
    pub(crate) async fn change_members(
        &self,
        region: RegionId,
        wishes: &[PeerChange],
    ) -> Result<(), WireError> {
        let peer = self.leading(region)?;
        check_wishes(&peer.region(), wishes)?;
        self.check_stores(wishes)?;
        check_quorum_remains(&peer, wishes)?;
        let is_to_go =
            |wish: &PeerChange| wish.store == self.0.store && wish.kind != PeerChangeKind::AddVoter;
        if wishes.iter().any(is_to_go) {
            // Whoever leads next is asked again by the caller.
            self.hand_over_to_any(&peer, wishes).await?;
            return Err(peer.not_leader());
        }
        let newcomers: Vec<StoreId> = wishes
            .iter()
            .filter(|wish| wish.kind != PeerChangeKind::Remove && peer.region().peer_on(wish.store).is_none())
            .map(|wish| wish.store)
            .collect();
        for store in newcomers {
            let learner = PeerChange { store, kind: PeerChangeKind::AddLearner };
            self.change_once(&peer, &[learner]).await?;
        }
        let voters: Vec<StoreId> = wishes
            .iter()
            .filter(|wish| wish.kind == PeerChangeKind::AddVoter)
            .map(|wish| wish.store)
            .collect();
        self.wait_for_learners(&peer, &voters).await?;
        self.change_once(&peer, wishes).await
    }

    /// Refuses peers on stores that nobody knows.
    fn check_stores(&self, wishes: &[PeerChange]) -> Result<(), WireError> {
        let known = self.0.links.stores();
        let is_known = |store| store == self.0.store || known.contains(&store);
        match wishes.iter().find(|wish| !is_known(wish.store)) {
            Some(wish) => {
                Err(WireError::invalid(format!("there is no store {} in this cluster", wish.store)))
            }
            None => Ok(()),
        }
    }

    /// The peer of a region that this core leads.
    pub(crate) fn leading(&self, region: RegionId) -> Result<Rc<Peer>, WireError> {
        let peer = self.peer(region).ok_or(WireError::RegionNotFound(region))?;
        if !peer.is_leader() {
            return Err(peer.not_leader());
        }
        if !peer.serves() {
            return Err(WireError::ServerBusy { retry_after: RETRY_AFTER });
        }
        Ok(peer)
    }

    /// Proposes what of the wishes is not so yet, as one change, and waits until it is applied.
    async fn change_once(&self, peer: &Rc<Peer>, wishes: &[PeerChange]) -> Result<(), WireError> {
        let (epoch, mut changes, mut seats) = (peer.region().epoch, Vec::new(), Vec::new());
        for PeerChange { store, kind } in wishes {
            let there = peer.region().peer_on(*store);
            let kind = match (kind, there.map(|there| there.role)) {
                (PeerChangeKind::AddVoter, Some(PeerRole::Voter))
                | (PeerChangeKind::AddLearner, Some(PeerRole::Learner))
                | (PeerChangeKind::Remove, None) => continue,
                (PeerChangeKind::AddVoter, _) => ConfChangeKind::AddVoter,
                (PeerChangeKind::AddLearner, _) => ConfChangeKind::AddLearner,
                (PeerChangeKind::Remove, _) => ConfChangeKind::Remove,
            };
            let id = match there {
                Some(there) => there.id,
                None => PeerId(self.allocate_ids(1).await?),
            };
            changes.push(ConfChangeSingle { kind, peer: id });
            seats.push((id, *store));
        }
        if changes.is_empty() {
            return Ok(());
        }
        let change = ConfChange::joint(ConfChangeTransition::Auto, changes);
        self.propose(peer, epoch, Proposal::Change(change, seats)).await.map(drop)?;
        self.wait_until_not_joint(peer).await
    }

    /// A joint configuration is left by the leader's own entry, which is on its way.
    async fn wait_until_not_joint(&self, peer: &Rc<Peer>) -> Result<(), WireError> {
        let begun = pinion_runtime::now();
        while peer.is_joint() {
            if !peer.is_leader() || peer.is_gone() {
                return Err(WireError::Undetermined);
            }
            if begun.elapsed() > TRANSFER_MAX {
                return Err(WireError::ServerBusy { retry_after: RETRY_AFTER });
            }
            pinion_runtime::sleep(TRANSFER_WAIT).await;
        }
        Ok(())
    }

    async fn wait_for_learners(&self, peer: &Rc<Peer>, stores: &[StoreId]) -> Result<(), WireError> {
        let begun = pinion_runtime::now();
        let mut heard = begun;
        loop {
            if !peer.is_leader() || peer.is_gone() {
                return Err(peer.not_leader());
            }
            let (lagging, lost) = (peer.lagging(LAG_MAX), peer.unreachable());
            let region = peer.region().clone();
            let learners = stores.iter().filter_map(|store| region.peer_on(*store));
            let mut learners = learners.filter(|learner| lagging.contains(&learner.id)).peekable();
            if learners.peek().is_none() {
                return Ok(());
            }
            if !learners.any(|learner| lost.contains(&learner.id)) {
                heard = pinion_runtime::now();
            }
            if begun.elapsed() > CATCH_UP_MAX || heard.elapsed() > LEARNER_WAIT {
                return Err(WireError::ServerBusy { retry_after: RETRY_AFTER });
            }
            pinion_runtime::sleep(CATCH_UP_WAIT).await;
        }
    }

    async fn hand_over_to_any(&self, peer: &Rc<Peer>, wishes: &[PeerChange]) -> Result<(), WireError> {
        let stays = |member: &&pinion_types::Peer| {
            let wish = wishes.iter().find(|wish| wish.store == member.store);
            member.store != self.0.store
                && member.role == PeerRole::Voter
                && wish.is_none_or(|wish| wish.kind == PeerChangeKind::AddVoter)
        };
        let lost = peer.unreachable();
        let to = peer.region().peers.iter().filter(stays).find(|member| !lost.contains(&member.id)).copied();
        let to = to.ok_or_else(|| {
            WireError::invalid(format!(
                "store {} leads region {} and no other voter could: add one first",
                self.0.store,
                peer.id()
            ))
        })?;
        self.transfer_leader(peer.id(), to.store).await
    }

    /// Hands over what this core leads and others could lead, so that a stop leaves no region without a leader; gives up after
    /// [`HAND_OVER_MAX`].
    pub(crate) async fn hand_over_all(&self) {
        let begun = pinion_runtime::now();
        while begun.elapsed() < HAND_OVER_MAX && self.failure().is_none() {
            let peers = self.peers();
            let led = peers.iter().filter(|peer| peer.is_leader() && peer.takes_turns());
            let mut waits = false;
            for (peer, successor) in led.filter_map(|peer| Some((peer, peer.successor()?))) {
                peer.transfer_to(successor);
                self.enqueue(peer);
                waits = true;
            }
            if !waits {
                return;
            }
            pinion_runtime::sleep(TRANSFER_WAIT * 4).await;
        }
    }

    /// Hands leadership of a region that this core leads to a store's peer, and waits until it does not lead any more.
    pub(crate) async fn transfer_leader(&self, region: RegionId, to: StoreId) -> Result<(), WireError> {
        let peer = self.leading(region)?;
        let Some(target) = peer.region().peer_on(to) else {
            return Err(WireError::invalid(format!("region {region} has no peer on store {to}")));
        };
        if target.role != PeerRole::Voter {
            return Err(WireError::invalid(format!(
                "the peer of region {region} on store {to} is no voter, and can't lead"
            )));
        }
        if to == self.0.store {
            return Ok(());
        }
        peer.transfer_to(target.id);
        self.enqueue(&peer);
        let begun = pinion_runtime::now();
        while peer.is_leader() {
            if begun.elapsed() > TRANSFER_MAX {
                return Err(WireError::ServerBusy { retry_after: RETRY_AFTER });
            }
            pinion_runtime::sleep(TRANSFER_WAIT).await;
        }
        Ok(())
    }
}

/// Refuses a change after which the voters that can be reached would be no quorum.
fn check_quorum_remains(peer: &Peer, wishes: &[PeerChange]) -> Result<(), WireError> {
    let region = peer.region();
    let mut voters: Vec<StoreId> = region
        .peers
        .iter()
        .filter(|member| member.role.is_voter_incoming())
        .map(|member| member.store)
        .collect();
    for PeerChange { store, kind } in wishes {
        voters.retain(|voter| voter != store);
        if *kind == PeerChangeKind::AddVoter {
            voters.push(*store);
        }
    }
    if voters.is_empty() {
        return Err(WireError::invalid(format!("region {} would have no voter left", region.id)));
    }
    let lost = peer.unreachable();
    let is_reached =
        |store: &&StoreId| region.peer_on(**store).is_none_or(|member| !lost.contains(&member.id));
    let reached = voters.iter().filter(is_reached).count();
    if reached * 2 <= voters.len() {
        return Err(WireError::invalid(format!(
            "region {} would lose its quorum: of the {} voters that it would have, {reached} can be reached",
            region.id,
            voters.len()
        )));
    }
    Ok(())
}

fn check_wishes(region: &Region, wishes: &[PeerChange]) -> Result<(), WireError> {
    if wishes.is_empty() || wishes.len() > CHANGES_MAX {
        return Err(WireError::invalid(format!(
            "1 to {CHANGES_MAX} changes at a time, not {}",
            wishes.len()
        )));
    }
    for (place, PeerChange { store, kind }) in wishes.iter().enumerate() {
        if wishes[..place].iter().any(|other| other.store == *store) {
            return Err(WireError::invalid(format!("store {store} is named twice")));
        }
        if *kind == PeerChangeKind::Remove && region.peer_on(*store).is_none() {
            return Err(WireError::invalid(format!("region {} has no peer on store {store}", region.id)));
        }
    }
    Ok(())
}
