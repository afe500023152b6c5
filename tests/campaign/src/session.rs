//! Rounds. All clients work on the keys of one round; when it is over and everything of it has come back or was given up, all of its keys are read,
//! and its history goes to the checker. So a campaign takes no more memory when it lasts longer.

use crate::judge::Finished;
use crate::keys::{GROUP_KEYS, GROUPS, decode, key};
use crate::routes::defect_of_call;
use crate::shared::{Fate, Kind, Shared};
use futures_util::future::join_all;
use pinion_client::{Cluster, ColumnFamily};
use pinion_linearizability::{CallId, History, Key, Operation, Outcome, ValueId};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

/// How long a round lasts: some thousand operations.
const ROUND: Duration = Duration::from_secs(10);
/// How long a key may be unreadable at a round's end. All trouble is over sooner.
const READ_BACK_MAX: Duration = Duration::from_mins(1);
const FAMILY: ColumnFamily = ColumnFamily::Default;
/// Who reads back, in histories.
const READER: u32 = u32::MAX;

/// One round: its number is part of its keys.
pub(crate) struct Round {
    pub(crate) number: u64,
    history: RefCell<History>,
    open: Cell<usize>,
}

impl Round {
    fn new(number: u64) -> Rc<Self> {
        Rc::new(Self { number, history: RefCell::default(), open: Cell::new(0) })
    }

    /// Remembers what a read found that began at `begun`.
    pub(crate) fn record(&self, begun: u64, client: u32, operation: Operation, outcome: Outcome) {
        let mut history = self.history.borrow_mut();
        let call = history.invoke_at(begun, client, operation);
        history.complete_at(tick(), call, outcome);
    }

    /// Remembers that a write begins.
    pub(crate) fn begin(&self, client: u32, operation: Operation) -> CallId {
        self.history.borrow_mut().invoke_at(tick(), client, operation)
    }

    /// Remembers what became of a write.
    pub(crate) fn end(&self, call: CallId, outcome: Outcome) {
        self.history.borrow_mut().complete_at(tick(), call, outcome);
    }
}

/// A round that somebody works in: it does not end meanwhile.
pub(crate) struct Seat(pub(crate) Rc<Round>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

/// What the clients share.
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    round: RefCell<Rc<Round>>,
    values: Cell<u64>,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Self { shared, round: RefCell::new(Round::new(1)), values: Cell::new(0) })
    }

    /// A place in the round that is played.
    pub(crate) fn enter(&self) -> Seat {
        let round = self.round.borrow().clone();
        round.open.set(round.open.get() + 1);
        Seat(round)
    }

    /// A value that was never written.
    pub(crate) fn fresh(&self) -> ValueId {
        self.values.set(self.values.get() + 1);
        ValueId(self.values.get())
    }

    /// The id of a value that was read. Bytes that nobody wrote are a failure of the campaign.
    pub(crate) fn decode(&self, key: &[u8], bytes: &[u8]) -> ValueId {
        decode(bytes).unwrap_or_else(|what| {
            self.shared.fail(format!("key {} holds {what}", String::from_utf8_lossy(key)));
            ValueId(0)
        })
    }

    /// Begins a round after the other until the clients end, and hands over each that is over.
    pub(crate) async fn turn_rounds(self: Rc<Self>, cluster: Cluster, judge: SyncSender<Finished>) {
        loop {
            let begun = pinion_runtime::now();
            while begun.elapsed() < ROUND && !self.shared.ends.load(Relaxed) {
                pinion_runtime::sleep(Duration::from_millis(20)).await;
            }
            let is_last = self.shared.ends.load(Relaxed);
            let next = Round::new(self.round.borrow().number + 1);
            let over = self.round.replace(next);
            while over.open.get() > 0 {
                pinion_runtime::sleep(Duration::from_millis(5)).await;
            }
            let Some(found) = self.read_back(&over, &cluster).await else { return };
            let history = over.history.take();
            let mut finished = Finished { number: over.number, history, found };
            // The checker is a few rounds behind at most.
            while let Err(TrySendError::Full(back)) = judge.try_send(finished) {
                finished = back;
                pinion_runtime::sleep(Duration::from_millis(20)).await;
            }
            if is_last {
                return;
            }
        }
    }

    /// Reads every key of a round that is over.
    async fn read_back(&self, round: &Round, cluster: &Cluster) -> Option<Vec<(Key, Option<ValueId>)>> {
        let mut found = Vec::with_capacity(GROUPS * GROUP_KEYS);
        for group in 0..GROUPS {
            let reads = (0..GROUP_KEYS)
                .map(|place| self.read_back_key(round, cluster, key(round.number, group, place)));
            for read in join_all(reads).await {
                found.push(read?);
            }
        }
        Some(found)
    }

    async fn read_back_key(
        &self,
        round: &Round,
        cluster: &Cluster,
        key: Key,
    ) -> Option<(Key, Option<ValueId>)> {
        let since = pinion_runtime::now();
        loop {
            let begun = tick();
            match cluster.get(FAMILY, &key).await {
                Ok(value) => {
                    let value = value.map(|bytes| self.decode(&key, &bytes));
                    self.shared.count(Kind::ReadBack, Fate::Done);
                    round.record(begun, READER, Operation::get(key.clone()), Outcome::Read(value));
                    return Some((key, value));
                }
                Err(error) => {
                    self.shared.count(Kind::ReadBack, Fate::Refused);
                    let name = String::from_utf8_lossy(&key);
                    if let Some(defect) = defect_of_call(&error) {
                        self.shared.fail(format!("key {name} cannot be read back: {defect}"));
                        return None;
                    }
                    if since.elapsed() > READ_BACK_MAX {
                        self.shared.fail(format!("key {name} cannot be read for {READ_BACK_MAX:?}: {error}"));
                        return None;
                    }
                }
            }
        }
    }
}

/// The clients' clock, in nanoseconds.
pub(crate) fn tick() -> u64 {
    pinion_runtime::now().as_nanos()
}
