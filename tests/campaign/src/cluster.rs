//! Three stores on their network, from the first start to the last stop.

use crate::keys::{GROUPS, border};
use crate::network::{self, Network};
use crate::shared::Shared;
use crate::store::Store;
use crate::{clients, convergence};
use anyhow::{Context as _, Result, bail, ensure};
use pinion_client::Client;
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// How many stores there are.
pub(crate) const STORES: u8 = 3;
/// How long the stores may take until every region has its voters.
const FORMS_WITHIN: Duration = Duration::from_mins(1);
/// How often waiting looks whether something has gone wrong.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is to come when the user wants the program to end.
pub(crate) type Stop = Pin<Box<dyn Future<Output = &'static str> + Send>>;

/// The stores, and what they run on. They go before the network when it is dropped.
pub(crate) struct Cluster {
    pub(crate) stores: Vec<Store>,
    pub(crate) network: Network,
    pub(crate) shared: Arc<Shared>,
    stop: Stop,
}

impl Cluster {
    /// Makes the network, starts stores with their files below `directory`, and waits until they are a cluster of several regions.
    ///
    /// Gives a client of it, too.
    pub(crate) fn start(
        program: &Path,
        directory: &Path,
        shared: Arc<Shared>,
        stop: Stop,
    ) -> Result<(Self, Client)> {
        let network = Network::new(STORES)?;
        let stores =
            (1..=STORES).map(|number| Store::new(number, program, directory.join(format!("store{number}"))));
        let mut cluster = Self { stores: stores.collect::<Result<_>>()?, network, shared, stop };
        for (place, store) in cluster.stores.iter_mut().enumerate() {
            store.start((place > 0).then_some(1))?;
            store.wait_until_ready()?;
        }
        let addresses: Vec<_> = (1..=STORES).map(network::listener).collect();
        let client = Client::connect_blocking(&addresses, clients::options())?;
        let borders: Vec<_> = (0..GROUPS).step_by(2).skip(1).map(border).collect();
        client.blocking().split(&borders)?;
        convergence::wait_until_whole(&client, usize::from(STORES), FORMS_WITHIN)?;
        Ok((cluster, client))
    }

    /// Waits so long.
    ///
    /// # Errors
    /// When a store ended by itself, anything was found to be wrong, or the user wants to end.
    pub(crate) fn wait(&mut self, time: Duration) -> Result<()> {
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
    pub(crate) fn check(&mut self) -> Result<()> {
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
    pub(crate) fn restart(&mut self) -> Result<()> {
        let down: Vec<usize> = (0..self.stores.len()).filter(|&place| !self.stores[place].runs()).collect();
        down.iter().try_for_each(|&place| self.stores[place].start(None))?;
        down.iter().try_for_each(|&place| self.stores[place].wait_until_ready())
    }

    /// Stops every store, and looks at what they leave: every checksum, and the logs.
    pub(crate) fn stop(&mut self, program: &Path) -> Result<()> {
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
    pub(crate) fn check_logs(&self) -> Result<()> {
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
