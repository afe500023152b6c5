//! A worker: one call after the other on its connection.

use super::report::{Kind, Outcome};
use super::workload::{Action, Generator, key};
use crate::cli::bench::BenchRaw;
use hdrhistogram::Histogram;
use pinion_client::{Atomicity, Cluster, Error, Operations, RawCall, RawReply, Scan};
use pinion_runtime::{Instant, now, sleep};
use pinion_types::ColumnFamily;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

const FAMILY: ColumnFamily = ColumnFamily::Default;
/// The longest latency that is told apart from longer ones, in nanoseconds.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// Calls of an open loop begin together when they are due within this time; their latency counts from when each was due.
const TICK: Duration = Duration::from_micros(100);

/// When a run starts, when it counts, and when it ends.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub(super) start: Instant,
    pub(super) begin: Instant,
    pub(super) end: Instant,
}

/// What all workers of a run share.
pub(super) struct Run {
    generator: RefCell<Generator>,
    window: Window,
    /// A load ends with its records alone.
    until_done: bool,
    batch: usize,
    /// Nanoseconds from one planned call to the next.
    interval: Option<f64>,
    /// Calls planned so far.
    planned: Cell<u64>,
    latencies: RefCell<Vec<Histogram<u64>>>,
    operations: Cell<u64>,
    not_found: Cell<u64>,
    errors: Cell<u64>,
    first_error: RefCell<Option<Error>>,
}

/// What goes in one call, or in the two of a read-modify-write.
struct Step {
    kind: Kind,
    operations: u64,
    calls: Vec<RawCall>,
}

impl Run {
    #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^53")]
    pub(super) fn new(generator: Generator, window: Window, arguments: &BenchRaw) -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are in order");
        Self {
            generator: RefCell::new(generator),
            window,
            until_done: arguments.workload == crate::cli::bench::Workload::Load,
            batch: arguments.batch,
            interval: arguments.rate.map(|rate| 1e9 * arguments.batch as f64 / rate as f64),
            planned: Cell::new(0),
            latencies: RefCell::new(Kind::ALL.iter().map(|_| histogram()).collect()),
            operations: Cell::new(0),
            not_found: Cell::new(0),
            errors: Cell::new(0),
            first_error: RefCell::new(None),
        }
    }

    pub(super) fn into_outcome(self, elapsed: Duration, busy: u64) -> Outcome {
        Outcome {
            elapsed,
            operations: self.operations.get(),
            not_found: self.not_found.get(),
            busy,
            errors: self.errors.get(),
            first_error: self.first_error.into_inner(),
            latencies: self.latencies.into_inner(),
        }
    }

    /// The time of the next call, once it has come. `None` at the run's end.
    async fn next_time(&self) -> Option<Instant> {
        let now = now();
        let Some(interval) = self.interval else {
            return (self.until_done || now < self.window.end).then_some(now);
        };
        let planned = self.planned.replace(self.planned.get() + 1);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a run has far fewer than 2^53 calls and nanoseconds"
        )]
        let time = self.window.start + Duration::from_nanos((planned as f64 * interval) as u64);
        if time >= self.window.end && !self.until_done {
            return None;
        }
        if now < time {
            // Those who are due within a tick wake together: a timer for each would be most of what this process does.
            let since_tick = time.since(self.window.start).as_nanos() % TICK.as_nanos();
            let since_tick = Duration::from_nanos(u64::try_from(since_tick).unwrap_or_default());
            sleep(time.since(now) + TICK.saturating_sub(since_tick)).await;
        }
        Some(time)
    }

    /// The next step; `None` when there is nothing left to do.
    fn next_step(&self) -> Option<Step> {
        let mut generator = self.generator.borrow_mut();
        if self.batch > 1 {
            return self.next_batch(&mut generator);
        }
        let put = |record, generator: &mut Generator| RawCall::Put {
            family: FAMILY,
            key: key(record),
            value: generator.value().to_vec(),
            ttl: None,
        };
        let get = |record| RawCall::Get { family: FAMILY, key: key(record) };
        let (kind, calls) = match generator.next()? {
            Action::Read(record) => (Kind::Read, vec![get(record)]),
            Action::Update(record) => (Kind::Update, vec![put(record, &mut generator)]),
            Action::Insert(record) => (Kind::Insert, vec![put(record, &mut generator)]),
            Action::ReadModifyWrite(record) => {
                (Kind::ReadModifyWrite, vec![get(record), put(record, &mut generator)])
            }
            Action::Scan(record, limit) => {
                let scan = Scan { family: FAMILY, start: key(record), limit, ..Scan::default() };
                (Kind::Scan, vec![RawCall::Scan(scan)])
            }
        };
        Some(Step { kind, operations: 1, calls })
    }

    fn next_batch(&self, generator: &mut Generator) -> Option<Step> {
        let mut operations = Operations::with_capacity(self.batch, self.batch * 128);
        while operations.len() < self.batch {
            match generator.next() {
                None => break,
                Some(Action::Read(record) | Action::Scan(record, _)) => operations.get(FAMILY, &key(record)),
                Some(Action::Update(record) | Action::Insert(record) | Action::ReadModifyWrite(record)) => {
                    operations.put(FAMILY, &key(record), generator.value(), None);
                }
            }
        }
        if operations.is_empty() {
            return None;
        }
        let count = operations.len() as u64;
        let atomicity = Atomicity::PerRegion;
        Some(Step {
            kind: Kind::Batch,
            operations: count,
            calls: vec![RawCall::Batch { operations, atomicity }],
        })
    }

    fn note_reply(&self, reply: &RawReply) -> Result<(), Error> {
        match reply {
            RawReply::Value(None) => self.not_found.set(self.not_found.get() + 1),
            RawReply::Results(results) => {
                if let Some(error) = results.first_error() {
                    return Err(error.clone().into());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn note(&self, kind: Kind, operations: u64, planned: Instant) {
        let done = now();
        if done < self.window.begin {
            return;
        }
        self.operations.set(self.operations.get() + operations);
        let nanos = u64::try_from(done.since(planned).as_nanos()).unwrap_or(u64::MAX);
        self.latencies.borrow_mut()[kind.index()].saturating_record(nanos.max(1));
    }

    fn note_error(&self, error: Error) {
        self.errors.set(self.errors.get() + 1);
        self.first_error.borrow_mut().get_or_insert(error);
    }
}

/// Makes calls until the run ends or the cluster cannot be reached.
pub(super) async fn work(client: Cluster, run: Rc<Run>) {
    while let Some(planned) = run.next_time().await {
        let Some(step) = run.next_step() else { return };
        let mut outcome = Ok(());
        for call in step.calls {
            outcome = client.call(call).await.and_then(|reply| run.note_reply(&reply));
            if outcome.is_err() {
                break;
            }
        }
        match outcome {
            Ok(()) => run.note(step.kind, step.operations, planned),
            Err(error @ (Error::Refused(_) | Error::Undetermined(_))) => run.note_error(error),
            Err(error) => return run.note_error(error),
        }
    }
}
