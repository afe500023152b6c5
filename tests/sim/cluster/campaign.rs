//! One seed: a cluster is made, clients and an administrator are let loose on it, and trouble too; then all trouble ends, the cluster must come to
//! rest, and what the clients saw must have been possible.

use super::administrator::{Administrator, Done};
use super::clients::{Caller, Session, keys};
use super::coverage::Coverage;
use super::observer::Seen;
use super::route::Routes;
use super::stores::Cluster;
use super::trouble::{CORES_MAX, Counts, Trouble};
use super::{convergence, observer};
use crate::seeds;
use crate::store::PORT;
use pinion_linearizability::{Limits, Verdict, check};
use pinion_runtime::sim::{Config, Host, Simulation, run};
use pinion_types::CoreId;
use pinion_workload::Random;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const STORES: std::ops::Range<u64> = 3..6;
const CALLERS: u32 = 10;
/// What a seed takes at least.
const LASTS_MIN: Duration = Duration::from_secs(30);
const OPERATIONS_MIN: u64 = 1000;
const KINDS_MIN: usize = 3;
const LOOK_EVERY: Duration = Duration::from_millis(100);

struct Play<'a> {
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
        let seeds = self.cluster.stores.iter().map(|store| store.host.address(PORT)).collect();
        Routes::new(self.random.fork(), seeds)
    }

    /// Everything at once, until there has been enough of it.
    async fn let_loose(&mut self) {
        let mut callers = Vec::new();
        for number in 0..CALLERS {
            let (routes, random) = (self.routes(), self.random.fork());
            let caller = Caller::new(number, self.session.clone(), routes, random);
            callers.push(self.clients.spawn_core(core(number), caller.run()));
        }
        let (routes, random) = (self.routes(), self.random.fork());
        let administrator = Administrator::new(self.session.clone(), routes, random, self.done.clone());
        callers.push(self.clients.spawn_core(core(CALLERS), administrator.run()));
        let ends = Cell::new(false);
        let trouble = |random: &mut Random| Trouble {
            cluster: self.cluster,
            clients: self.clients,
            counts: &self.counts,
            ends: &ends,
            random: random.fork(),
        };
        let of_stores = trouble(&mut self.random).of_stores();
        let of_links = trouble(&mut self.random).of_links();
        let of_machines = trouble(&mut self.random).of_machines();
        let begun = pinion_runtime::now();
        let enough = async {
            while begun.elapsed() < LASTS_MIN
                || self.session.operations() < OPERATIONS_MIN
                || self.counts.kinds() < KINDS_MIN
            {
                pinion_runtime::sleep(LOOK_EVERY).await;
            }
            ends.set(true);
        };
        let watch = self.seen.watch(self.cluster, &ends);
        futures_util::join!(of_stores, of_links, of_machines, enough, watch);
        self.session.stopped.set(true);
        futures_util::future::join_all(callers).await;
    }

    /// Reads everything once more.
    async fn read_all(&mut self) {
        let (routes, random) = (self.routes(), self.random.fork());
        let caller = Caller::new(CALLERS, self.session.clone(), routes, random);
        let read = self.clients.spawn_core(core(CALLERS + 1), caller.read_all()).await;
        read.expect("the clients' host is up").unwrap();
    }

    fn judge(&self, reached: &mut Coverage) {
        let history = self.session.history.borrow();
        match check(&history, &Limits::default()) {
            Err(violation) => panic!("{violation}"),
            Ok(Verdict::Undecided { keys, .. }) => {
                reached.add("keys undecided (none is fine)", 1 + keys.len() as u64)
            }
            Ok(Verdict::Linearizable { .. }) => {}
        }
    }
}

fn core(number: u32) -> CoreId {
    CoreId(u16::try_from(number).expect("there are few clients"))
}

fn play_in(simulation: &Simulation, seed: u64) -> Coverage {
    let mut random = Random::new(seed);
    let stores = STORES.start + random.below(STORES.end - STORES.start);
    let cores: Vec<u16> = (0..stores)
        .map(|_| u16::try_from(1 + random.below(CORES_MAX)).expect("a store has few cores"))
        .collect();
    let cluster = Cluster::start(simulation, &cores);
    cluster.wait_for_voters(3);
    let clients = simulation.add_host("clients");
    let mut play = Play {
        cluster: &cluster,
        clients: &clients,
        random,
        session: Session::new(),
        done: Rc::default(),
        counts: Counts::default(),
        seen: observer::Seen::default(),
    };
    let before = simulation.elapsed();
    simulation.block_on(play.let_loose());
    simulation.block_on(convergence::demand(&cluster, &mut play.seen));
    simulation.block_on(play.read_all());
    let mut reached = Coverage::default();
    play.judge(&mut reached);
    for place in 0..cluster.stores.len() {
        cluster.end_life(place);
    }
    reached.add("seeds", 1);
    reached.add("simulated seconds", (simulation.elapsed() - before).as_secs());
    reached.add_faults(&play.counts);
    reached.add_clients(&play.session);
    reached.add_administrator(&play.done);
    reached.add_seen(&play.seen);
    cluster.done.borrow().iter().for_each(|done| reached.add_engine(done));
    reached
}

/// One seed; gives what it reached, and the hash of all that happened.
pub(crate) fn play(seed: u64) -> (Coverage, u64) {
    run(Config::new(seed), |simulation| {
        let reached = play_in(simulation, seed);
        (reached, simulation.trace_hash())
    })
}

#[test]
fn clusters_in_trouble() {
    assert!(keys().len() > 100, "a few hundred keys");
    let reached = seeds::play(6, |seed| play(seed).0);
    println!("{reached}");
    reached.demand_all();
}
