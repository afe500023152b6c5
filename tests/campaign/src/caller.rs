//! Who reads and writes: each client does one thing after the other, half of them on the ten hot keys, at a pace, and what came back is remembered.

use crate::keys::{GROUP_KEYS, GROUPS, encode, end, key};
use crate::routes::{Asked, Routes, defect_of_call};
use crate::session::{Round, Seat, Session, tick};
use crate::shared::{Fate, Kind};
use pinion_client::{
    Atomicity, Cluster, ColumnFamily, Error, OperationResult, Operations, RawCall, RawReply, Scan,
};
use pinion_linearizability::{Key, Operation, Outcome, ValueId};
use pinion_runtime::now;
use pinion_workload::Random;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Keys of a batch at most.
const BATCH_KEYS_MAX: usize = 4;
/// How old a state may be that a stale read asks for.
const AGE_MS: std::ops::Range<u64> = 50..500;
/// What clocks on one machine may differ by, the grain of timers included.
const CLOCKS_DIFFER: Duration = Duration::from_millis(5);
/// How far a client that was held up may be behind its pace; it catches up with that much.
const BEHIND_MAX: Duration = Duration::from_secs(2);
const FAMILY: ColumnFamily = ColumnFamily::Default;

/// One client.
pub(crate) struct Caller {
    pub(crate) number: u32,
    pub(crate) session: Rc<Session>,
    pub(crate) cluster: Cluster,
    pub(crate) routes: Rc<Routes>,
    pub(crate) random: Random,
    /// Between the beginnings of two calls, on average.
    pub(crate) every: Duration,
}

impl Caller {
    /// Calls until the clients end.
    pub(crate) async fn run(mut self) {
        let mut due = now();
        loop {
            let micros = u64::try_from(2 * self.every.as_micros()).unwrap_or(u64::MAX).max(1);
            due = due + Duration::from_micros(self.random.below(micros));
            let wait = due.since(now());
            if wait > Duration::ZERO {
                pinion_runtime::sleep(wait).await;
            } else if now().since(due) > BEHIND_MAX {
                due = now();
            }
            // The last round is over: nobody would read what is written now.
            if self.session.shared.ends.load(Relaxed) {
                return;
            }
            let seat = self.session.enter();
            self.once(&seat).await;
        }
    }

    async fn once(&mut self, seat: &Seat) {
        let round = &*seat.0;
        let group = self.random.index(GROUPS);
        let place = if self.random.below(2) == 0 { 0 } else { 1 + self.random.index(GROUP_KEYS - 1) };
        match self.random.below(100) {
            0..22 => drop(self.get(round, group, place).await),
            22..47 => self.put(round, group, place).await,
            47..53 => self.delete(round, group, place).await,
            53..65 => self.compare_and_swap(round, group, place).await,
            65..74 => self.batch_put(round, group, place).await,
            74..78 => self.batch_get(round, group, place, Asked::Leader).await,
            78..82 => self.scan(round, group, place, Asked::Leader).await,
            82..90 => self.replica_get(round, group, place).await,
            90..93 => self.batch_get(round, group, place, Asked::Replica).await,
            93..96 => self.scan(round, group, place, Asked::Replica).await,
            _ => self.stale_get(round, group, place).await,
        }
    }

    async fn get(&mut self, round: &Round, group: usize, place: usize) -> Option<Option<ValueId>> {
        let (key, begun) = (key(round.number, group, place), tick());
        let answer = self.cluster.get(FAMILY, &key).await;
        let value = self.read(Kind::Get, answer)?;
        let value = value.map(|bytes| self.session.decode(&key, &bytes));
        round.record(begun, self.number, Operation::get(key), Outcome::Read(value));
        Some(value)
    }

    async fn put(&mut self, round: &Round, group: usize, place: usize) {
        let (key, value) = (key(round.number, group, place), self.session.fresh());
        let call = round.begin(self.number, Operation::put(key.clone(), value));
        let answer = self.cluster.put(FAMILY, &key, &encode(value), None).await;
        round.end(call, self.written(Kind::Put, answer, |()| Outcome::Written));
    }

