//! Hosts: each has cores, clocks, a disk and an address of its own.

use super::clock::Clock;
use super::disk::Disk;
use super::task::JoinHandle;
use super::trace::Kind;
use super::world::{Place, World};
use pinion_types::CoreId;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What a host's monotonic clock shows at most when the host starts.
const CLOCK_START_MAX_NANOS: u64 = 1_000_000_000;
/// Hosts of a world at most: their addresses are 10.0.0.1 and on.
pub(super) const HOSTS_MAX: usize = 250;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    Up,
    /// The process is dead; the operating system answers for it.
    Killed,
    /// Nothing answers.
    Off,
}

/// A host as the world sees it.
pub(super) struct Node {
    pub(super) id: usize,
    pub(super) name: String,
    pub(super) clock: Clock,
    pub(super) disk: Disk,
    pub(super) refuses_connections: Cell<bool>,
    power: Cell<Power>,
    life: Cell<u64>,
    paused: Cell<bool>,
    parked: RefCell<Vec<u64>>,
}

impl Node {
    pub(super) fn new(id: usize, name: &str, world: &World) -> Self {
        assert!(id < HOSTS_MAX, "a world has at most {HOSTS_MAX} hosts");
        let node = Self {
            id,
            name: name.to_owned(),
            clock: Clock::default(),
            disk: Disk::new(id, world.config.io_latency.clone()),
            refuses_connections: Cell::new(false),
            power: Cell::new(Power::Up),
            life: Cell::new(1),
            paused: Cell::new(false),
            parked: RefCell::default(),
        };
        node.clock.start(world.now(), world.numbers.below(CLOCK_START_MAX_NANOS));
        node
    }

    pub(super) fn ip(&self) -> IpAddr {
        let last = u8::try_from(self.id + 1).expect("fewer hosts than addresses");
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    pub(super) fn power(&self) -> Power {
        self.power.get()
    }

    pub(super) fn life(&self) -> u64 {
        self.life.get()
    }

    /// Whether the host is up and in this life.
    pub(super) fn is_life(&self, life: u64) -> bool {
        self.power.get() == Power::Up && self.life.get() == life
    }

    /// Sets a ready task aside, when the host is paused.
    pub(super) fn park(&self, task: u64) -> bool {
        if self.paused.get() {
            self.parked.borrow_mut().push(task);
        }
        self.paused.get()
    }
}

impl World {
    /// Cuts the power of a host that is up: tasks and connections are gone, and the disk keeps what it must and what it likes.
    pub(super) fn power_cut(self: &Rc<Self>, host: usize) {
        self.stop(host, Power::Off);
    }

    fn stop(self: &Rc<Self>, host: usize, power: Power) {
        let node = self.host(host);
        if node.power() != Power::Up {
            return;
        }
        self.event(Kind::Crash, [host as u64, power as u64, 0]);
        node.power.set(power);
        node.paused.set(false);
        node.parked.borrow_mut().clear();
        self.host_stops(host, power == Power::Off);
        self.drop_tasks(|place| place.host == host);
        node.disk.stop(self, power == Power::Off);
    }
}

/// A host in the hands of a test.
#[derive(Clone)]
pub struct Host {
    pub(super) world: Rc<World>,
    pub(super) node: Rc<Node>,
}

impl Host {
    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// Its address on the network.
    pub fn ip(&self) -> IpAddr {
        self.node.ip()
    }

    /// Its address with a port.
    pub fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(), port)
    }

    /// Starts a core: runs `main` on it. The core ends with `main`, and its other tasks with it.
    ///
    /// # Panics
    /// When the host is down.
    pub fn spawn_core<T: 'static>(
        &self,
        core: CoreId,
        main: impl Future<Output = T> + 'static,
    ) -> CoreHandle<T> {
        assert!(self.is_up(), "{} is down; start() it first", self.name());
        let place = Place { host: self.node.id, life: self.node.life(), core: core.0, dying: false };
        CoreHandle(self.world.spawn_at(place, true, main))
    }

    /// Starts `cores` cores, as [`crate::machine::run`] does on the real machine.
    pub fn spawn_cores<T, F, G>(&self, cores: u16, main: G) -> Vec<CoreHandle<T>>
    where
        T: 'static,
        F: Future<Output = T> + 'static,
        G: FnOnce(CoreId) -> F + Clone + 'static,
    {
        (0..cores)
            .map(|core| {
                let main = main.clone();
                self.spawn_core(CoreId(core), async move { main(CoreId(core)).await })
            })
            .collect()
    }

    /// Whether its power is on and its process lives.
    pub fn is_up(&self) -> bool {
        self.node.power() == Power::Up
    }

    /// Cuts the power: all tasks are dropped, all connections end without a word to the other side, and the disk keeps what was
    /// synced and, of the rest, what the seed likes.
    pub fn crash(&self) {
        self.world.power_cut(self.node.id);
    }

    /// Kills the process alone: connections are reset, completed writes stay, synced or not.
    pub fn kill(&self) {
        self.world.stop(self.node.id, Power::Killed);
    }

    /// Switches the host on again, with the disk that survived. Nothing runs until [`Host::spawn_core`].
    ///
    /// # Panics
    /// When it is up.
    pub fn start(&self) {
        assert!(!self.is_up(), "{} is up already", self.name());
        self.world.event(Kind::Start, [self.node.id as u64, 0, 0]);
        self.node.life.set(self.node.life() + 1);
        self.node.clock.start(self.world.now(), self.world.numbers.below(CLOCK_START_MAX_NANOS));
        self.node.power.set(Power::Up);
        self.world.host_starts(self.node.id);
    }

    /// Stops all its tasks where they are; disk, network and clocks go on.
    pub fn pause(&self) {
        self.world.event(Kind::Pause, [self.node.id as u64, 0, 0]);
        self.node.paused.set(true);
    }

    /// Lets its tasks go on.
    pub fn resume(&self) {
        self.world.event(Kind::Resume, [self.node.id as u64, 0, 0]);
        self.node.paused.set(false);
        let parked = std::mem::take(&mut *self.node.parked.borrow_mut());
        self.world.tasks.unpark(parked);
    }

    /// Lets its clocks run `ppm` parts per million too fast, or too slow.
    pub fn set_clock_drift(&self, ppm: i64) {
        self.node.clock.set_drift(self.world.now(), ppm);
    }

    /// Puts its wall clock forward.
    pub fn put_wall_clock_forward(&self, by: Duration) {
        self.node.clock.jump(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX));
    }

    /// Puts its wall clock back.
    pub fn put_wall_clock_back(&self, by: Duration) {
        self.node.clock.jump(i64::try_from(by.as_nanos()).map_or(i64::MIN, std::ops::Neg::neg));
    }

    /// Refuses every connection attempt, or no longer.
    pub fn refuse_connections(&self, refuse: bool) {
        self.node.refuses_connections.set(refuse);
    }
}

/// A core of a host. It gives the main future's result, or `None` when the host went down first. Dropping it leaves the core
/// running.
pub struct CoreHandle<T>(JoinHandle<T>);

impl<T> CoreHandle<T> {
    /// Whether the core has ended, by itself or with its host.
    pub fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

impl<T> Future for CoreHandle<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll(cx)
    }
}
