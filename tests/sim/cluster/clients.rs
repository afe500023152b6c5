//! Who reads and writes: each client does one thing after the other, half of them on ten hot keys, and what came back is remembered for the
//! checker. A value names itself and is as long as its name says, so that a piece of one is found out.

use super::route::{Routes, done};
use pinion_capnp::{Atomicity, OperationResult, Operations, RawCall, RawReply, ReadFrom, Results, Scan};
use pinion_linearizability::{History, Operation, Outcome, ValueId};
use pinion_types::ColumnFamily;
use pinion_types::key::Zone;
use pinion_workload::Random;
use pinion_workload::store::Answer;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// Groups of keys. Each has one hot key, and batches and scans keep to a group, so that the checker can judge each by itself.
const GROUPS: usize = 10;
const GROUP_KEYS: usize = 30;
/// Keys of a batch at most.
const BATCH_KEYS_MAX: usize = 4;
/// Bytes of a value at most.
const VALUE_BYTES_MAX: u64 = 900;
/// How long a client thinks at most between two calls.
const THINKS_MAX_US: u64 = 300_000;
/// The age of a state that is young enough, where one of a bounded age will do.
const AGE_MAX: Duration = Duration::from_secs(1);
/// What it may be in the time of the clients, whose clocks differ from the stores' by less than a twentieth.
const AGE_MAX_HERE: Duration = Duration::from_millis(1050);
const FAMILY: ColumnFamily = ColumnFamily::Default;

/// What all clients of a seed share.
pub(super) struct Session {
    pub(super) history: RefCell<History>,
    values: Cell<u64>,
    pub(super) stopped: Cell<bool>,
    /// Operations that were done, were refused, and of which nobody knows.
    pub(super) counts: [Cell<u64>; 3],
    /// Reads that any peer answered: of the newest state, and of one of bounded age.
    pub(super) replica_reads: Cell<u64>,
    pub(super) stale_reads: Cell<u64>,
}

impl Session {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            history: RefCell::default(),
            values: Cell::new(0),
            stopped: Cell::new(false),
            counts: Default::default(),
            replica_reads: Cell::default(),
            stale_reads: Cell::default(),
        })
    }

    /// Operations so far.
    pub(super) fn operations(&self) -> u64 {
        self.counts.iter().map(Cell::get).sum()
    }

    fn fresh(&self) -> ValueId {
        self.values.set(self.values.get() + 1);
        ValueId(self.values.get())
    }

    fn count(&self, answer: &Answer) {
        let place = match answer {
            Answer::Done(_) => 0,
            Answer::Refused(_) => 1,
            Answer::Unknown(_) => 2,
        };
        self.counts[place].set(self.counts[place].get() + 1);
    }
}

/// Every key, in order.
pub(super) fn keys() -> Vec<Vec<u8>> {
    (0..GROUPS * GROUP_KEYS).map(key).collect()
}

/// A key by its number.
pub(super) fn key(number: usize) -> Vec<u8> {
    format!("key{number:04}").into_bytes()
}

/// A key to split at: mostly where a group begins.
pub(super) fn border(random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => key(1 + random.index(GROUPS * GROUP_KEYS - 1)),
        _ => key((1 + random.index(GROUPS - 1)) * GROUP_KEYS),
    }
}

fn encode(value: ValueId) -> Vec<u8> {
    let mut bytes = format!("{:08} ", value.0).into_bytes();
    let length = usize::try_from(Random::new(value.0).below(VALUE_BYTES_MAX)).expect("values are short");
    bytes.resize(bytes.len() + length, b'a' + u8::try_from(value.0 % 26).expect("it is below 26"));
    bytes
}

fn decode(bytes: &[u8]) -> ValueId {
    let text = std::str::from_utf8(bytes).expect("a value is text");
    let id =
        text.split(' ').next().and_then(|number| number.parse().ok()).expect("a value begins with its id");
    assert_eq!(encode(ValueId(id)), bytes, "a value is as it was written");
    ValueId(id)
}

fn tick() -> u64 {
    pinion_runtime::now().as_nanos()
}

/// From when on what a read found may have been the newest state, for a call that began at a tick.
fn since(begun: u64, read_from: ReadFrom) -> u64 {
    let age = match read_from {
        ReadFrom::Leader | ReadFrom::Replica => Duration::ZERO,
        ReadFrom::Stale(_) => AGE_MAX_HERE,
    };
    begun.saturating_sub(u64::try_from(age.as_nanos()).expect("it is short"))
}

