//! Power cuts: a store of one or two cores, written to over connections, loses its power at any moment, at an operation of its disk,
//! and while it recovers. What was not synced is lost, torn, or there in another order.

use crate::coverage::Coverage;
use crate::seeds;
use crate::store::{Life, addresses};
use pinion_capnp::client::Client;
use pinion_runtime::sim::{Config, Host, Simulation, run};
use pinion_workload::{Connection, Model, Random, Session, session};
use std::rc::Rc;
use std::time::Duration;

/// Writers and readers of a session, each connection with several calls outstanding.
const CONNECTIONS: usize = 3;
const DEPTH: usize = 4;
const READERS: usize = 2;
const WRITERS: usize = CONNECTIONS * DEPTH;
/// Lives of a store but the last, and acknowledged writes before each ends.
const ROUNDS: u64 = 4;
const WRITES: u64 = 300;
/// Cuts during one recovery.
const RECOVERY_CUTS_MAX: u64 = 3;
/// Operations of the disk within which a recovery may be cut.
const RECOVERY_IOS: u64 = 400;
/// Operations of the disk after which a cut that waits for one comes at the latest.
const CUT_WITHIN_IOS: u64 = 60;
/// How long after enough writes the power goes.
const CUT_WITHIN_US: u64 = 3000;
const LOOK_EVERY: Duration = Duration::from_micros(100);

struct Play<'a> {
    simulation: &'a Simulation,
    host: Host,
    random: Random,
    model: Model,
    cores: u16,
    reached: Coverage,
}

impl Play<'_> {
    /// One life: starts, is checked, written to, and loses its power.
    fn round(&mut self, number: u64) {
        let life = self.start();
        self.session(&life, number);
        if self.host.is_up() {
            self.host.crash();
        }
        self.reached.cuts += 1;
        self.end(&life);
    }

    fn end(&mut self, life: &Life) {
        for statistics in life.statistics() {
            self.reached.add_engine(&statistics);
        }
    }

    /// Starts the store; its power may go a few times before it is up.
    fn start(&mut self) -> Life {
        if !self.host.is_up() {
            self.host.start();
            self.reached.restarts += 1;
        }
        // At least one in every seed.
        let mut wanted = if self.reached.restarts > 0 { 1 + self.random.below(RECOVERY_CUTS_MAX) } else { 0 };
        let mut within = RECOVERY_IOS;
        while wanted > 0 {
            self.host.crash_at_io(self.host.io_count() + 1 + self.random.below(within));
            let life = Life::begin(&self.host, self.cores);
            if life.wait(self.simulation, &self.host) {
                // It was up before that: the next cut comes earlier.
                self.host.crash();
                within = (within / 2).max(1);
            } else {
                self.reached.cuts_in_recovery += 1;
                wanted -= 1;
            }
            self.reached.cuts += 1;
            self.end(&life);
            self.host.clear_disk_faults();
            self.host.start();
            self.reached.restarts += 1;
        }
        let cores = if self.random.below(2) == 0 { 3 - self.cores } else { self.cores };
        self.reached.core_changes += u64::from(cores != self.cores && self.reached.restarts > 0);
        self.cores = cores;
        let life = Life::begin(&self.host, self.cores);
        assert!(life.wait(self.simulation, &self.host), "nothing cuts the power");
        life
    }

    /// Checks everything, and writes until the power goes.
    fn session(&mut self, life: &Life, number: u64) {
        let addresses = addresses(&self.host, self.cores);
        let open = self.model.open() as u64;
        let session = Rc::new(Session::new(std::mem::replace(&mut self.model, Model::new(Vec::new()))));
        let before = session.acknowledged();
        let (mut random, host) = (self.random.fork(), self.host.clone());
        let (cut_at_io, delay) = (random.below(2) == 0, Duration::from_micros(random.below(CUT_WITHIN_US)));
        let (ios, split) = (1 + random.below(CUT_WITHIN_IOS), random.below(2) == 0);
        let playing = session.clone();
        self.simulation.block_on(async move {
            let first = Connection::connect(&addresses[0]).await.unwrap();
            session::verify(&playing, &first, &mut random).await.unwrap();
            let tasks = begin(&playing, &addresses, &mut random).await;
            if split || number == 0 {
                let keys = session::keys(WRITERS);
                let border = session::slice(1 + random.index(WRITERS - 1)).start;
                let client = Client::connect(addresses[0].parse().unwrap()).await.unwrap();
                let key = keys[border].clone();
                // The power may go meanwhile, and the region may begin there already.
                pinion_runtime::spawn(async move { drop(client.split(&[key]).await) });
            }
            while playing.acknowledged() < before + WRITES && !playing.stopped() {
                pinion_runtime::sleep(LOOK_EVERY).await;
            }
            if cut_at_io {
                host.crash_at_io(host.io_count() + ios);
            }
            pinion_runtime::sleep(delay).await;
            if host.is_up() && !cut_at_io {
                host.crash();
            }
            while host.is_up() && !playing.stopped() {
                pinion_runtime::sleep(LOOK_EVERY).await;
            }
            playing.stop();
            futures_util::future::join_all(tasks).await;
        });
        self.host.clear_disk_faults();
        let fault = session.fault();
        assert!(fault.is_ok(), "{}", fault.unwrap_err());
        self.reached.settled += open;
        self.reached.cuts_at_io += u64::from(cut_at_io);
        self.reached.acknowledged += session.acknowledged() - before;
        self.reached.reads += session.reads();
        let failures = life.failures();
        assert!(failures.is_empty(), "a core failed though its disk did not: {failures:?}");
        self.model = session.model.replace(Model::new(Vec::new()));
        self.reached.broken_calls += self.model.open() as u64;
    }

    /// The last life: nothing fails; a clean restart must keep everything, too.
    fn last_look(&mut self) {
        for _ in 0..2 {
            self.cores = 3 - self.cores;
            if !self.host.is_up() {
                self.host.start();
            }
            let life = Life::begin(&self.host, self.cores);
            assert!(life.wait(self.simulation, &self.host));
            let session = Session::new(std::mem::replace(&mut self.model, Model::new(Vec::new())));
            let address = addresses(&self.host, self.cores).remove(0);
            self.simulation.block_on(async {
                let connection = Connection::connect(&address).await.unwrap();
                session::verify(&session, &connection, &mut self.random).await.unwrap();
            });
            self.model = session.model.into_inner();
            self.end(&life);
            self.host.crash();
        }
    }
}

