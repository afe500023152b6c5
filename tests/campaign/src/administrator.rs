//! What an administrator asks for while all else goes on: leaders elsewhere, splits, voters removed and demoted.

use crate::keys::{GROUP_KEYS, GROUPS, border, key};
use crate::routes::Routes;
use crate::session::Session;
use pinion_client::{Cluster, Error, PeerChange, PeerChangeKind, RegionInfo, StoreId};
use pinion_types::PeerRole;
use pinion_workload::Random;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Regions from which on nothing is split any more.
const REGIONS_MAX: usize = 24;

/// What an administrator may wish for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// Leaders elsewhere.
    pub transfers: bool,
    /// Regions split.
    pub splits: bool,
    /// Voters removed, and demoted.
    pub changes: bool,
}

/// An administrator.
pub(crate) struct Administrator {
    pub(crate) session: Rc<Session>,
    pub(crate) cluster: Cluster,
    pub(crate) routes: Rc<Routes>,
    pub(crate) random: Random,
    /// How long it rests at most between two wishes.
    pub(crate) rests_max: Duration,
    pub(crate) wishes: Wishes,
}

impl Administrator {
    /// Has wishes until there is to be calm.
    pub(crate) async fn run(mut self) {
        let shared = self.session.shared.clone();
        let micros = u64::try_from(self.rests_max.as_micros()).unwrap_or(u64::MAX).max(1);
        while !shared.is_calm.load(Relaxed) {
            pinion_runtime::sleep(Duration::from_micros(self.random.below(micros))).await;
            let regions = self.routes.regions();
            if regions.is_empty() || shared.is_calm.load(Relaxed) {
                continue;
            }
            let region = regions[self.random.index(regions.len())].clone();
            let (works, wishes) = (&shared.works, self.wishes);
            // What is refused is refused: the cluster is in trouble. It is not done, or done later.
            match self.random.below(10) {
                0..4 if wishes.transfers => count(&works.transfers, self.transfer(&region).await.as_ref()),
                4..6 if wishes.splits && regions.len() < REGIONS_MAX => {
                    count(&works.splits, self.split().await.as_ref());
                }
                6..8 if wishes.changes => {
                    count(&works.demotions, self.change(&region, PeerChangeKind::AddLearner).await.as_ref());
                }
                8.. if wishes.changes => {
                    count(&works.removals, self.change(&region, PeerChangeKind::Remove).await.as_ref());
                }
                _ => {}
            }
        }
    }

    async fn transfer(&mut self, info: &RegionInfo) -> Option<Result<(), Error>> {
        let to = self.voter(info, |store| info.leader.is_none_or(|leader| leader.store != store))?;
        Some(self.cluster.transfer_leader(info.region.id, to).await)
    }

    /// Splits where a group begins, or amid the keys that are worked on.
    async fn split(&mut self) -> Option<Result<(), Error>> {
        let group = self.random.index(GROUPS);
        let at = match self.random.below(4) {
            0 => border(group),
            _ => key(self.session.enter().0.number, group, self.random.index(GROUP_KEYS)),
        };
        Some(self.cluster.split(&[at]).await.map(drop))
    }

    /// Takes a voter away, or its vote. The cluster gives the region another one by itself.
    async fn change(&mut self, info: &RegionInfo, kind: PeerChangeKind) -> Option<Result<(), Error>> {
        let store = self.voter(info, |_| true)?;
        let change = PeerChange { store, kind };
        Some(self.cluster.change_peers(info.region.id, &[change]).await.map(drop))
    }

    fn voter(&mut self, info: &RegionInfo, wanted: impl Fn(StoreId) -> bool) -> Option<StoreId> {
        let voters = info.region.peers.iter().filter(|peer| peer.role == PeerRole::Voter);
        let voters: Vec<_> = voters.map(|peer| peer.store).filter(|store| wanted(*store)).collect();
        (!voters.is_empty()).then(|| voters[self.random.index(voters.len())])
    }
}

fn count(counter: &AtomicU64, done: Option<&Result<(), Error>>) {
    if let Some(Ok(())) = done {
        counter.fetch_add(1, Relaxed);
    }
}
