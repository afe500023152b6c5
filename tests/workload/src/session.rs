//! Writers and readers against a running store, and the look at everything after a restart.
//!
//! Every writer owns a slice of the keys, so that no key has two writes in flight; slices ascend, and a region's border never falls
//! within one. Readers read anywhere.

use crate::model::{KeyIndex, Kind, Model, Observed, Violation};
use crate::random::Random;
use crate::store::{Answer, Store};
use crate::value;
use anyhow::{Context, Result, bail};
use pinion_capnp::{Atomicity, Operations, RawCall, RawReply, Scan, WireError};
use pinion_types::ColumnFamily;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::time::Duration;

/// Keys of one writer.
const SLICE_LEN: usize = 64;
/// Writes of a batch, and keys of a range that is deleted.
const GROUP_MAX: u64 = 8;
/// Pairs that a reader's scan asks for, and keys that it watches meanwhile: some of them may be deleted.
const SCAN_LIMIT: usize = 20;
const SCAN_WATCHED: usize = 60;
/// Pairs in a page of the look at everything.
const PAGE_LIMIT: usize = 500;
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Keys that are read one by one after a restart, besides the scan.
const SPOT_CHECKS: usize = 50;
/// Refusals in a row after which a writer gives up.
const REFUSALS_MAX: u32 = 1000;

const FAMILY: ColumnFamily = ColumnFamily::Default;

/// Keys for `writers` writers, ascending.
pub fn keys(writers: usize) -> Vec<Vec<u8>> {
    (0..writers)
        .flat_map(|writer| (0..SLICE_LEN).map(move |index| format!("w{writer:03}-{index:04}").into_bytes()))
        .collect()
}

/// The keys of one writer.
pub fn slice(writer: usize) -> Range<usize> {
    writer * SLICE_LEN..(writer + 1) * SLICE_LEN
}

/// What writers and readers of one server share.
pub struct Session {
    /// What may be in the store.
    pub model: RefCell<Model>,
    stop: Cell<bool>,
    /// What ended the session before its time.
    fault: RefCell<Option<Violation>>,
    reads: Cell<u64>,
    /// What the last answer said that left open what happened.
    unknown: RefCell<Option<String>>,
}

impl Session {
    /// A session that nobody has begun.
    pub fn new(model: Model) -> Self {
        Self {
            model: RefCell::new(model),
            stop: Cell::new(false),
            fault: RefCell::default(),
            reads: Cell::new(0),
            unknown: RefCell::default(),
        }
    }

    /// Tells writers and readers to end after the call that they are at.
    pub fn stop(&self) {
        self.stop.set(true);
    }

    /// Whether it is over.
    pub fn stopped(&self) -> bool {
        self.stop.get()
    }

    /// Writes that were acknowledged so far, by this session and those before it.
    pub fn acknowledged(&self) -> u64 {
        self.model.borrow().acknowledged()
    }

    /// Reads that were checked.
    pub fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// The first violation that a reader or writer saw.
    pub fn fault(&self) -> Result<(), Violation> {
        self.fault.take().map_or(Ok(()), Err)
    }

    /// Why the last writer gave up, for a report.
    pub fn last_unknown(&self) -> String {
        self.unknown.borrow().clone().unwrap_or_else(|| "none gave up".to_owned())
    }

    fn check(&self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.fault.borrow_mut().get_or_insert(violation);
            self.stop();
        }
    }
}

/// Writes to the keys of `slice` until the session stops, or an answer leaves open what happened.
pub async fn write<S: Store>(session: &Session, store: &S, slice: Range<usize>, mut random: Random) {
    let mut refusals = 0;
    while !session.stopped() && refusals < REFUSALS_MAX {
        let (batch, call) = next_write(&mut session.model.borrow_mut(), &slice, &mut random);
        match store.call(call).await {
            Answer::Done(_) => {
                session.model.borrow_mut().acknowledge(&batch);
                refusals = 0;
            }
            Answer::Refused(error) => {
                let refused = session.model.borrow_mut().refuse(&batch);
                session.check(refused);
                refusals += 1;
                let wait = match error {
                    WireError::ServerBusy { retry_after } => retry_after,
                    _ => Duration::from_millis(10),
                };
                pinion_runtime::sleep(wait).await;
            }
            // The keys have a write in flight for ever, as far as this session knows.
            Answer::Unknown(why) => {
                *session.unknown.borrow_mut() = Some(why);
                return;
            }
        }
    }
}

