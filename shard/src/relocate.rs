//! Moving a region from one core of the store to another.
//!
//! 1. The old core freezes the region: calls wait at the router, what is under way is finished. Then the peer takes no messages either, so that
//!    it promises nothing that the new core would not know of.
//! 2. It flushes the tree and packs what the new core needs: the region's description, hard state, and the entries of its log.
//! 3. The new core writes that to its own log with the next generation, synced: the commit point. It opens the tree's files again; nothing of
//!    the old core's files crosses threads.
//! 4. Every core learns the new route; the old core forgets the stream.
//!
//! A crash before step 3's sync leaves the region on the old core; after it, recovery finds two owners and keeps the higher generation.

use crate::core::Shard;
use crate::error::ShardError;
use crate::message::Message;
use crate::peer::Peer;
use pinion_engine::PackedRegion;
use pinion_runtime::mailbox::{SendError, oneshot};
use pinion_types::{CoreId, PeerId, RegionId};
use std::rc::Rc;
use std::time::Duration;

/// How long a region that is to move may take to finish what is under way, in steps of [`QUIET_WAIT`].
const QUIET_ATTEMPTS_MAX: usize = 2000;
const QUIET_WAIT: Duration = Duration::from_millis(1);

fn stays(peer: &Peer) -> ShardError {
    ShardError::Raft {
        region: peer.id(),
        what: "the region did not fall quiet, and stays on its core".to_owned(),
    }
}

/// A region on its way between two cores.
pub(crate) struct Luggage {
    /// What the engine packed.
    pub(crate) packed: PackedRegion,
}

impl Shard {
    /// Moves a region of this core to another core. On an error the region stays here and serves on.
    pub(crate) async fn move_region(&self, id: RegionId, to: CoreId) -> Result<(), ShardError> {
        let Some(peer) = self.peer(id) else { return Ok(()) };
        if to == self.0.core {
            return Ok(());
        }
        if peer.is_frozen() {
            return Err(stays(&peer));
        }
        peer.freeze(true);
        let moved = self.hand_over(&peer, to).await;
        match moved {
            Ok(()) => {
                self.0.homes.borrow_mut().insert(id, to);
                // What still has to do with it here must not take the region's absence for a fault.
                peer.set_gone();
                peer.abandon(true);
                self.remove_peer(id);
                self.0.engine.forget(id);
            }
            // Nobody knows whether the region is there: it must not go on here as well. A start finds out.
            Err(ref error @ ShardError::CoreStopped(_)) => self.fail(error),
            Err(_) => {
                self.0.engine.unpack_refused(id);
                peer.deafen(false);
                peer.freeze(false);
                self.enqueue(&peer);
            }
        }
        moved
    }

    async fn hand_over(&self, peer: &Rc<Peer>, to: CoreId) -> Result<(), ShardError> {
        self.wait_for(peer, Peer::has_answered_all).await?;
        self.silence(peer).await?;
        self.hand_to(peer, to, None).await
    }

    /// Lets a peer take no more messages, and waits until what it has begun is done. What it then says of itself stays true: it neither
    /// votes nor takes entries any more.
    pub(crate) async fn silence(&self, peer: &Rc<Peer>) -> Result<(), ShardError> {
        peer.deafen(true);
        self.wait_for(peer, Peer::is_still).await
    }

    async fn wait_for(&self, peer: &Rc<Peer>, is_so: impl Fn(&Peer) -> bool) -> Result<(), ShardError> {
        let mut attempts = 0;
        while !is_so(peer) {
            attempts += 1;
            if attempts > QUIET_ATTEMPTS_MAX || peer.is_gone() || self.failure().is_some() {
                return Err(stays(peer));
            }
            pinion_runtime::sleep(QUIET_WAIT).await;
        }
        match peer.is_gone() {
            true => Err(stays(peer)),
            false => Ok(()),
        }
    }

    /// Sees to it that a region which a split is about to make can be made here, as this peer. `false` when it must not be: a peer of it has the
    /// region's data already, by a snapshot from after the split, or this one was removed. One that has nothing, because a message of its
    /// group came before the split, is fetched from whatever core it is on, and promises nothing more.
    pub(crate) async fn prepare_child(&self, region: RegionId, own: PeerId) -> Result<bool, ShardError> {
        if usize::from(self.0.core.0) < self.0.mailbox.cores() {
            for core in self.other_cores() {
                if !self.fetch_blank(core, region).await? {
                    return Ok(false);
                }
            }
        }
        // One that is being made, or deleted, on this core.
        while self.0.in_transition.borrow().contains(&region) {
            // It comes to nothing on a core that has failed.
            if self.has_failed() {
                return Err(ShardError::CoreStopped(self.0.core));
            }
            pinion_runtime::sleep(QUIET_WAIT).await;
        }
        if self.0.tombstones.borrow().get(&region).is_some_and(|buried| buried.peer >= own) {
            return Ok(false);
        }
        let Some(peer) = self.peer(region) else { return Ok(true) };
        if !peer.is_blank() {
            return Ok(false);
        }
        self.silence(&peer).await?;
        if !peer.is_blank() {
            peer.deafen(false);
        }
        Ok(peer.is_blank())
    }

