//! Stores on their network, from the first start to the last stop.

use crate::network::{self, Network};
use crate::shared::Shared;
use crate::store::Store;
use crate::{clients, convergence};
use anyhow::{Context as _, Result, bail, ensure};
use pinion_client::{Client, PeerChange, PeerChangeKind, StoreId};
use pinion_linearizability::Key;
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// How long the stores may take until every region has its voters.
const FORMS_WITHIN: Duration = Duration::from_mins(1);
/// How often waiting looks whether something has gone wrong.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is to come when the user wants the program to end.
pub type Stop = Pin<Box<dyn Future<Output = &'static str> + Send>>;

/// What a cluster is made of.
pub struct Plan {
    /// How many stores there are.
    pub stores: u8,
    /// Voters that the stores give every region by themselves.
    pub voters: usize,
    /// Settings of every store, as in its file.
    pub settings: String,
    /// Where regions are split before anything else.
    pub borders: Vec<Key>,
}

/// The stores, and what they run on. They go before the network when it is dropped.
pub struct Cluster {
    /// The stores, in the order of their numbers.
    pub stores: Vec<Store>,
    /// What joins them.
    pub network: Network,
    /// What is shared with the threads of clients and checker.
    pub shared: Arc<Shared>,
    stop: Stop,
}

impl Cluster {
    /// Makes the network, starts stores with their files below `directory`, and waits until they are a cluster of which every region has its
    /// voters.
    ///
    /// Gives a client of it, too.
    ///
    /// # Errors
    /// When this process may not make namespaces, or a store does not start.
    pub fn start(
        plan: &Plan,
        program: &Path,
        directory: &Path,
        shared: Arc<Shared>,
        stop: Stop,
    ) -> Result<(Self, Client)> {
        let network = Network::new(plan.stores)?;
        let store = |number| {
            let home = directory.join(format!("store{number}"));
            Store::new(number, network.space(number), program, &plan.settings, home)
        };
        let stores = (1..=plan.stores).map(store).collect::<Result<_>>()?;
        let mut cluster = Self { stores, network, shared, stop };
        for (place, store) in cluster.stores.iter_mut().enumerate() {
            store.start((place > 0).then_some(1))?;
            store.wait_until_ready()?;
        }
        let addresses: Vec<_> = (1..=plan.stores).map(network::listener).collect();
        let client = Client::connect_blocking(&addresses, clients::options())?;
        if !plan.borders.is_empty() {
            client.blocking().split(&plan.borders)?;
        }
        give_voters(&client, plan)?;
        convergence::wait_until_whole(&client, plan.voters, FORMS_WITHIN)?;
        Ok((cluster, client))
    }

    /// Waits so long.
    ///
    /// # Errors
    /// When a store ended by itself, anything was found to be wrong, or the user wants to end.
    pub fn wait(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }

    /// Fails when anything is wrong.
    pub fn check(&mut self) -> Result<()> {
        self.stores.iter_mut().try_for_each(Store::check_running)?;
        let mut context = Context::from_waker(Waker::noop());
        if !self.shared.is_interrupted.load(Relaxed) && self.stop.as_mut().poll(&mut context).is_ready() {
            self.shared.is_interrupted.store(true, Relaxed);
        }
        ensure!(!self.shared.is_interrupted.load(Relaxed), "interrupted");
        match self.shared.failure() {
            Some(failure) => bail!("{failure}"),
            None => Ok(()),
        }
    }

    /// Starts the stores that do not run, all at the same time, and waits until they serve.
    pub fn restart(&mut self) -> Result<()> {
        let down: Vec<usize> = (0..self.stores.len()).filter(|&place| !self.stores[place].runs()).collect();
        down.iter().try_for_each(|&place| self.stores[place].start(None))?;
        down.iter().try_for_each(|&place| self.stores[place].wait_until_ready())
    }

    /// Stops every store, and looks at what they leave: every checksum, and the logs.
    pub fn stop(&mut self, program: &Path) -> Result<()> {
        for store in &mut self.stores {
            store.stop()?;
        }
        for store in &self.stores {
            let verify = Command::new(program).arg("inspect").arg(store.data()).arg("verify").output();
            let verify = verify.context("pinion inspect cannot be run")?;
            let said = String::from_utf8_lossy(&verify.stdout);
            ensure!(verify.status.success(), "the files of store {} are damaged:\n{said}", store.number);
        }
        self.check_logs()
    }

    /// No store may have panicked, or met damage.
    pub fn check_logs(&self) -> Result<()> {
        for store in &self.stores {
            let log = std::fs::read_to_string(store.log())?;
            let bad = |line: &&str| {
                line.contains("panicked at") || line.contains("damaged") || line.contains(" ERROR ")
            };
            if let Some(line) = log.lines().find(bad) {
                bail!("store {} logged: {line}", store.number);
            }
        }
        Ok(())
    }
}

/// Gives every region its voters at once, which takes the stores a second for each of them.
fn give_voters(client: &Client, plan: &Plan) -> Result<()> {
    let begun = Instant::now();
    let voters = (1..=plan.stores).take(plan.voters).map(|store| StoreId(u64::from(store)));
    let changes: Vec<_> = voters.map(|store| PeerChange { store, kind: PeerChangeKind::AddVoter }).collect();
    for info in client.blocking().regions()? {
        // Whoever leads it hears of new stores a moment later, and may be about to change something itself.
        while let Err(error) = client.blocking().change_peers(info.region.id, &changes) {
            ensure!(begun.elapsed() < FORMS_WITHIN, "region {} gets no voters: {error}", info.region.id);
            std::thread::sleep(LOOK_EVERY);
        }
    }
    Ok(())
}