/// Draws the next write: puts mostly, then batches, deletes, and ranges.
fn next_write(
    model: &mut Model,
    slice: &Range<usize>,
    random: &mut Random,
) -> (Vec<(KeyIndex, u64)>, RawCall) {
    let key = KeyIndex(slice.start + random.index(slice.len()));
    match random.below(100) {
        0..55 => {
            let batch = model.begin_write(&[(key, Kind::Put)]);
            let (key, value) = (model.key(key).to_vec(), new_value(model, batch[0], random));
            (batch, RawCall::Put { family: FAMILY, key, value, ttl: None })
        }
        55..67 => {
            let batch = model.begin_write(&[(key, Kind::Delete)]);
            (batch, RawCall::Delete { family: FAMILY, key: model.key(key).to_vec() })
        }
        67..97 => next_batch(model, slice, random),
        _ => {
            let len = usize::try_from(1 + random.below(GROUP_MAX)).expect("a small number");
            let keys = key.0..(key.0 + len).min(slice.end);
            let end = [model.key(KeyIndex(keys.end - 1)), b"\0"].concat();
            let deletes: Vec<_> = keys.map(|index| (KeyIndex(index), Kind::Delete)).collect();
            let batch = model.begin_write(&deletes);
            (batch, RawCall::DeleteRange { family: FAMILY, start: model.key(key).to_vec(), end })
        }
    }
}

/// A batch within one region, in which every write is atomic with the others: of one kind as one whole, or mixed.
fn next_batch(
    model: &mut Model,
    slice: &Range<usize>,
    random: &mut Random,
) -> (Vec<(KeyIndex, u64)>, RawCall) {
    let only = [None, Some(Kind::Put), Some(Kind::Delete)][random.index(3)];
    let mut writes: Vec<(KeyIndex, Kind)> = Vec::new();
    for _ in 0..2 + random.below(GROUP_MAX - 1) {
        let key = KeyIndex(slice.start + random.index(slice.len()));
        let drawn = if random.below(5) == 0 { Kind::Delete } else { Kind::Put };
        if !writes.iter().any(|(other, _)| *other == key) {
            writes.push((key, only.unwrap_or(drawn)));
        }
    }
    let batch = model.begin_write(&writes);
    let mut operations = Operations::with_capacity(batch.len(), 0);
    for (&write, (key, kind)) in batch.iter().zip(writes) {
        match kind {
            Kind::Put => operations.put(FAMILY, model.key(key), &new_value(model, write, random), None),
            Kind::Delete => operations.delete(FAMILY, model.key(key)),
        }
    }
    let atomicity = if only.is_some() { Atomicity::Whole } else { Atomicity::PerRegion };
    (batch, RawCall::Batch { operations, atomicity })
}

/// A value for this write; most are small, some are of several blocks.
fn new_value(model: &Model, (key, version): (KeyIndex, u64), random: &mut Random) -> Vec<u8> {
    let len_max = match random.below(10) {
        0..6 => 128,
        6..9 => 4096,
        _ => 32768,
    };
    let len = u32::try_from(random.below(len_max)).expect("values are small here");
    value::encode(model.key(key), version, len)
}

/// Reads anywhere until the session stops or the connection breaks.
pub async fn read<S: Store>(session: &Session, store: &S, mut random: Random) {
    while !session.stopped() {
        let first = random.index(session.model.borrow().key_count());
        let seen = if random.below(8) == 0 {
            read_range(session, store, first).await
        } else {
            read_key(session, store, KeyIndex(first)).await
        };
        match seen {
            Some(result) => session.check(result),
            None => return,
        }
        session.reads.set(session.reads.get() + 1);
    }
}

