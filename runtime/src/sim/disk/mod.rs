//! A host's disk: operations that take time, in flight until they are done, and done even when nobody waits any more.

mod faults;
mod file;
mod names;
mod operation;

use super::random::Random;
use super::trace::Kind;
use super::world::{Event, Here, Place, World};
use faults::Faults;
pub use faults::{DiskError, Failing, IoCounts};
use names::Names;
pub(crate) use operation::{Answer, Operation, cover};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What `available_bytes` counts from when no budget was set.
const UNLIMITED_BYTES: u64 = 1 << 40;

pub(super) struct Disk {
    host: usize,
    contents: RefCell<Contents>,
    faults: RefCell<Faults>,
    in_flight: RefCell<BTreeMap<u64, Rc<Request>>>,
    counts: Cell<IoCounts>,
}

/// All that is on the disk.
struct Contents {
    names: Names,
    /// The number of the last change.
    sequence: u64,
    /// Files whose lock is held.
    locks: BTreeSet<u64>,
    budget_bytes: Option<u64>,
}

/// An operation between its submission and the look at its answer.
struct Request {
    operation: Cell<Option<Operation>>,
    fault: Option<DiskError>,
    answer: Cell<Option<io::Result<Answer>>>,
    waker: Cell<Option<Waker>>,
    is_write: bool,
    abandoned: Cell<bool>,
}

impl Disk {
    pub(super) fn new(host: usize, latency: Range<Duration>) -> Self {
        Self {
            host,
            contents: RefCell::new(Contents {
                names: Names::new(),
                sequence: 0,
                locks: BTreeSet::new(),
                budget_bytes: None,
            }),
            faults: RefCell::new(Faults::new(latency)),
            in_flight: RefCell::default(),
            counts: Cell::default(),
        }
    }

    /// Begins an operation.
    fn submit(&self, world: &World, mut operation: Operation) -> (u64, Rc<Request>) {
        let mut counts = self.counts.get();
        let number = counts.total();
        let sync = operation.is_sync().then_some(counts.syncs);
        *operation.counter(&mut counts) += 1;
        self.counts.set(counts);

        let faults = self.faults.borrow();
        operation.begin(self.contents.borrow().sequence, &faults);
        let fault = faults.strike(number, operation.takes_space(&self.contents.borrow()), sync);
        let [what, digest] = operation.trace();
        world.event(Kind::Submit, [self.host as u64, what, digest]);
        world.trace.note(world.now(), || format!("  {operation}"));
        if faults.power_cut_at.is_some_and(|at| number >= at) {
            world.schedule_after(0, Event::PowerCut { host: self.host });
        }
        let request = Rc::new(Request {
            fault,
            answer: Cell::new(None),
            waker: Cell::new(None),
            is_write: operation.is_write(),
            abandoned: Cell::new(false),
            operation: Cell::new(Some(operation)),
        });
        self.in_flight.borrow_mut().insert(number, request.clone());
        let latency = world.disk_chance.nanos(&faults.latency);
        world.schedule_after(latency, Event::Disk { host: self.host, request: number });
        (number, request)
    }

    /// An operation is done. One of a life that is over is not in flight any more.
    pub(super) fn complete(&self, world: &World, number: u64) {
        let Some(request) = self.in_flight.borrow_mut().remove(&number) else {
            return;
        };
        let Some(operation) = request.operation.take() else {
            return;
        };
        let answer = self.contents.borrow_mut().apply(&operation, request.fault, &world.disk_chance);
        world.event(Kind::Complete, [self.host as u64, number, u64::from(answer.is_err())]);
        if request.abandoned.get() {
            self.discard(&answer);
            return;
        }
        request.answer.set(Some(answer));
        if let Some(waker) = request.waker.take() {
            waker.wake();
        }
    }

    /// Nobody waits for this operation any more. A write goes on all the same, and takes its time.
    fn abandon(&self, world: &World, number: u64, request: &Rc<Request>) {
        request.abandoned.set(true);
        if let Some(answer) = request.answer.take() {
            self.discard(&answer);
        } else if request.is_write && self.in_flight.borrow_mut().remove(&number).is_some() {
            // Under another number, which the event that is on its way does not find.
            let late = number | 1 << 63;
            self.in_flight.borrow_mut().insert(late, request.clone());
            let latency = world.disk_chance.nanos(&self.faults.borrow().latency);
            let delay = latency + world.disk_chance.nanos(&world.config.dropped_write_delay);
            world.schedule_after(delay, Event::Disk { host: self.host, request: late });
        }
    }

    fn discard(&self, answer: &io::Result<Answer>) {
        if let Ok(Answer::Opened(inode) | Answer::Locked(inode)) = answer {
            self.close(*inode, matches!(answer, Ok(Answer::Locked(_))));
        }
    }

    /// A handle is dropped.
    pub(super) fn close(&self, inode: u64, locked: bool) {
        let mut contents = self.contents.borrow_mut();
        if locked {
            contents.locks.remove(&inode);
        }
        contents.names.close(inode);
    }