/// One client.
pub(super) struct Caller {
    number: u32,
    session: Rc<Session>,
    routes: Routes,
    random: Random,
}

impl Caller {
    pub(super) fn new(number: u32, session: Rc<Session>, routes: Routes, random: Random) -> Self {
        Self { number, session, routes, random }
    }

    /// Calls until the session stops.
    pub(super) async fn run(mut self) {
        while !self.session.stopped.get() {
            self.once().await;
            pinion_runtime::sleep(Duration::from_micros(self.random.below(THINKS_MAX_US))).await;
        }
    }

    /// Reads every key; each must be readable by now.
    pub(super) async fn read_all(mut self) -> Result<(), String> {
        for number in 0..GROUPS * GROUP_KEYS {
            let mut tries = 0;
            while !self.get(number, ReadFrom::Leader).await {
                tries += 1;
                if tries > 5 {
                    return Err(format!("key {number} can't be read"));
                }
            }
        }
        Ok(())
    }

    async fn once(&mut self) {
        let group = self.random.index(GROUPS);
        let place = if self.random.below(2) == 0 { 0 } else { 1 + self.random.index(GROUP_KEYS - 1) };
        let number = group * GROUP_KEYS + place;
        match self.random.below(100) {
            0..36 => {
                let read_from = self.any_source();
                self.get(number, read_from).await;
            }
            36..60 => self.put(number).await,
            60..66 => self.delete(number).await,
            66..78 => self.compare_and_swap(number).await,
            78..86 => self.batch_put(group, place).await,
            86..93 => self.batch_get(group, place).await,
            _ => self.scan(group, place).await,
        }
    }

    /// Who is to answer a read: mostly the leader, in one of three any peer.
    fn any_source(&mut self) -> ReadFrom {
        match self.random.below(12) {
            0..8 => ReadFrom::Leader,
            8..11 => ReadFrom::Replica,
            _ => ReadFrom::Stale(AGE_MAX),
        }
    }

    async fn get(&mut self, number: usize, read_from: ReadFrom) -> bool {
        let (key, begun) = (key(number), tick());
        let call = RawCall::Get { family: FAMILY, key: key.clone() };
        let Some(RawReply::Value(value)) = self.read(&key, call, read_from).await else { return false };
        let outcome = Outcome::Read(value.map(|value| decode(&value)));
        self.record(since(begun, read_from), Operation::get(key), outcome);
        true
    }

    async fn put(&mut self, number: usize) {
        let (key, value) = (key(number), self.session.fresh());
        let call = RawCall::Put { family: FAMILY, key: key.clone(), value: encode(value), ttl: None };
        self.write(&key.clone(), Operation::put(key, value), call).await;
    }

    async fn delete(&mut self, number: usize) {
        let key = key(number);
        let call = RawCall::Delete { family: FAMILY, key: key.clone() };
        self.write(&key.clone(), Operation::Delete { key }, call).await;
    }

    async fn compare_and_swap(&mut self, number: usize) {
        let (key, new) = (key(number), self.session.fresh());
        // What it last saw there: it swaps often enough.
        let begun = tick();
        let call = RawCall::Get { family: FAMILY, key: key.clone() };
        let Some(RawReply::Value(there)) = self.read(&key, call, ReadFrom::Leader).await else { return };
        let expected = there.map(|value| decode(&value));
        self.record(begun, Operation::get(key.clone()), Outcome::Read(expected));
        let call = RawCall::CompareAndSwap {
            family: FAMILY,
            key: key.clone(),
            expected: expected.map(encode),
            value: encode(new),
            ttl: None,
        };
        self.write(&key.clone(), Operation::compare_and_swap(key, expected, new), call).await;
    }

    /// Some neighbours of a group, as they are numbered.
    fn neighbours(&mut self, group: usize, place: usize) -> std::ops::Range<usize> {
        let count = 2 + self.random.index(BATCH_KEYS_MAX - 1);
        let first = group * GROUP_KEYS + place.min(GROUP_KEYS - count);
        first..first + count
    }