/// Gets one key; `None` when the connection broke.
async fn read_key<S: Store>(session: &Session, store: &S, key: KeyIndex) -> Option<Result<(), Violation>> {
    let (floor, name) = {
        let model = session.model.borrow();
        (model.begin_read(key), model.key(key).to_vec())
    };
    match store.call(RawCall::Get { family: FAMILY, key: name }).await {
        Answer::Done(RawReply::Value(value)) => Some(observe(session, key, floor, value.as_deref())),
        Answer::Done(reply) => {
            let model = session.model.borrow();
            Some(Err(model.violation(key, &format!("a get was answered with {reply:?}"))))
        }
        Answer::Refused(_) => Some(Ok(())),
        Answer::Unknown(_) => None,
    }
}

/// Scans from a key on: what is missing between two pairs is absent.
async fn read_range<S: Store>(session: &Session, store: &S, first: usize) -> Option<Result<(), Violation>> {
    let (floors, start) = {
        let model = session.model.borrow();
        let watched = first..(first + SCAN_WATCHED).min(model.key_count());
        let floors: Vec<_> =
            watched.map(|index| (KeyIndex(index), model.begin_read(KeyIndex(index)))).collect();
        (floors, model.key(KeyIndex(first)).to_vec())
    };
    let scan =
        Scan { family: FAMILY, start, limit: SCAN_LIMIT, bytes_max: PAGE_BYTES_MAX, ..Scan::default() };
    let page = match store.call(RawCall::Scan(scan)).await {
        Answer::Done(RawReply::Page(page)) => page,
        Answer::Done(_) | Answer::Refused(_) => return Some(Ok(())),
        Answer::Unknown(_) => return None,
    };
    let end = page.resume;
    let mut pairs = page.pairs.iter().peekable();
    for (key, floor) in floors {
        let name = session.model.borrow().key(key).to_vec();
        if end.as_ref().is_some_and(|end| name >= *end) {
            break;
        }
        let found = pairs.next_if(|(found, _)| *found == name).map(|(_, value)| value);
        if let Err(violation) = observe(session, key, floor, found) {
            return Some(Err(violation));
        }
    }
    Some(Ok(()))
}

fn observe(session: &Session, key: KeyIndex, floor: u64, value: Option<&[u8]>) -> Result<(), Violation> {
    let mut model = session.model.borrow_mut();
    let observed = match value.map(|value| value::decode(model.key(key), value)) {
        None => Observed::Absent,
        Some(Ok(version)) => Observed::Version(version),
        Some(Err(fault)) => return Err(model.violation(key, &fault)),
    };
    model.observe(key, floor, observed)
}

/// Compares everything that the store holds with the model, right after a start: nobody writes yet.
pub async fn verify<S: Store>(session: &Session, store: &S, random: &mut Random) -> Result<()> {
    let observed = scan_all(session, store).await?;
    session.model.borrow_mut().settle(&observed)?;
    for _ in 0..SPOT_CHECKS {
        let key = KeyIndex(random.index(observed.len()));
        read_key(session, store, key).await.context("the connection broke")??;
    }
    Ok(())
}

async fn scan_all<S: Store>(session: &Session, store: &S) -> Result<Vec<Observed>> {
    let mut observed = vec![Observed::Absent; session.model.borrow().key_count()];
    let mut start = Vec::new();
    loop {
        let scan =
            Scan { family: FAMILY, start, limit: PAGE_LIMIT, bytes_max: PAGE_BYTES_MAX, ..Scan::default() };
        let page = match store.call(RawCall::Scan(scan)).await {
            Answer::Done(RawReply::Page(page)) => page,
            answer => bail!("a scan was answered with {answer:?}"),
        };
        let model = session.model.borrow();
        for (name, value) in page.pairs.iter() {
            let key = model
                .find(name)
                .with_context(|| format!("a key nobody wrote: {}", String::from_utf8_lossy(name)))?;
            let version = value::decode(name, value).map_err(|fault| model.violation(key, &fault))?;
            observed[key.0] = Observed::Version(version);
        }
        match page.resume {
            Some(resume) => start = resume,
            None => return Ok(observed),
        }
    }
}

#[cfg(test)]
mod tests;
