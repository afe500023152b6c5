//! What clients called, when, and what came back.
//!
//! Times are ticks of whatever clock orders the events of all clients: a counter in here, or one that the caller brings. A call
//! precedes another only if it returned at an earlier tick than the other's invocation; at equal ticks they are concurrent, so a coarse
//! clock makes the check weaker and never wrong.

use std::fmt;

/// A key, as the client names it.
pub type Key = Vec<u8>;

/// Names a value. No two writes of a key write the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub u64);

/// A call of a history, counted from 0 in the order of recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub usize);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads a key; answered by [`Outcome::Read`].
    Get {
        /// The key.
        key: Key,
    },
    /// Writes a key; answered by [`Outcome::Written`].
    Put {
        /// The key.
        key: Key,
        /// Its new value.
        value: ValueId,
    },
    /// Removes a key; answered by [`Outcome::Written`], whether or not there was a value.
    Delete {
        /// The key.
        key: Key,
    },
    /// Writes a key if it holds what is expected; answered by [`Outcome::Compared`].
    CompareAndSwap {
        /// The key.
        key: Key,
        /// What it must hold.
        expected: Option<ValueId>,
        /// Its new value. A value that was not swapped in may be used again.
        new: ValueId,
    },
    /// Writes several keys at one moment; answered by [`Outcome::Written`].
    BatchPut {
        /// Different keys and their new values.
        writes: Vec<(Key, ValueId)>,
    },
    /// Reads several keys at one moment, as a scan of one snapshot does; answered by [`Outcome::BatchRead`].
    BatchGet {
        /// Different keys. Those of a scan are all keys in its range, found or not.
        keys: Vec<Key>,
    },
}

impl Operation {
    /// A [`Operation::Get`].
    pub fn get(key: impl Into<Key>) -> Self {
        Self::Get { key: key.into() }
    }

    /// A [`Operation::Put`].
    pub fn put(key: impl Into<Key>, value: ValueId) -> Self {
        Self::Put { key: key.into(), value }
    }

    /// A [`Operation::Delete`].
    pub fn delete(key: impl Into<Key>) -> Self {
        Self::Delete { key: key.into() }
    }

    /// A [`Operation::CompareAndSwap`].
    pub fn compare_and_swap(key: impl Into<Key>, expected: Option<ValueId>, new: ValueId) -> Self {
        Self::CompareAndSwap { key: key.into(), expected, new }
    }

    /// The keys that it reads or writes.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        let (one, reads, writes): (_, &[Key], &[(Key, ValueId)]) = match self {
            Self::Get { key }
            | Self::Put { key, .. }
            | Self::Delete { key }
            | Self::CompareAndSwap { key, .. } => (Some(key), &[], &[]),
            Self::BatchPut { writes } => (None, &[], writes),
            Self::BatchGet { keys } => (None, keys, &[]),
        };
        one.into_iter().chain(reads).chain(writes.iter().map(|(key, _)| key))
    }

    fn is_answered_by(&self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (_, Outcome::Refused | Outcome::Unknown)
            | (Self::Get { .. }, Outcome::Read(_))
            | (Self::Put { .. } | Self::Delete { .. } | Self::BatchPut { .. }, Outcome::Written)
            | (Self::CompareAndSwap { .. }, Outcome::Compared { .. }) => true,
            (Self::BatchGet { keys }, Outcome::BatchRead(values)) => keys.len() == values.len(),
            _ => false,
        }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What a get found.
    Read(Option<ValueId>),
    /// The write is done.
    Written,
    /// What a compare-and-swap found and did.
    Compared {
        /// Whether it wrote.
        swapped: bool,
        /// What the key held before.
        previous: Option<ValueId>,
    },
    /// What a batch of gets found, in the order of its keys.
    BatchRead(Vec<Option<ValueId>>),
    /// It has not happened, and never will.
    Refused,
    /// It has happened, or will at some time, or never: the connection broke, or patience ended.
    Unknown,
}

/// A call with its times and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name in the history.
    pub id: CallId,
    /// Who called.
    pub client: u32,
    /// What was asked for.
    pub operation: Operation,
    /// The tick of the invocation.
    pub invoked: u64,
    /// The tick of the return and what came back; none as long as nothing did, which is as good as [`Outcome::Unknown`].
    pub answer: Option<(u64, Outcome)>,
}

/// What the calls of all clients were, in the order of recording.
#[derive(Clone, Debug, Default)]
pub struct History {
    records: Vec<Record>,
    next_tick: u64,
}

impl History {
    /// No calls yet, all keys absent. What a store holds already is recorded as writes.
    pub fn new() -> Self {
        Self::default()
    }

    /// A client calls now: after everything recorded so far.
    pub fn invoke(&mut self, client: u32, operation: Operation) -> CallId {
        self.invoke_at(self.next_tick, client, operation)
    }

    /// A client calls at `tick` of the caller's clock.
    ///
    /// # Panics
    /// When a batch has a key twice.
    pub fn invoke_at(&mut self, tick: u64, client: u32, operation: Operation) -> CallId {
        let mut keys: Vec<&Key> = operation.keys().collect();
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "a batch has each key once: {operation:?}");
        let id = CallId(self.records.len());
        self.records.push(Record { id, client, operation, invoked: tick, answer: None });
        self.next_tick = self.next_tick.max(tick.saturating_add(1));
        id
    }

    /// A call returns now: after everything recorded so far.
    pub fn complete(&mut self, call: CallId, outcome: Outcome) {
        self.complete_at(self.next_tick, call, outcome);
    }

    /// A call returns at `tick` of the caller's clock.
    ///
    /// # Panics
    /// When the call has returned before, when it returns earlier than it was invoked, and when the outcome answers another kind of
    /// operation.
    pub fn complete_at(&mut self, tick: u64, call: CallId, outcome: Outcome) {
        let record = &mut self.records[call.0];
        assert!(record.answer.is_none(), "{call} returns once");
        assert!(tick >= record.invoked, "{call} returns after its invocation");
        assert!(record.operation.is_answered_by(&outcome), "{outcome:?} answers {:?}", record.operation);
        record.answer = Some((tick, outcome));
        self.next_tick = self.next_tick.max(tick.saturating_add(1));
    }

    /// All calls, in the order of recording.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// How many calls there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}