/// Starts the writers and the readers.
async fn begin(
    session: &Rc<Session>,
    addresses: &[String],
    random: &mut Random,
) -> Vec<pinion_runtime::JoinHandle<()>> {
    let mut tasks = Vec::new();
    for index in 0..CONNECTIONS {
        let connection = Rc::new(Connection::connect(&addresses[index % addresses.len()]).await.unwrap());
        for call in 0..DEPTH {
            let (session, connection, random) = (session.clone(), connection.clone(), random.fork());
            let slice = session::slice(index * DEPTH + call);
            tasks.push(pinion_runtime::spawn(async move {
                session::write(&session, &*connection, slice, random).await;
            }));
        }
    }
    for index in 0..READERS {
        let connection = Rc::new(Connection::connect(&addresses[index % addresses.len()]).await.unwrap());
        let (session, random) = (session.clone(), random.fork());
        tasks.push(pinion_runtime::spawn(async move {
            session::read(&session, &*connection, random).await;
        }));
    }
    tasks
}

/// One seed; gives what it reached, and the hash of all that happened.
pub(crate) fn play(seed: u64, prepare: impl Fn(&Host) + Send + Sync) -> (Coverage, u64) {
    run(Config::new(seed), |simulation| {
        let host = simulation.add_host("store");
        prepare(&host);
        let mut random = Random::new(seed);
        let cores = if random.below(2) == 0 { 1 } else { 2 };
        let model = Model::new(session::keys(WRITERS));
        let mut play = Play { simulation, host, random, model, cores, reached: Coverage::default() };
        for number in 0..ROUNDS {
            play.round(number);
        }
        play.last_look();
        play.reached.seeds = 1;
        (play.reached, simulation.trace_hash())
    })
}

#[test]
fn power_cuts() {
    let reached = seeds::play("power_cuts", 12, u64::MAX, |seed| play(seed, |_| {}).0);
    println!("{reached}");
    reached.demand_all();
}

#[test]
fn a_log_that_is_not_synced_is_found_out() {
    let lost = (1..=20)
        .any(|seed| std::panic::catch_unwind(|| play(seed, |host| host.ignore_data_sync(true))).is_err());
    assert!(lost, "O_DSYNC was ignored, and nobody noticed");
}