    async fn fetch_blank(&self, core: CoreId, region: RegionId) -> Result<bool, ShardError> {
        let (answer, receiver) = oneshot::channel();
        self.send(core, Message::FetchBlank { region, to: self.0.core, answer });
        match receiver.await {
            Ok(Ok(is_free)) => Ok(is_free),
            Ok(Err(what)) => Err(ShardError::Raft { region, what }),
            Err(oneshot::Canceled) => Err(ShardError::CoreStopped(core)),
        }
    }

    /// Gives a region that has nothing to another core, if it is here. `false` when it has something.
    pub(crate) async fn give_blank(&self, region: RegionId, to: CoreId) -> Result<bool, ShardError> {
        let mut attempts = 0;
        loop {
            let moved = match self.peer(region) {
                Some(peer) if !peer.is_blank() => return Ok(false),
                Some(_) => self.move_region(region, to).await,
                None if !self.may_come(region) => return Ok(true),
                None => Err(ShardError::Raft { region, what: "the region is coming or going".to_owned() }),
            };
            match moved {
                Ok(()) => return Ok(true),
                Err(error) if attempts > QUIET_ATTEMPTS_MAX => return Err(error),
                // It got a snapshot meanwhile, or was removed.
                Err(_) => attempts += 1,
            }
            pinion_runtime::sleep(QUIET_WAIT).await;
        }
    }

    /// Whether a region's peer is being made here, or found by a start.
    fn may_come(&self, region: RegionId) -> bool {
        let is_starting = self.0.set_aside.borrow().is_some();
        let is_at_home = self.0.homes.borrow().get(&region) == Some(&self.0.core);
        self.0.in_transition.borrow().contains(&region) || (is_starting && is_at_home)
    }

    /// Packs a peer at rest and gives it to a core, which is `near` when that is the core on which this runs.
    pub(crate) async fn hand_to(
        &self,
        peer: &Peer,
        to: CoreId,
        near: Option<&Self>,
    ) -> Result<(), ShardError> {
        let engine = &self.0.engine;
        engine.flush_region(peer.id()).await?;
        peer.stamp_ms();
        let meta = peer.meta_of(&peer.region()).encode();
        // What is flushed need not travel.
        let (index, term) = peer.applied();
        engine.compact_log(peer.id(), index, term, meta.clone());
        let luggage = Luggage { packed: engine.pack(peer.id(), meta).await? };
        match near {
            Some(near) if near.0.core == to => near.move_in(luggage).await?,
            _ => self.send_luggage(peer.id(), luggage, to).await?,
        }
        Ok(())
    }

    async fn send_luggage(&self, region: RegionId, luggage: Luggage, to: CoreId) -> Result<(), ShardError> {
        let (answer, receiver) = oneshot::channel();
        let message = Message::MoveIn { luggage: Box::new(luggage), answer };
        match self.0.mailbox.try_send(to, message) {
            Ok(()) => {}
            Err(SendError::Full(_) | SendError::Closed(_)) => {
                let what = format!("core {to} takes no message");
                return Err(ShardError::Raft { region, what });
            }
        }
        match receiver.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(what)) => Err(ShardError::Raft { region, what }),
            Err(oneshot::Canceled) => Err(ShardError::CoreStopped(to)),
        }
    }

    /// Takes over what another core has sent, and says how that went.
    pub(crate) async fn take_luggage(&self, luggage: Luggage, answer: oneshot::Sender<Result<(), String>>) {
        match self.move_in(luggage).await {
            // Whether the region is here nobody knows: no answer says that.
            Err(ShardError::CoreStopped(_)) => {}
            moved => drop(answer.send(moved.map_err(|error| error.to_string()))),
        }
    }

    /// Takes over a region that another core packed. On an error it goes on there, and nothing of it is here.
    pub(crate) async fn move_in(&self, luggage: Luggage) -> Result<(), ShardError> {
        let region = luggage.packed.id();
        log::debug!("core {}: region {region} moves in", self.0.core);
        let moved = self.unpack(luggage).await;
        if moved.is_err() {
            // The log may say already that it is here, in a later generation than where it goes on: a start would go by that.
            self.0.engine.forget(region);
            if let Err(failed) = self.0.engine.log().sync().await {
                self.fail(&failed.into());
                return Err(ShardError::CoreStopped(self.0.core));
            }
        }
        moved
    }

    async fn unpack(&self, luggage: Luggage) -> Result<(), ShardError> {
        let recovered = self.0.engine.unpack(luggage.packed).await?;
        let peer = Peer::recover(self, recovered, false).await?;
        self.begin_peer(&peer);
        Ok(())
    }
}
