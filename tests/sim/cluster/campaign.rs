//! One seed: a cluster is made, clients and an administrator are let loose on it, and trouble too; then all trouble ends, the cluster must come to
//! rest, and what the clients saw must have been possible.

use super::administrator::{Administrator, Done, Wishes};
use super::clients::{Caller, Session, keys};
use super::coverage::{Coverage, SIMULATED, SNAPSHOTS};
use super::observer::Seen;
use super::route::Routes;
use super::stores::Cluster;
use super::trouble::{CORES_MAX, Counts, Fault, RESTS_MAX_US, Trouble};
use super::{convergence, observer};
use crate::store::{PORT, limits};
use crate::{replay, seeds};
use pinion_linearizability::{Limits, Verdict, check};
use pinion_runtime::sim::{Config, Host, Simulation, run};
use pinion_shard::ShardLimits;
use pinion_types::CoreId;
use pinion_workload::Random;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// What a seed is made of.
pub(super) struct Setting {
    /// Stores, from and to.
    pub(super) stores: std::ops::Range<u64>,
    pub(super) cores_max: u64,
    pub(super) callers: u32,
    /// From which size on regions are split by themselves in every other seed; 0 for never.
    pub(super) region_split_bytes: u64,
    /// Entries that a region's log keeps.
    pub(super) log_entries_max: u64,
    /// What a seed takes at least.
    pub(super) lasts_min: Duration,
    pub(super) operations_min: u64,
    pub(super) kinds_min: usize,
    pub(super) of_stores: &'static [Fault],
    pub(super) of_links: &'static [Fault],
    pub(super) of_machines: &'static [Fault],
    pub(super) wishes: Wishes,
    /// Snapshots that a seed waits for, beside those that the first peers were made by.
    pub(super) snapshots_min: u64,
    /// Whether a seed goes on until each of the wishes was granted once.
    pub(super) each_wish: bool,
    /// Whether a store may join while all this goes on.
    pub(super) joins: bool,
}

/// Everything at once.
const ALL: Setting = Setting {
    stores: 3..6,
    cores_max: CORES_MAX,
    callers: 10,
    region_split_bytes: 24 << 10,
    log_entries_max: 100,
    lasts_min: Duration::from_secs(30),
    operations_min: 1000,
    kinds_min: 3,
    of_stores: &Fault::OF_STORES,
    of_links: &Fault::OF_LINKS,
    of_machines: &Fault::OF_MACHINES,
    wishes: Wishes { splits: true, transfers: true, changes: true },
    snapshots_min: 0,
    each_wish: false,
    joins: true,
};
/// Stores of a cluster at most.
const STORES_MAX: u64 = 5;
/// Names, in the environment, that each seed is to be played in another process too, which must agree.
const TWICE: &str = "PINION_SIM_TWICE";
/// How much faster than the clock the world must go, on one processor. It is more than a hundred times; less makes long campaigns useless.
const SPEED_MIN: f64 = 20.0;
/// Seeds of a plain test.
const FEW: u64 = 12;
const LOOK_EVERY: Duration = Duration::from_millis(100);

struct Play<'a> {
    setting: &'a Setting,
    cluster: &'a Cluster<'a>,
    clients: &'a Host,
    random: Random,
    session: Rc<Session>,
    done: Rc<Done>,
    counts: Counts,
    seen: Seen,
}

impl Play<'_> {
    fn routes(&mut self) -> Routes {
        let seeds = self.cluster.stores[..self.cluster.present()].iter();
        let seeds = seeds.map(|store| store.host.address(PORT)).collect();
        Routes::new(self.random.fork(), seeds)
    }

    /// Everything at once, until there has been enough of it.
    async fn let_loose(&mut self) {
        let mut callers = Vec::new();
        for number in 0..self.setting.callers {
            let (routes, random) = (self.routes(), self.random.fork());
            let caller = Caller::new(number, self.session.clone(), routes, random);
            callers.push(self.clients.spawn_core(core(number), caller.run()));
        }
        let (routes, random) = (self.routes(), self.random.fork());
        let administrator =
            Administrator::new(self.session.clone(), routes, random, self.done.clone(), self.setting.wishes);
        callers.push(self.clients.spawn_core(core(self.setting.callers), administrator.run()));
        let ends = Cell::new(false);
        let trouble = |random: &mut Random, faults| Trouble {
            cluster: self.cluster,
            clients: self.clients,
            counts: &self.counts,
            ends: &ends,
            random: random.fork(),
            rests_max_us: RESTS_MAX_US.start + random.below(RESTS_MAX_US.end - RESTS_MAX_US.start),
            faults,
        };
        let of_stores = trouble(&mut self.random, self.setting.of_stores).of_stores();
        let of_links = trouble(&mut self.random, self.setting.of_links).of_links();
        let of_machines = trouble(&mut self.random, self.setting.of_machines).of_machines();
        let joins = trouble(&mut self.random, &[]).joins();
        let begun = pinion_runtime::now();
        let snapshots_min = self.cluster.snapshots_installed() + self.setting.snapshots_min;
        let enough = async {
            while begun.elapsed() < self.setting.lasts_min
                || self.session.operations() < self.setting.operations_min
                || self.counts.kinds() < self.setting.kinds_min
                || self.cluster.snapshots_installed() < snapshots_min
                || (self.setting.each_wish && !self.done.has_each(self.setting.wishes))
            {
                pinion_runtime::sleep(LOOK_EVERY).await;
            }
            ends.set(true);
        };
        let watch = self.seen.watch(self.cluster, &ends);
        futures_util::join!(of_stores, of_links, of_machines, joins, enough, watch);
        self.session.stopped.set(true);
        futures_util::future::join_all(callers).await;
    }

    /// Reads everything once more.
    async fn read_all(&mut self) {
        let (routes, random) = (self.routes(), self.random.fork());
        let caller = Caller::new(self.setting.callers, self.session.clone(), routes, random);
        let read = self.clients.spawn_core(core(self.setting.callers + 1), caller.read_all()).await;
        read.expect("the clients' host is up").unwrap();
    }

    fn judge(&self, reached: &mut Coverage) {
        let history = self.session.history.borrow();
        match check(&history, &Limits::default()) {
            Err(violation) => panic!("{violation}"),
            Ok(Verdict::Undecided { keys, .. }) => {
                reached.add("keys undecided (none is fine)", 1 + keys.len() as u64);
            }
            Ok(Verdict::Linearizable { .. }) => {}
        }
    }
}