    async fn batch_put(&mut self, group: usize, place: usize) {
        let numbers = self.neighbours(group, place);
        let writes: Vec<_> = numbers.map(|number| (key(number), self.session.fresh())).collect();
        let mut operations = Operations::default();
        for (key, value) in &writes {
            operations.put(FAMILY, key, &encode(*value), None);
        }
        let first = writes[0].0.clone();
        let call = RawCall::Batch { operations, atomicity: Atomicity::Whole };
        self.write(&first, Operation::BatchPut { writes }, call).await;
    }

    async fn batch_get(&mut self, group: usize, place: usize) {
        let keys: Vec<_> = self.neighbours(group, place).map(key).collect();
        let mut operations = Operations::default();
        for key in &keys {
            operations.get(FAMILY, key);
        }
        let (begun, read_from) = (tick(), self.any_source());
        let call = RawCall::Batch { operations, atomicity: Atomicity::Whole };
        let Some(RawReply::Results(results)) = self.read(&keys[0], call, read_from).await else { return };
        let values = read_values(&results);
        self.record(since(begun, read_from), Operation::BatchGet { keys }, Outcome::BatchRead(values));
    }

    /// Scans part of a group, as far as one region has it.
    async fn scan(&mut self, group: usize, place: usize) {
        let first = group * GROUP_KEYS + place;
        let last = (group + 1) * GROUP_KEYS;
        let limit = 1 + self.random.index(GROUP_KEYS);
        let (begun, read_from) = (tick(), self.any_source());
        let scan = Scan {
            family: FAMILY,
            start: key(first),
            end: key(last),
            limit,
            bytes_max: 1 << 20,
            ..Scan::default()
        };
        let Some(RawReply::Page(page)) = self.read(&key(first), RawCall::Scan(scan), read_from).await else {
            return;
        };
        let end = page.resume.unwrap_or_else(|| key(last));
        let keys: Vec<_> = (first..last).map(key).filter(|key| *key < end).collect();
        let value =
            |key: &Vec<u8>| page.pairs.iter().find(|(there, _)| there == key).map(|(_, value)| decode(value));
        let values: Vec<_> = keys.iter().map(value).collect();
        assert_eq!(
            page.pairs.len(),
            values.iter().flatten().count(),
            "a scan finds keys of its range, and each once"
        );
        if !keys.is_empty() {
            self.record(since(begun, read_from), Operation::BatchGet { keys }, Outcome::BatchRead(values));
        }
    }

    /// What a read was answered, if it was.
    async fn read(&mut self, key: &[u8], call: RawCall, read_from: ReadFrom) -> Option<RawReply> {
        let reply = done(self.call(key, call, read_from).await)?;
        match read_from {
            ReadFrom::Leader => {}
            ReadFrom::Replica => self.session.replica_reads.update(|count| count + 1),
            ReadFrom::Stale(_) => self.session.stale_reads.update(|count| count + 1),
        }
        Some(reply)
    }

    async fn call(&mut self, key: &[u8], call: RawCall, read_from: ReadFrom) -> Answer {
        let answer = self.routes.call(&Zone::Raw.stored(key), &call, read_from).await;
        self.session.count(&answer);
        answer
    }

    /// Remembers what a read found.
    fn record(&self, begun: u64, operation: Operation, outcome: Outcome) {
        let mut history = self.session.history.borrow_mut();
        let call = history.invoke_at(begun, self.number, operation);
        history.complete_at(tick(), call, outcome);
    }

    async fn write(&mut self, key: &[u8], operation: Operation, call: RawCall) {
        let invoked = self.session.history.borrow_mut().invoke_at(tick(), self.number, operation);
        let outcome = match self.call(key, call, ReadFrom::Leader).await {
            Answer::Done(RawReply::Swap { swapped, previous }) => {
                Outcome::Compared { swapped, previous: previous.map(|value| decode(&value)) }
            }
            Answer::Done(_) => Outcome::Written,
            Answer::Refused(_) => Outcome::Refused,
            Answer::Unknown(_) => Outcome::Unknown,
        };
        self.session.history.borrow_mut().complete_at(tick(), invoked, outcome);
    }
}

fn read_values(results: &Results) -> Vec<Option<ValueId>> {
    let value = |result| match result {
        OperationResult::Value(value) => Some(decode(value)),
        OperationResult::NotFound => None,
        OperationResult::Done | OperationResult::Error(_) => {
            panic!("a read that was done has a value or none")
        }
    };
    results.iter().map(value).collect()
}
