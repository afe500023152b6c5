//! The clients' thread: a runtime of its own with all clients, the administrator, and whoever turns the rounds.

use crate::administrator::{Administrator, Wishes};
use crate::caller::Caller;
use crate::judge::Finished;
use crate::network;
use crate::routes::Routes;
use crate::session::Session;
use crate::shared::Shared;
use anyhow::{Context, Result};
use pinion_client::{Cluster, Options, StoreId};
use pinion_workload::Random;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a client waits for a call with all its tries; after that a write's outcome is unknown.
const CALL_MAX: Duration = Duration::from_secs(4);
/// How long a change of members is waited for.
const CHANGE_MAX: Duration = Duration::from_secs(15);

/// What the clients do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many there are, each with one call at a time.
    pub clients: u32,
    /// Operations a second, of all clients together.
    pub rate: u64,
    /// How long the administrator rests at most between two wishes.
    pub rests_max: Duration,
    /// What the administrator wishes for.
    pub wishes: Wishes,
}

/// Options of every client of the cluster.
pub fn options() -> Options {
    Options { call_timeout: CALL_MAX, admin_timeout: CHANGE_MAX, ..Options::default() }
}

/// Starts the clients, on a thread that inherits this one's namespace, and waits until they know the cluster. They end when they are told to.
pub(crate) fn start(
    load: Load,
    stores: u8,
    shared: Arc<Shared>,
    judge: SyncSender<Finished>,
    random: Random,
) -> JoinHandle<Result<()>> {
    let (ready, connected) = channel();
    let thread = std::thread::spawn(move || {
        let ended = shared.clone();
        let result = pinion_runtime::machine::block_on(run(load, stores, ready, shared, judge, random))
            .context("the clients' runtime")
            .and_then(|result| result);
        if let Err(error) = &result {
            ended.fail(format!("the clients ended: {error:#}"));
        }
        result
    });
    // Where they can't connect they say so when they are joined.
    let _ = connected.recv();
    thread
}

async fn run(
    load: Load,
    stores: u8,
    ready: Sender<()>,
    shared: Arc<Shared>,
    judge: SyncSender<Finished>,
    mut random: Random,
) -> Result<()> {
    let stores: BTreeMap<_, _> =
        (1..=stores).map(|store| (StoreId(u64::from(store)), network::listener(store))).collect();
    let addresses: Vec<_> = stores.values().copied().collect();
    let cluster = Cluster::connect(&addresses, options()).await?;
    ready.send(())?;
    let session = Session::new(shared.clone());
    let routes = Routes::new(cluster.with_own_connections(), stores);
    let fresh = pinion_runtime::spawn(routes.clone().keep_fresh(shared));
    let administrator = Administrator {
        session: session.clone(),
        cluster: cluster.with_own_connections(),
        routes: routes.clone(),
        random: random.fork(),
        rests_max: load.rests_max,
        wishes: load.wishes,
    };
    let mut tasks = vec![fresh, pinion_runtime::spawn(administrator.run())];
    for number in 1..=load.clients {
        let caller = Caller {
            number,
            session: session.clone(),
            // Some share their connections, as the threads of a program do.
            cluster: if number % 4 == 0 { cluster.with_own_connections() } else { cluster.clone() },
            routes: routes.clone(),
            random: random.fork(),
            every: Duration::from_secs(u64::from(load.clients)) / u32::try_from(load.rate.max(1))?,
        };
        tasks.push(pinion_runtime::spawn(caller.run()));
    }
    tasks.push(pinion_runtime::spawn(session.turn_rounds(cluster, judge)));
    futures_util::future::join_all(tasks).await;
    Ok(())
}
