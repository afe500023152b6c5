//! A store in memory, right or wrong in one way, to see what the checker makes of it.

use super::{Answer, Store, conclude};
use pinion_capnp::{OperationKind, Page, Pairs, RawCall, RawReply, Results, Scan, WireError};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;

type Content = BTreeMap<Vec<u8>, Vec<u8>>;
/// A key and its new value; `None` removes it.
type Change = (Vec<u8>, Option<Vec<u8>>);

/// What is wrong with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It loses the last writes when it restarts.
    LosesLastWrites,
    /// It answers some reads with an older state.
    ReadsOldState,
    /// It brings a deleted key back when it restarts.
    BringsDeletedBack,
    /// It loses part of the last batch when it restarts.
    TearsBatch,
    /// It answers with a value of another key.
    MixesValues,
}

pub(crate) struct Fake {
    fault: Fault,
    content: RefCell<Content>,
    /// As it was some writes ago.
    old: RefCell<Content>,
    /// A key, and what the restart makes of it.
    undone: RefCell<Option<Change>>,
    calls: Cell<u64>,
    down: Cell<bool>,
}

impl Fake {
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            fault,
            content: RefCell::default(),
            old: RefCell::default(),
            undone: RefCell::default(),
            calls: Cell::new(0),
            down: Cell::new(false),
        }
    }

    /// From here on no call is answered.
    pub(crate) fn stop(&self) {
        self.down.set(true);
    }

    pub(crate) fn restart(&self) {
        self.down.set(false);
        if self.fault == Fault::LosesLastWrites {
            *self.content.borrow_mut() = self.old.borrow().clone();
        }
        if let Some(change) = self.undone.take() {
            apply(&mut self.content.borrow_mut(), &change);
        }
    }

    fn write(&self, changes: &[Change]) {
        let mut content = self.content.borrow_mut();
        let effective: Vec<&Change> =
            changes.iter().filter(|(key, value)| content.get(key) != value.as_ref()).collect();
        let mut undone = self.undone.borrow_mut();
        if undone.as_ref().is_some_and(|(undone, _)| changes.iter().any(|(key, _)| key == undone)) {
            *undone = None;
        }
        match (self.fault, &effective[..]) {
            (Fault::TearsBatch, [(key, _), _, ..]) | (Fault::BringsDeletedBack, [(key, None), ..]) => {
                *undone = Some((key.clone(), content.get(key).cloned()));
            }
            _ => {}
        }
        for change in changes {
            apply(&mut content, change);
        }
        if self.calls.get().is_multiple_of(50) {
            *self.old.borrow_mut() = content.clone();
        }
    }

    fn answer(&self, call: RawCall) -> Result<RawReply, WireError> {
        match call {
            RawCall::Get { key, .. } => Ok(RawReply::Value(self.read(&key).map(Into::into))),
            RawCall::Put { key, value, .. } => {
                self.write(&[(key, Some(value))]);
                Ok(RawReply::Done)
            }
            RawCall::Delete { key, .. } => {
                self.write(&[(key, None)]);
                Ok(RawReply::Done)
            }
            RawCall::DeleteRange { start, end, .. } => {
                let keys: Vec<_> =
                    self.content.borrow().range(start..end).map(|(key, _)| (key.clone(), None)).collect();
                self.write(&keys);
                Ok(RawReply::Done)
            }
            RawCall::Batch { operations, .. } => {
                let changes: Vec<_> = operations
                    .iter()
                    .map(|operation| match operation.kind {
                        OperationKind::Put { value, .. } => (operation.key.to_vec(), Some(value.to_vec())),
                        _ => (operation.key.to_vec(), None),
                    })
                    .collect();
                self.write(&changes);
                Ok(RawReply::Results(Results::done(changes.len())))
            }
            RawCall::Scan(scan) => Ok(RawReply::Page(self.scan(&scan))),
            RawCall::CompareAndSwap { .. } | RawCall::TimeToLive { .. } => {
                Err(WireError::invalid("not here"))
            }
        }
    }

    fn read(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self.fault {
            Fault::ReadsOldState if self.calls.get().is_multiple_of(7) => self.old.borrow().get(key).cloned(),
            Fault::MixesValues if self.calls.get().is_multiple_of(7) => {
                self.content.borrow().values().next().cloned()
            }
            _ => self.content.borrow().get(key).cloned(),
        }
    }

    fn scan(&self, scan: &Scan) -> Page {
        let content = self.content.borrow();
        let mut rest = content.range(scan.start.clone()..);
        let mut pairs = Pairs::with_capacity(0, 0);
        for (key, value) in rest.by_ref().take(scan.limit) {
            pairs.push(key, value);
        }
        Page { pairs, resume: rest.next().map(|(key, _)| key.clone()) }
    }
}

fn apply(content: &mut Content, (key, value): &Change) {
    match value {
        Some(value) => content.insert(key.clone(), value.clone()),
        None => content.remove(key),
    };
}

impl Store for Fake {
    fn call(&self, call: RawCall) -> impl Future<Output = Answer> {
        self.calls.set(self.calls.get() + 1);
        // A call is done before its answer is under way, so that a stop leaves calls that were done and not answered.
        let answer = if self.down.get() { None } else { Some(conclude(self.answer(call))) };
        async move {
            pinion_runtime::yield_now().await;
            match answer {
                Some(answer) if !self.down.get() => answer,
                _ => Answer::Unknown("down".to_owned()),
            }
        }
    }
}
