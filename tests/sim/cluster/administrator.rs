//! What an administrator asks of the regions while all else goes on: splits, transfers of leadership, peers added, removed, moved.

use super::clients::{Session, border};
use super::route::Routes;
use pinion_capnp::client::ClientError;
use pinion_capnp::{PeerChange, PeerChangeKind, WireError};
use pinion_types::{PeerRole, Region, StoreId};
use pinion_workload::Random;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Regions from which on nothing is split any more.
const REGIONS_MAX: usize = 12;
/// How long the administrator rests at most between two wishes.
const RESTS_MAX_US: u64 = 1_200_000;
/// How often a wish is brought to whoever is said to lead.
const TRIES_MAX: usize = 4;
/// Voters that a region keeps.
const VOTERS_MIN: usize = 2;

/// What was done, as far as the administrator was told.
#[derive(Default)]
pub(super) struct Done {
    pub(super) splits: Cell<u64>,
    pub(super) transfers: Cell<u64>,
    pub(super) added: Cell<u64>,
    pub(super) removed: Cell<u64>,
    pub(super) moved: Cell<u64>,
    pub(super) replaced: Cell<u64>,
}

impl Done {
    /// Whether each of the wishes was granted once.
    pub(super) fn has_each(&self, wishes: Wishes) -> bool {
        let has =
            |is_wished: bool, counts: &[&Cell<u64>]| !is_wished || counts.iter().all(|count| count.get() > 0);
        has(wishes.splits, &[&self.splits])
            && has(wishes.transfers, &[&self.transfers])
            && has(wishes.changes, &[&self.added, &self.removed, &self.moved])
    }
}

/// What an administrator may wish for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes {
    pub(super) splits: bool,
    pub(super) transfers: bool,
    pub(super) changes: bool,
}

enum Wish {
    Split(Vec<u8>),
    Transfer(StoreId),
    Change(Vec<PeerChange>),
}

/// An administrator, at the clients' host.
pub(super) struct Administrator {
    session: Rc<Session>,
    routes: Routes,
    random: Random,
    done: Rc<Done>,
    wishes: Wishes,
}

impl Administrator {
    pub(super) fn new(
        session: Rc<Session>,
        routes: Routes,
        random: Random,
        done: Rc<Done>,
        wishes: Wishes,
    ) -> Self {
        Self { session, routes, random, done, wishes }
    }

    /// Has wishes until the session stops.
    pub(super) async fn run(mut self) {
        while !self.session.stopped.get() {
            pinion_runtime::sleep(Duration::from_micros(self.random.below(RESTS_MAX_US))).await;
            self.routes.refresh().await;
            let regions = self.routes.regions();
            if regions.is_empty() {
                continue;
            }
            let region = regions[self.random.index(regions.len())].clone();
            let Some(wish) = self.wish(&region, regions.len()).filter(|wish| self.may(wish)) else {
                continue;
            };
            if self.ask(&region, &wish).await {
                self.count(&wish);
            }
        }
    }

    fn may(&self, wish: &Wish) -> bool {
        match wish {
            Wish::Split(_) => self.wishes.splits,
            Wish::Transfer(_) => self.wishes.transfers,
            Wish::Change(_) => self.wishes.changes,
        }
    }

