//! Every operation of a disk failed, at each index in turn: once, and from then on.
//!
//! A store works through a fixed load of calls. Operation number n of its disk fails; whatever the store then says, it may not
//! lie: after the disk has healed and the power was cut, all that was acknowledged is there, and nothing else.

use crate::seeds::{self, Name, from_environment};
use crate::store::Local;
use pinion_runtime::sim::{Config, DiskError, Failing, Host, Simulation, run};
use pinion_types::CoreId;
use pinion_workload::{Model, Random, Session, session};
use std::ops::AddAssign;
use std::rc::Rc;
use std::time::Duration;

/// Slices of keys, which is how many writers there are, and acknowledged writes of the whole load.
const WRITERS: usize = 2;
const WRITES: u64 = 2200;
/// The load has at least so many operations.
const IOS_MIN: u64 = 2000;
/// As a plain test, every so many-th operation fails.
const STRIDE: u64 = 97;
const SEED: u64 = 4711;
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// A store that has acknowledged nothing for so long will not: its disk is full for good.
const STANDSTILL_MAX: Duration = Duration::from_millis(300);

/// What became of the runs.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    runs: u64,
    struck: u64,
    went_on: u64,
    acknowledged: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.struck += other.struck;
        self.went_on += other.went_on;
        self.acknowledged += other.acknowledged;
    }
}

/// Works on the load until it is done or the store takes no more writes. Gives the model and whether the load was done.
fn work(simulation: &Simulation, host: &Host) -> (Model, bool) {
    let session = Rc::new(Session::new(Model::new(session::keys(WRITERS))));
    let playing = session.clone();
    let core = host.spawn_core(CoreId(0), async move {
        // A start that fails has acknowledged nothing.
        let Ok(store) = Local::start().await else { return };
        let store = Rc::new(store);
        let mut random = Random::new(SEED);
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let (session, store, random) = (playing.clone(), store.clone(), random.fork());
            tasks.push(pinion_runtime::spawn(async move {
                session::write(&session, &*store, session::slice(writer), random).await;
            }));
        }
        let (reading, reader, random) = (playing.clone(), store.clone(), random.fork());
        pinion_runtime::spawn(async move { session::read(&reading, &*reader, random).await });
        let writers = futures_util::future::join_all(tasks);
        let enough = async {
            let (mut acknowledged, mut since) = (0, pinion_runtime::now());
            while playing.acknowledged() < WRITES && !playing.stopped() && since.elapsed() < STANDSTILL_MAX {
                pinion_runtime::sleep(LOOK_EVERY).await;
                if playing.acknowledged() > acknowledged {
                    (acknowledged, since) = (playing.acknowledged(), pinion_runtime::now());
                }
            }
        };
        futures_util::future::select(std::pin::pin!(writers), std::pin::pin!(enough)).await;
    });
    simulation.block_on(core);
    session.stop();
    let fault = session.fault();
    assert!(fault.is_ok(), "{}", fault.unwrap_err());
    let done = session.acknowledged() >= WRITES;
    (session.model.replace(Model::new(Vec::new())), done)
}

/// The disk is whole again and the power was gone: everything that was acknowledged is there.
fn look(simulation: &Simulation, host: &Host, model: Model) {
    host.clear_disk_faults();
    host.crash();
    host.start();
    let core = host.spawn_core(CoreId(0), async move {
        let store = Local::start().await.unwrap();
        let session = Session::new(model);
        session::verify(&session, &store, &mut Random::new(SEED)).await.unwrap();
    });
    simulation.block_on(core).expect("the host stays up");
}

/// Operations that the load has when nothing fails.
fn count_ios() -> u64 {
    run(Config::new(SEED), |simulation| {
        let host = simulation.add_host("store");
        let (model, done) = work(simulation, &host);
        assert!(done, "nothing fails here");
        let ios = host.io_count();
        look(simulation, &host, model);
        ios
    })
}

fn fail_at(at: u64, persists: bool, error: DiskError) -> Tally {
    run(Config::new(SEED), |simulation| {
        let host = simulation.add_host("store");
        host.fail_io(if persists { Failing::From(at) } else { Failing::Once(at) }, error);
        let (model, done) = work(simulation, &host);
        let struck = host.io_count() > at;
        let acknowledged = model.acknowledged();
        look(simulation, &host, model);
        Tally { runs: 1, struck: u64::from(struck), went_on: u64::from(done), acknowledged }
    })
}

#[test]
fn io_failures() {
    let ios = count_ios();
    assert!(ios >= IOS_MIN, "the load has too few operations: {ios}");
    let stride = from_environment("PINION_SIM_IO_STRIDE").unwrap_or(STRIDE);
    for error in [DiskError::Io, DiskError::NoSpace] {
        for persists in [false, true] {
            let steps = 0..ios.div_ceil(stride);
            let tally = seeds::over(&Name::Steps("io_failures"), steps, |step| {
                fail_at(step * stride, persists, error)
            });
            println!("{error:?}, {}: {tally:?}", if persists { "from then on" } else { "once" });
            assert_eq!(tally.struck, tally.runs, "every failure must be met");
            assert!(tally.acknowledged > 0);
        }
    }
}
