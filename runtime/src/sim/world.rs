//! The simulated world: its time, its events to come, its hosts, and the loop that drives it.

use super::config::Config;
use super::host::Node;
use super::net::Network;
use super::random::{Random, nanos};
use super::task::{DRIVER, Tasks};
use super::time::Timer;
use super::trace::{Kind, Trace};
use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Where code runs: a core of one life of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: usize,
    /// Which of the host's lives.
    pub(super) life: u64,
    pub(super) core: u16,
    /// Whether what runs is the dropping of tasks that end with their core or host.
    pub(super) dying: bool,
}

/// The world and the place in it of the code that is running.
#[derive(Clone)]
pub(crate) struct Here {
    pub(super) world: Rc<World>,
    pub(super) place: Place,
}

impl std::fmt::Debug for Here {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.place.fmt(f)
    }
}

thread_local! {
    /// Whether `HERE` holds anything. Real cores ask at every call of the door, some as their thread ends: this needs no destructor and costs
    /// them one load.
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// The simulated place of the running code; `None` on the real machine.
pub(crate) fn current() -> Option<Here> {
    if SIMULATED.get() { HERE.with_borrow(Clone::clone) } else { None }
}

/// Whether the running code is simulated.
pub(crate) fn is_simulated() -> bool {
    SIMULATED.get()
}

/// Puts the place back that was current before.
pub(super) struct Entered(Option<Here>);

impl Drop for Entered {
    fn drop(&mut self) {
        let back = self.0.take();
        SIMULATED.set(back.is_some());
        let left = HERE.replace(back);
        drop(left);
    }
}

/// What is to happen at a time.
pub(super) enum Event {
    /// A sleep is over.
    Timer(Rc<Timer>),
    /// A disk has done an operation.
    Disk { host: usize, request: u64 },
    /// The oldest packet of one direction of a connection arrives.
    Packet { connection: u64, to: usize },
    /// A connection attempt arrives.
    Connect { attempt: u64 },
    /// A connection attempt has waited long enough.
    ConnectTimeout { attempt: u64 },
    /// A host's power is cut.
    PowerCut { host: usize },
}

struct Scheduled {
    at: u64,
    /// Events of the same time happen in the order in which they were scheduled.
    sequence: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest: the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

pub(super) struct World {
    pub(super) config: Config,
    pub(super) trace: Trace,
    pub(super) tasks: Tasks,
    pub(super) network: Network,
    /// What the simulated code draws.
    pub(super) numbers: Random,
    /// What decides disks' latencies and faults.
    pub(super) disk_chance: Random,
    choices: Random,
    hosts: RefCell<Vec<Rc<Node>>>,
    now: Cell<u64>,
    events: RefCell<BinaryHeap<Scheduled>>,
    scheduled: Cell<u64>,
}

impl World {
    pub(super) fn new(config: Config) -> Rc<Self> {
        let seed = config.seed;
        Rc::new(Self {
            trace: Trace::new(config.trace_lines_max),
            tasks: Tasks::new(),
            network: Network::new(seed),
            numbers: Random::new(seed, 1),
            disk_chance: Random::new(seed, 2),
            choices: Random::new(seed, 3),
            hosts: RefCell::default(),
            now: Cell::new(0),
            events: RefCell::default(),
            scheduled: Cell::new(0),
            config,
        })
    }

    /// Nanoseconds since the world's beginning.
    pub(super) fn now(&self) -> u64 {
        self.now.get()
    }

    pub(super) fn event(&self, kind: Kind, numbers: [u64; 3]) {
        self.trace.event(self.now(), kind, numbers);
    }

    pub(super) fn schedule(&self, at: u64, event: Event) {
        let sequence = self.scheduled.get();
        self.scheduled.set(sequence + 1);
        self.events.borrow_mut().push(Scheduled { at: at.max(self.now()), sequence, event });
    }

    pub(super) fn schedule_after(&self, delay_nanos: u64, event: Event) {
        self.schedule(self.now().saturating_add(delay_nanos), event);
    }

    pub(super) fn host(&self, id: usize) -> Rc<Node> {
        self.hosts.borrow()[id].clone()
    }

    pub(super) fn hosts(&self) -> Vec<Rc<Node>> {
        self.hosts.borrow().clone()
    }

    pub(super) fn add_host(self: &Rc<Self>, name: &str) -> Rc<Node> {
        let id = self.hosts.borrow().len();
        let node = Rc::new(Node::new(id, name, self));
        self.hosts.borrow_mut().push(node.clone());
        node
    }

    /// Whether tasks may run at `place`.
    pub(super) fn is_alive(&self, place: Place) -> bool {
        !place.dying && self.host(place.host).is_life(place.life)
    }

    /// Makes `place` the current one until what comes back is dropped.
    pub(super) fn enter(self: &Rc<Self>, place: Place) -> Entered {
        SIMULATED.set(true);
        Entered(HERE.replace(Some(Here { world: self.clone(), place })))
    }

    /// Runs the world until `driver` is done. The driver runs at the current place.
    pub(super) fn drive<T>(self: &Rc<Self>, driver: impl Future<Output = T>) -> T {
        let mut driver = std::pin::pin!(driver);
        let waker = self.tasks.wake_driver();
        loop {
            self.fire_due();
            let drawn = self.tasks.draw(&self.choices, |place, id| self.host(place.host).park(id));
            match drawn {
                Some(DRIVER) => {
                    self.tasks.begin_driver();
                    self.event(Kind::Poll, [DRIVER, 0, 0]);
                    if let Poll::Ready(value) = driver.as_mut().poll(&mut Context::from_waker(&waker)) {
                        return value;
                    }
                }
                Some(id) => self.poll_task(id),
                None => {
                    self.advance();
                    continue;
                }
            }
            self.now.set(self.now() + nanos(self.config.poll_cost));
        }
    }

    /// Lets happen what is due.
    fn fire_due(self: &Rc<Self>) {
        loop {
            let event = {
                let mut events = self.events.borrow_mut();
                match events.peek() {
                    Some(first) if first.at <= self.now() => events.pop().map(|scheduled| scheduled.event),
                    _ => None,
                }
            };
            match event {
                None => return,
                Some(Event::Timer(timer)) => timer.fire(),
                Some(Event::Disk { host, request }) => self.host(host).disk.complete(self, request),
                Some(Event::Packet { connection, to }) => self.packet_arrives(connection, to),
                Some(Event::Connect { attempt }) => self.attempt_arrives(attempt),
                Some(Event::ConnectTimeout { attempt }) => self.attempt_times_out(attempt),
                Some(Event::PowerCut { host }) => self.power_cut(host),
            }
        }
    }

    /// Lets time pass to the next event.
    fn advance(&self) {
        let next = loop {
            let mut events = self.events.borrow_mut();
            let Some(first) = events.peek() else {
                drop(events);
                panic!(
                    "seed {}: nothing is ready and nothing will happen; {}",
                    self.config.seed,
                    self.waiting()
                );
            };
            // A timer that nobody waits for any more must not hold up the end of the world.
            if matches!(&first.event, Event::Timer(timer) if timer.is_cancelled()) {
                events.pop();
                continue;
            }
            break first.at;
        };
        assert!(
            next <= nanos(self.config.time_max),
            "seed {}: the run is not over after {:?} of virtual time; {}",
            self.config.seed,
            self.config.time_max,
            self.waiting()
        );
        self.now.set(next.max(self.now()));
    }

    /// How many tasks wait where.
    fn waiting(&self) -> String {
        let counts: Vec<_> = self
            .hosts()
            .iter()
            .map(|node| format!("{}: {}", node.name, self.tasks.count_on(node.id)))
            .collect();
        format!("tasks that wait: {}", counts.join(", "))
    }

    /// Drops all that still runs; to be called once, at the end.
    pub(super) fn tear_down(self: &Rc<Self>) {
        self.drop_tasks(|_| true);
        assert!(self.tasks.is_empty(), "what is dropped at the end starts nothing");
        let events = std::mem::take(&mut *self.events.borrow_mut());
        drop(events);
    }
}