    async fn delete(&mut self, round: &Round, group: usize, place: usize) {
        let key = key(round.number, group, place);
        let call = round.begin(self.number, Operation::delete(key.clone()));
        let answer = self.cluster.delete(FAMILY, &key).await;
        round.end(call, self.written(Kind::Delete, answer, |()| Outcome::Written));
    }

    /// Swaps what it finds by a look before: it swaps often enough.
    async fn compare_and_swap(&mut self, round: &Round, group: usize, place: usize) {
        let Some(expected) = self.get(round, group, place).await else { return };
        let (key, new) = (key(round.number, group, place), self.session.fresh());
        let call = round.begin(self.number, Operation::compare_and_swap(key.clone(), expected, new));
        let there = expected.map(encode);
        let answer = self.cluster.compare_and_swap(FAMILY, &key, there.as_deref(), &encode(new), None).await;
        let session = self.session.clone();
        let compared = |(swapped, previous): (bool, Option<_>)| Outcome::Compared {
            swapped,
            previous: previous.map(|bytes: bytes::Bytes| session.decode(&key, &bytes)),
        };
        round.end(call, self.written(Kind::CompareAndSwap, answer, compared));
    }

    async fn batch_put(&mut self, round: &Round, group: usize, place: usize) {
        let keys = self.neighbours(round, group, place);
        let writes: Vec<_> = keys.into_iter().map(|key| (key, self.session.fresh())).collect();
        let mut operations = Operations::default();
        for (key, value) in &writes {
            operations.put(FAMILY, key, &encode(*value), None);
        }
        let call = round.begin(self.number, Operation::BatchPut { writes });
        let answer = self.cluster.batch_put(operations).await;
        round.end(call, self.written(Kind::BatchPut, answer, |()| Outcome::Written));
    }

    async fn replica_get(&mut self, round: &Round, group: usize, place: usize) {
        let (key, begun) = (key(round.number, group, place), tick());
        if let Some(value) = self.direct_get(Kind::ReplicaGet, &key, Asked::Replica).await {
            round.record(begun, self.number, Operation::get(key), Outcome::Read(value));
        }
    }

    /// A read of a state of up to so long ago is a read that was called so long ago.
    async fn stale_get(&mut self, round: &Round, group: usize, place: usize) {
        let (key, begun) = (key(round.number, group, place), tick());
        let age = Duration::from_millis(AGE_MS.start + self.random.below(AGE_MS.end - AGE_MS.start));
        if let Some(value) = self.direct_get(Kind::StaleGet, &key, Asked::Stale(age)).await {
            let earlier = u64::try_from((age + CLOCKS_DIFFER).as_nanos()).unwrap_or(u64::MAX);
            let since = begun.saturating_sub(earlier);
            round.record(since, self.number, Operation::get(key), Outcome::Read(value));
        }
    }

    async fn direct_get(&mut self, kind: Kind, key: &Key, asked: Asked) -> Option<Option<ValueId>> {
        let call = RawCall::Get { family: FAMILY, key: key.clone() };
        match self.direct(kind, key, call, asked).await? {
            RawReply::Value(value) => Some(value.map(|bytes| self.session.decode(key, &bytes))),
            other => {
                self.nonsense(&other);
                None
            }
        }
    }

    async fn batch_get(&mut self, round: &Round, group: usize, place: usize, asked: Asked) {
        let (keys, begun) = (self.neighbours(round, group, place), tick());
        let mut operations = Operations::default();
        for key in &keys {
            operations.get(FAMILY, key);
        }
        let call = RawCall::Batch { operations, atomicity: Atomicity::Whole };
        let kind = if asked == Asked::Leader { Kind::BatchGet } else { Kind::ReplicaBatchGet };
        let Some(reply) = self.direct(kind, &keys[0], call, asked).await else { return };
        let RawReply::Results(results) = reply else { return self.nonsense(&reply) };
        let value = |(key, result): (&Key, _)| match result {
            OperationResult::Value(bytes) => Some(Some(self.session.decode(key, bytes))),
            OperationResult::NotFound => Some(None),
            OperationResult::Done | OperationResult::Error(_) => None,
        };
        let values: Option<Vec<_>> = keys.iter().zip(results.iter()).map(value).collect();
        match values.filter(|values| values.len() == keys.len()) {
            Some(values) => {
                round.record(begun, self.number, Operation::BatchGet { keys }, Outcome::BatchRead(values));
            }
            None => self.nonsense(&RawReply::Results(results)),
        }
    }

