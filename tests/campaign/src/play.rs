//! A play, which a campaign is one of: a cluster is made, clients are let loose on it and trouble too; then all is mended, the cluster must come to
//! rest, and what the clients saw must have been possible.

use crate::clients::{self, Load};
use crate::cluster::{Cluster, Plan, Stop};
use crate::convergence;
use crate::judge::{self, Ledger};
use crate::shared::Shared;
use crate::trouble::{Trouble, Troubles};
use anyhow::{Result, anyhow};
use pinion_client::Client;
use pinion_workload::Random;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How long the cluster may take until all is as it should be.
const CONVERGES_WITHIN: Duration = Duration::from_mins(1);

/// What a play is made of.
pub struct Setting {
    /// The cluster.
    pub plan: Plan,
    /// Clients and administrator.
    pub load: Load,
    /// What befalls the stores.
    pub troubles: Troubles,
    /// Packets of a hundred that get lost all the while; see [`Network::lose`](crate::network::Network::lose).
    pub loss_percent: u8,
    /// How long clients go on when all is mended.
    pub calm: Duration,
}

/// A play whose clients have ended, and whose cluster is there.
pub struct Played {
    /// The cluster, and what befell it.
    pub trouble: Trouble,
    /// How long clients were at work.
    pub time: Duration,
    /// Packets that were lost.
    pub packets_lost: u64,
    client: Client,
    ledger: Ledger,
    voters: usize,
    troubled: Result<()>,
}

/// What a cluster had when it was at rest.
pub struct Rest {
    /// Its regions.
    pub regions: usize,
    /// Keys that the clients see.
    pub keys: usize,
}

/// Plays as long as it is told to go on, with the stores' files and logs in `work`. What goes wrong with the stores [`Played::end`] says.
///
/// # Errors
/// When the cluster cannot be made, or the clients cannot run.
pub fn play(
    setting: &Setting,
    program: &Path,
    work: &Path,
    shared: &Arc<Shared>,
    stop: Stop,
    mut random: Random,
    goes_on: impl FnMut(&Trouble) -> bool,
) -> Result<Played> {
    let (cluster, client) = Cluster::start(&setting.plan, program, work, shared.clone(), stop)?;
    let (rounds, judge) = judge::start(shared.clone(), work.to_owned());
    let clients = clients::start(setting.load, setting.plan.stores, shared.clone(), rounds, random.fork());
    let mut trouble = Trouble::new(cluster, client.clone(), random, setting.troubles)?;
    let begun = Instant::now();
    let lost = make_trouble(&mut trouble, setting, goes_on);
    // It may not have come to that.
    shared.is_calm.store(true, Relaxed);
    shared.ends.store(true, Relaxed);
    let time = begun.elapsed();
    clients.join().map_err(|_| anyhow!("the clients' thread panicked"))??;
    let ledger = judge.join().map_err(|_| anyhow!("the checker's thread panicked"))?;
    let packets_lost = *lost.as_ref().unwrap_or(&0);
    let voters = setting.plan.voters;
    Ok(Played { trouble, time, packets_lost, client, ledger, voters, troubled: lost.map(drop) })
}

/// Gives how many packets were lost.
fn make_trouble(
    trouble: &mut Trouble,
    setting: &Setting,
    goes_on: impl FnMut(&Trouble) -> bool,
) -> Result<u64> {
    let loses = setting.loss_percent > 0;
    if loses {
        trouble.cluster.network.lose(setting.loss_percent)?;
    }
    trouble.run(goes_on)?;
    trouble.cluster.shared.is_calm.store(true, Relaxed);
    let lost = if loses { trouble.cluster.network.stop_losing()? } else { 0 };
    trouble.cluster.wait(setting.calm)?;
    Ok(lost)
}

impl Played {
    /// The stores come to rest, are compared, and are stopped; nothing may have been found to be wrong.
    ///
    /// # Errors
    /// When anything is wrong, or was.
    pub fn end(&mut self, program: &Path) -> Result<Rest> {
        std::mem::replace(&mut self.troubled, Ok(()))?;
        let cluster = &mut self.trouble.cluster;
        cluster.check()?;
        let regions = convergence::wait_until_whole(&self.client, self.voters, CONVERGES_WITHIN)?;
        let count = regions.len();
        let keys = convergence::compare(regions, &self.ledger)?;
        cluster.check()?;
        cluster.stop(program)?;
        Ok(Rest { regions: count, keys })
    }
}
