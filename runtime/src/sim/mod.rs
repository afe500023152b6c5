//! The simulator: every core of every store on one thread, in virtual time, from one seed.
//!
//! A world has hosts. Each has a disk that loses, tears and reorders what was not synced when its power is cut, an address on a network that
//! delays, cuts and partitions, and clocks that drift and jump. Nothing in it touches a file, a socket, a thread or a clock of the real
//! machine; the same seed gives the same run, event by event, which [`Simulation::trace_hash`] shows.
//!
//! ```
//! use pinion_runtime::sim;
//! use pinion_types::CoreId;
//! use std::time::Duration;
//!
//! let survived = sim::run(sim::Config::new(7), |simulation| {
//!     let host = simulation.add_host("store-1");
//!     simulation.block_on(async {
//!         host.spawn_core(CoreId(0), async {
//!             pinion_runtime::fs::create_dir_all("/data").await?;
//!             pinion_runtime::fs::sync_dir("/").await?;
//!             pinion_runtime::fs::write_atomically("/data/name", b"kept").await
//!         })
//!         .await;
//!         host.crash();
//!         host.start();
//!         host.spawn_core(CoreId(0), pinion_runtime::fs::read("/data/name")).await
//!     })
//! });
//! assert_eq!(survived.unwrap().unwrap(), b"kept");
//! ```
//!
//! Invariants:
//! - Time passes only when no task is ready, but for the cost of a poll ([`Config::poll_cost`]).
//! - Which ready task is polled next is drawn from the seed over their ids, so that the order of wakes within a poll decides nothing.
//! - An operation of a disk, once begun, ends by itself: dropping its future makes a write late, not undone.
//! - A core's tasks end with its main future, and a host's with the host: they are dropped, in the order of their ids.
//!
//! Cost: an operation of a disk on a block takes under a microsecond of real time in an optimised build, two in a test build; a
//! world that does nothing takes 30.

mod clock;
mod config;
mod disk;
pub(crate) mod fs;
mod hash_state;
mod host;
mod host_disk;
pub(crate) mod net;
mod network;
mod random;
pub(crate) mod task;
mod time;
mod trace;
mod world;

pub use config::{Config, CrashOdds};
pub use disk::{DiskError, Failing, IoCounts};
pub use host::{CoreHandle, Host};
pub(crate) use world::{current, is_simulated};

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;
use world::{Entered, Place, World};

/// Stack of a simulation's thread: what is not used costs nothing.
const STACK_BYTES: usize = 16 << 20;

/// Makes a world from `config` and hands it to `body`, on a thread of its own: std's hash maps take their order from the thread, and this
/// one's from the seed. A panic in `body` or in any task comes out of this function; the thread's name, which is in the message, tells
/// the seed.
pub fn run<T: Send>(config: Config, body: impl FnOnce(&Simulation) -> T + Send) -> T {
    let seed = config.seed;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name(format!("seed-{seed}"))
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, move || {
                hash_state::seed_this_thread(seed);
                body(&Simulation::new(config))
            })
            .expect("the operating system gives a thread");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A simulated world in the hands of a test.
pub struct Simulation {
    world: Rc<World>,
    driver: Host,
    /// Dropped after the world was torn down.
    _entered: Entered,
}

/// Where and when the running code is, for a line of a log: virtual time in seconds, the host's number, its life, and the core. `None` on the
/// real machine.
pub fn whereabouts() -> Option<String> {
    let world::Here { world, place } = current()?;
    let seconds = Duration::from_nanos(world.now()).as_secs_f64();
    Some(format!("{seconds:.6} host {}.{} core {}", place.host, place.life, place.core))
}

impl Simulation {
    fn new(config: Config) -> Self {
        assert!(!is_simulated(), "there is no world within a world");
        let world = World::new(config);
        let node = world.add_host("driver");
        let place = Place { host: node.id, life: node.life(), core: 0, dying: false };
        let entered = world.enter(place);
        Self { driver: Host { world: world.clone(), node }, world, _entered: entered }
    }

    /// A new host, up, with an empty disk.
    pub fn add_host(&self, name: &str) -> Host {
        let node = self.world.add_host(name);
        Host { world: self.world.clone(), node }
    }

    /// The host on which the driver's own code runs. It has a disk and an address like any other.
    pub fn driver(&self) -> &Host {
        &self.driver
    }

    /// Runs the world until `driver` is done. What it spawned goes on when the world next runs.
    ///
    /// # Panics
    /// When a task panics, when nothing is left that could ever wake the driver, or after [`Config::time_max`].
    pub fn block_on<T>(&self, driver: impl Future<Output = T>) -> T {
        self.world.drive(driver)
    }

    /// Runs the world for `duration` of virtual time.
    pub fn run_for(&self, duration: Duration) {
        self.block_on(crate::sleep(duration));
    }

    /// Runs the world until `done` says so, which is asked every `interval` of virtual time.
    pub fn run_until(&self, interval: Duration, mut done: impl FnMut() -> bool) {
        self.block_on(async {
            while !done() {
                crate::sleep(interval).await;
            }
        });
    }

    /// Virtual time since the world began.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.world.now())
    }

    /// The hash of all that has happened: polls, operations of disks with their data, packets, faults, each with its time.
    pub fn trace_hash(&self) -> u64 {
        self.world.trace.hash()
    }

    /// How many events have gone into the hash.
    pub fn events(&self) -> u64 {
        self.world.trace.events()
    }

    /// The last events as text, at most [`Config::trace_lines_max`].
    pub fn trace_lines(&self) -> Vec<String> {
        self.world.trace.lines()
    }

    /// A random number from the seed, for the test's own choices.
    pub fn random_u64(&self) -> u64 {
        self.world.numbers.next()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.world.tear_down();
    }
}