    /// Scans part of a group, as far as one region has it.
    async fn scan(&mut self, round: &Round, group: usize, place: usize, asked: Asked) {
        let (first, begun) = (key(round.number, group, place), tick());
        let limit = 1 + self.random.index(GROUP_KEYS);
        let range = (first.clone(), end(round.number, group));
        let scan = Scan { start: range.0, end: range.1, limit, bytes_max: 1 << 20, ..Scan::default() };
        let kind = if asked == Asked::Leader { Kind::Scan } else { Kind::ReplicaScan };
        let Some(reply) = self.direct(kind, &first, RawCall::Scan(scan), asked).await else { return };
        let RawReply::Page(page) = reply else { return self.nonsense(&reply) };
        let until = page.resume.clone().unwrap_or_else(|| end(round.number, group));
        let keys: Vec<_> = (place..GROUP_KEYS)
            .map(|place| key(round.number, group, place))
            .filter(|key| *key < until)
            .collect();
        let value = |key: &Key| {
            let pair = page.pairs.iter().find(|(there, _)| there == key);
            pair.map(|(_, bytes)| self.session.decode(key, bytes))
        };
        let values: Vec<_> = keys.iter().map(value).collect();
        if page.pairs.len() != values.iter().flatten().count() {
            self.nonsense(&RawReply::Page(page));
        } else if !keys.is_empty() {
            round.record(begun, self.number, Operation::BatchGet { keys }, Outcome::BatchRead(values));
        }
    }

    /// Some keys of a group that follow each other.
    fn neighbours(&mut self, round: &Round, group: usize, place: usize) -> Vec<Key> {
        let count = 2 + self.random.index(BATCH_KEYS_MAX - 1);
        let first = place.min(GROUP_KEYS - count);
        (first..first + count).map(|place| key(round.number, group, place)).collect()
    }

    async fn direct(&mut self, kind: Kind, key: &Key, call: RawCall, asked: Asked) -> Option<RawReply> {
        let reply = self.routes.read(key, call, asked, &mut self.random).await;
        let reply = reply.unwrap_or_else(|defect| {
            self.session.shared.fail(defect);
            None
        });
        self.session.shared.count(kind, if reply.is_some() { Fate::Done } else { Fate::Refused });
        reply
    }

    /// An answer that is none to what was asked.
    fn nonsense(&self, reply: &RawReply) {
        self.session.shared.fail(format!("a read was answered with {reply:?}"));
    }

    fn read<T>(&self, kind: Kind, answer: Result<T, Error>) -> Option<T> {
        self.session.shared.count(kind, if answer.is_ok() { Fate::Done } else { Fate::Refused });
        answer.inspect_err(|error| self.report(kind, error)).ok()
    }

    fn written<T>(&self, kind: Kind, answer: Result<T, Error>, done: impl FnOnce(T) -> Outcome) -> Outcome {
        let (fate, outcome) = match answer {
            Ok(value) => (Fate::Done, done(value)),
            Err(error) => {
                self.report(kind, &error);
                match error.is_undetermined() {
                    true => (Fate::Unknown, Outcome::Unknown),
                    false => (Fate::Refused, Outcome::Refused),
                }
            }
        };
        self.session.shared.count(kind, fate);
        outcome
    }

    fn report(&self, kind: Kind, error: &Error) {
        if let Some(defect) = defect_of_call(error) {
            self.session.shared.fail(format!("{kind:?} was answered: {defect}"));
        }
    }
}