    /// The host went down. Operations in flight were done or not; with the power, what is not durable is gone or not.
    pub(super) fn stop(&self, world: &World, power_cut: bool) {
        let chance = &world.disk_chance;
        let odds = &world.config.crash;
        let in_flight = std::mem::take(&mut *self.in_flight.borrow_mut());
        let mut contents = self.contents.borrow_mut();
        for request in in_flight.into_values() {
            if let Some(mut operation) = request.operation.take()
                && !chance.percent(odds.in_flight_lost_percent)
            {
                operation.interrupt();
                // What became of it, nobody will be told.
                let _ = contents.apply(&operation, request.fault, chance);
            }
        }
        contents.locks.clear();
        if power_cut {
            contents.names.crash(odds, chance);
        } else {
            contents.names.close_all();
        }
        self.faults.borrow_mut().power_cut_at = None;
    }
}

/// An operation's answer, to be awaited. Dropping it does not stop the operation.
pub(crate) struct Submitted {
    here: Here,
    number: u64,
    request: Option<Rc<Request>>,
}

impl Here {
    /// Begins an operation on the disk of the host on which this code runs.
    pub(super) fn submit(self, operation: Operation) -> Submitted {
        if !self.world.is_alive(self.place) {
            return Submitted { here: self, number: 0, request: None };
        }
        let (number, request) = self.world.host(self.place.host).disk.submit(&self.world, operation);
        Submitted { here: self, number, request: Some(request) }
    }
}

impl Future for Submitted {
    type Output = io::Result<Answer>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Answer>> {
        let this = self.get_mut();
        let Some(request) = &this.request else {
            return Poll::Ready(Err(io::Error::other("the host of this file is down")));
        };
        if let Some(answer) = request.answer.take() {
            this.request = None;
            return Poll::Ready(answer);
        }
        request.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Submitted {
    fn drop(&mut self) {
        let Place { host, life, .. } = self.here.place;
        if let Some(request) = self.request.take() {
            let host = self.here.world.host(host);
            // A power cut takes the host's answers with it.
            if host.is_life(life) {
                host.disk.abandon(&self.here.world, self.number, &request);
            }
        }
    }
}

/// What a test does to a disk.
impl Disk {
    pub(super) fn counts(&self) -> IoCounts {
        self.counts.get()
    }

    pub(super) fn plan(&self, failing: Failing, error: DiskError) {
        let planned = &mut self.faults.borrow_mut().planned;
        assert!(planned.len() < faults::FAULTS_MAX, "clear the disk's faults now and then");
        planned.push((failing, error));
    }

    pub(super) fn plan_sync(&self, failing: Failing) {
        let planned = &mut self.faults.borrow_mut().failing_syncs;
        assert!(planned.len() < faults::FAULTS_MAX, "clear the disk's faults now and then");
        planned.push(failing);
    }

    pub(super) fn plan_power_cut(&self, at: u64) {
        self.faults.borrow_mut().power_cut_at = Some(at);
    }

    pub(super) fn heal(&self) {
        let mut faults = self.faults.borrow_mut();
        faults.planned.clear();
        faults.failing_syncs.clear();
        faults.power_cut_at = None;
    }

    pub(super) fn set_latency(&self, latency: Range<Duration>) {
        self.faults.borrow_mut().latency = latency;
    }

    pub(super) fn set_lies(&self, data_sync: Option<bool>, sync: Option<bool>) {
        let mut faults = self.faults.borrow_mut();
        faults.ignores_data_sync = data_sync.unwrap_or(faults.ignores_data_sync);
        faults.ignores_sync = sync.unwrap_or(faults.ignores_sync);
    }

    pub(super) fn set_budget(&self, bytes: Option<u64>) {
        self.contents.borrow_mut().budget_bytes = bytes;
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.contents.borrow().used_bytes()
    }

    pub(super) fn files(&self) -> Vec<(String, u64)> {
        let contents = self.contents.borrow();
        contents
            .names
            .walk()
            .into_iter()
            .filter_map(|(path, inode)| Some((path, contents.names.file(inode).ok()?.len())))
            .collect()
    }

    pub(super) fn content(&self, path: &Path) -> io::Result<Vec<u8>> {
        let contents = self.contents.borrow();
        Ok(contents.names.file(contents.names.find(path)?)?.content())
    }

    pub(super) fn flip(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let mut contents = self.contents.borrow_mut();
        let inode = contents.names.find(path)?;
        if contents.names.file_mut(inode)?.flip(offset, bit) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "the file has no byte there"))
    }
}

impl Contents {
    fn used_bytes(&self) -> u64 {
        (self.names.charged() * file::BLOCK) as u64
    }

    fn available_bytes(&self) -> u64 {
        self.budget_bytes.unwrap_or(UNLIMITED_BYTES).saturating_sub(self.used_bytes())
    }

    /// How many of `blocks` further blocks there is room for.
    fn room(&self, blocks: usize) -> usize {
        if self.budget_bytes.is_none() || blocks == 0 {
            return blocks;
        }
        let room = self.available_bytes() / file::BLOCK as u64;
        usize::try_from(room).unwrap_or(usize::MAX).min(blocks)
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Tears a write that failed, in half of the cases.
    fn fail_write(&mut self, inode: u64, first: usize, data: &Rc<[u8]>, chance: &Random) -> io::Result<()> {
        let sequence = self.next_sequence();
        if chance.percent(50) {
            self.names.file_mut(inode)?.tear(sequence, first, data, chance);
        }
        Ok(())
    }
}