    fn wish(&mut self, region: &Region, regions: usize) -> Option<Wish> {
        let mut on = |wanted: fn(PeerRole) -> bool| {
            let there: Vec<_> =
                region.peers.iter().filter(|peer| wanted(peer.role)).map(|peer| peer.store).collect();
            (!there.is_empty()).then(|| there[self.random.index(there.len())])
        };
        let voter = on(|role| role == PeerRole::Voter);
        let voters = region.peers.iter().filter(|peer| peer.role == PeerRole::Voter).count();
        let free: Vec<_> =
            self.routes.stores().into_iter().filter(|store| region.peer_on(*store).is_none()).collect();
        let (all_free, free) =
            (free.clone(), (!free.is_empty()).then(|| free[self.random.index(free.len())]));
        let change = |kind| move |store| PeerChange { store, kind };
        Some(match self.random.below(14) {
            0..2 if regions < REGIONS_MAX => Wish::Split(border(&mut self.random)),
            2..5 => Wish::Transfer(voter?),
            5..6 => Wish::Change(vec![free.map(change(PeerChangeKind::AddVoter))?]),
            6..7 => Wish::Change(vec![free.map(change(PeerChangeKind::AddLearner))?]),
            7..8 if voters > VOTERS_MIN => Wish::Change(vec![voter.map(change(PeerChangeKind::Remove))?]),
            8 if voters > VOTERS_MIN => Wish::Change(vec![voter.map(change(PeerChangeKind::AddLearner))?]),
            9..11 => Wish::Change(self.replace_several(region, &all_free)?),
            _ if voters >= VOTERS_MIN => Wish::Change(vec![
                free.map(change(PeerChangeKind::AddVoter))?,
                voter.map(change(PeerChangeKind::Remove))?,
            ]),
            _ => return None,
        })
    }

    /// Several peers replaced at once, as far as there are stores without one: two others take the places of two voters, or one takes the place of
    /// one and another votes no more.
    fn replace_several(&mut self, region: &Region, free: &[StoreId]) -> Option<Vec<PeerChange>> {
        let voters = region.peers.iter().filter(|peer| peer.role == PeerRole::Voter);
        let voters: Vec<_> = voters.map(|peer| peer.store).collect();
        if voters.len() <= VOTERS_MIN {
            return None;
        }
        let first = self.random.index(voters.len());
        let (one, other) = (voters[first], voters[(first + 1) % voters.len()]);
        let change = |store, kind| PeerChange { store, kind };
        match free {
            [] => None,
            [free] => Some(vec![
                change(*free, PeerChangeKind::AddVoter),
                change(one, PeerChangeKind::Remove),
                change(other, PeerChangeKind::AddLearner),
            ]),
            [free, free_too, ..] => Some(vec![
                change(*free, PeerChangeKind::AddVoter),
                change(*free_too, PeerChangeKind::AddVoter),
                change(one, PeerChangeKind::Remove),
                change(other, PeerChangeKind::Remove),
            ]),
        }
    }

    /// Brings a wish to the region's leader. Whether it was granted.
    async fn ask(&mut self, region: &Region, wish: &Wish) -> bool {
        for _ in 0..TRIES_MAX {
            let store = self.routes.leader(region);
            let Some((_, client)) = self.routes.connect_to(store).await else { return false };
            let client = client.with_timeout(Duration::from_secs(5));
            let answer = match wish {
                Wish::Split(key) => client.split(std::slice::from_ref(key)).await.map(drop),
                Wish::Transfer(to) => client.transfer_leader(region.id, *to).await,
                Wish::Change(changes) => client.change_peers(region.id, changes).await.map(drop),
            };
            let error: WireError = match answer {
                Ok(()) => return true,
                Err(ClientError::Refused(error)) => error,
                Err(_) => return false,
            };
            let may_ask_again = matches!(error, WireError::NotLeader { .. } | WireError::ServerBusy { .. });
            self.routes.heed(region, &error).await;
            if !may_ask_again {
                return false;
            }
            pinion_runtime::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    fn count(&self, wish: &Wish) {
        let done = &self.done;
        let counter = match wish {
            Wish::Split(_) => &done.splits,
            Wish::Transfer(_) => &done.transfers,
            Wish::Change(changes) if changes.len() > 2 => &done.replaced,
            Wish::Change(changes) if changes.len() > 1 => &done.moved,
            Wish::Change(changes) if changes[0].kind == PeerChangeKind::Remove => &done.removed,
            Wish::Change(_) => &done.added,
        };
        counter.set(counter.get() + 1);
    }
}