fn core(number: u32) -> CoreId {
    CoreId(u16::try_from(number).expect("there are few clients"))
}

fn play_in(simulation: &Simulation, setting: &Setting, seed: u64) -> Coverage {
    let mut random = Random::new(seed);
    let stores = setting.stores.start + random.below(setting.stores.end - setting.stores.start);
    let cores: Vec<u16> = (0..stores)
        .map(|_| u16::try_from(1 + random.below(setting.cores_max)).expect("a store has few cores"))
        .collect();
    let region_split_bytes = if seed.is_multiple_of(2) { setting.region_split_bytes } else { 0 };
    let limits = ShardLimits { region_split_bytes, log_entries_max: setting.log_entries_max, ..limits() };
    let mut cluster = Cluster::start_with(simulation, &cores, limits);
    cluster.wait_for_voters(3);
    let joins = setting.joins && stores < STORES_MAX && random.below(2) == 0;
    if joins {
        cluster.expect_store();
    }
    let clients = simulation.add_host("clients");
    let mut play = Play {
        setting,
        cluster: &cluster,
        clients: &clients,
        random,
        session: Session::new(),
        done: Rc::default(),
        counts: Counts::default(),
        seen: observer::Seen::default(),
    };
    let (before, installed_before) = (simulation.elapsed(), cluster.snapshots_installed());
    simulation.block_on(play.let_loose());
    simulation.block_on(convergence::demand(&cluster, &mut play.seen));
    simulation.block_on(play.read_all());
    let mut reached = Coverage::default();
    play.judge(&mut reached);
    for place in 0..cluster.stores.len() {
        cluster.end_life(place);
    }
    reached.add("seeds", 1);
    if setting.joins {
        reached.add("stores that joined meanwhile", u64::from(joins));
    }
    reached.add(SIMULATED, simulation.elapsed().saturating_sub(before).as_secs());
    reached.add("restarts", cluster.stores.iter().map(|store| store.lives() - 1).sum());
    reached.add_faults(&play.counts);
    reached.add_clients(&play.session);
    reached.add_administrator(&play.done);
    reached.add_seen(&play.seen);
    if setting.region_split_bytes > 0 {
        reached.add("regions split because of their size", cluster.regions_split.get());
    }
    cluster.done.borrow().iter().for_each(|done| reached.add_engine(done));
    reached.add(SNAPSHOTS, cluster.snapshots_installed() - installed_before);
    reached
}

/// One seed; gives what it reached, and the hash of all that happened.
pub(crate) fn play(seed: u64) -> (Coverage, u64) {
    play_as(&ALL, seed)
}

/// The same of another setting.
pub(super) fn play_as(setting: &Setting, seed: u64) -> (Coverage, u64) {
    run(Config::new(seed), |simulation| {
        let before = processor_time();
        let mut reached = play_in(simulation, setting, seed);
        reached.add_processor(processor_time().saturating_sub(before));
        (reached, simulation.trace_hash())
    })
}

/// What the processor has spent on this thread, which is all of one seed's.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.try_into().expect("no time is negative")
}

#[test]
fn clusters_in_trouble() {
    assert!(keys().len() > 100, "a few hundred keys");
    let twice = std::env::var_os(TWICE).is_some();
    let reached = seeds::play("clusters_in_trouble", FEW, u64::MAX, |seed| {
        let (reached, hash) = play(seed);
        if twice {
            replay::demand_of_cluster(seed, hash, &reached);
        }
        reached
    });
    println!("{reached}");
    println!("{}", reached.cost());
    // One seed that is played again need not have everything.
    if reached.get("seeds") >= FEW {
        reached.demand_all();
        assert!(reached.speed() >= SPEED_MIN, "the simulator is slower than {SPEED_MIN} times the clock");
    }
}
