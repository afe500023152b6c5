//! Why a history is wrong, for people.

use crate::history::{CallId, Key, Operation, Outcome, Record, ValueId};
use std::fmt;

/// Keys that an explanation names; a component may have thousands.
const KEYS_NAMED_MAX: usize = 8;

/// Calls that no order explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The key that is wrong, or the keys that are joined by batches and wrong together.
    pub keys: Vec<Key>,
    /// What is wrong.
    pub reason: Box<Reason>,
    /// What happened up to this tick cannot have happened, whatever came later.
    pub prefix_end: u64,
    /// Whether everything before that tick is in order, on all keys. It is, unless the limits were reached before that was known.
    pub is_smallest: bool,
    /// The last calls of the prefix on the keys, and those that the reason names, by invocation.
    pub operations: Vec<Record>,
}

impl std::error::Error for Violation {}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A call saw a value that was not there, or not yet.
    NeverWritten {
        /// The key.
        key: Key,
        /// The value.
        value: ValueId,
        /// The call that saw it.
        seen_by: CallId,
        /// The call that would have written it: later, or if it had not been refused, or if it had swapped.
        attempt: Option<CallId>,
    },
    /// A compare-and-swap found what it expected and did not swap, or swapped without.
    Contradiction {
        /// The key.
        key: Key,
        /// The compare-and-swap.
        call: CallId,
    },
    /// Each of two values had been there before the other was still there, though neither can come back.
    BothFirst {
        /// The key.
        key: Key,
        /// The two.
        values: [ValueId; 2],
        /// A call on the first value that returned before a call on the second was invoked.
        first_before_second: [CallId; 2],
        /// A call on the second value that returned before a call on the first was invoked.
        second_before_first: [CallId; 2],
    },
    /// A call found nothing, though a value was there before and nothing can have deleted it in between.
    Lost {
        /// The key.
        key: Key,
        /// The value.
        value: ValueId,
        /// A call that wrote the value or saw it.
        there_for: CallId,
        /// A later call that found nothing.
        absent_for: CallId,
    },
    /// All orders were tried.
    NoOrder,
}

impl Reason {
    /// The key that is wrong, if it is a single one.
    pub(crate) fn key(&self) -> Option<&Key> {
        match self {
            Self::NeverWritten { key, .. }
            | Self::Contradiction { key, .. }
            | Self::BothFirst { key, .. }
            | Self::Lost { key, .. } => Some(key),
            Self::NoOrder => None,
        }
    }

    /// The calls that it names.
    pub(crate) fn calls(&self) -> Vec<CallId> {
        match self {
            Self::NeverWritten { seen_by, attempt, .. } => {
                attempt.iter().copied().chain([*seen_by]).collect()
            }
            Self::Contradiction { call, .. } => vec![*call],
            Self::BothFirst { first_before_second, second_before_first, .. } => {
                [*first_before_second, *second_before_first].concat()
            }
            Self::Lost { there_for, absent_for, .. } => vec![*there_for, *absent_for],
            Self::NoOrder => Vec::new(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverWritten { value, seen_by, attempt, .. } => {
                write!(f, "{seen_by} saw {value}, which had not been written")?;
                attempt.map_or(Ok(()), |attempt| write!(f, " (only {attempt} asked for it)"))
            }
            Self::Contradiction { call, .. } => {
                write!(
                    f,
                    "the answer to {call} contradicts itself: it swaps if and only if it finds what it \
                     expects"
                )
            }
            Self::BothFirst { values: [one, two], first_before_second, second_before_first, .. } => {
                let [one_there, two_then] = first_before_second;
                let [two_there, one_then] = second_before_first;
                write!(
                    f,
                    "{one} was there before {two}, because {one_there} had returned when {two_then} was \
                     invoked; and {two} before {one}, because {two_there} had returned when {one_then} was invoked"
                )
            }
            Self::Lost { value, there_for, absent_for, .. } => write!(
                f,
                "{absent_for} found nothing, though {value} was there for {there_for}, which had \
                 returned, and nothing can have deleted it since"
            ),
            Self::NoOrder => write!(f, "there is no order in which each call saw what was there"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not linearizable: ")?;
        for (place, key) in self.keys.iter().take(KEYS_NAMED_MAX).enumerate() {
            write!(f, "{}{}", if place == 0 { "" } else { ", " }, key.escape_ascii())?;
        }
        if self.keys.len() > KEYS_NAMED_MAX {
            write!(f, " and {} more", self.keys.len() - KEYS_NAMED_MAX)?;
        }
        writeln!(f, ": {}", self.reason)?;
        let smallest =
            if self.is_smallest { "the first tick at which it is wrong is" } else { "it is wrong at tick" };
        write!(f, "{smallest} {}", self.prefix_end)?;
        for record in &self.operations {
            let is_last = record.answer.as_ref().is_some_and(|(tick, _)| *tick == self.prefix_end);
            write!(f, "\n{} {record}", if is_last { "->" } else { "  " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} client {} [{}, ", self.id, self.client, self.invoked)?;
        match &self.answer {
            Some((tick, outcome)) => write!(f, "{tick}] {}: {outcome}", self.operation),
            None => write!(f, "...] {}: no answer", self.operation),
        }
    }
}

impl fmt::Display for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value {}", self.0)
    }
}

/// A value or its absence.
struct Shown<'a>(&'a Option<ValueId>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("nothing"),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get { key } => write!(f, "get {}", key.escape_ascii()),
            Self::Put { key, value } => write!(f, "put {} = {value}", key.escape_ascii()),
            Self::Delete { key } => write!(f, "delete {}", key.escape_ascii()),
            Self::CompareAndSwap { key, expected, new } => {
                write!(f, "swap {} from {} to {new}", key.escape_ascii(), Shown(expected))
            }
            Self::BatchPut { writes } => {
                f.write_str("put")?;
                writes.iter().try_for_each(|(key, value)| write!(f, " {} = {value};", key.escape_ascii()))
            }
            Self::BatchGet { keys } => {
                f.write_str("get")?;
                keys.iter().try_for_each(|key| write!(f, " {};", key.escape_ascii()))
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(value) => Shown(value).fmt(f),
            Self::Written => f.write_str("done"),
            Self::Compared { swapped: true, previous } => write!(f, "swapped {}", Shown(previous)),
            Self::Compared { swapped: false, previous } => write!(f, "found {}", Shown(previous)),
            Self::BatchRead(values) => values.iter().try_for_each(|value| write!(f, "{}; ", Shown(value))),
            Self::Refused => f.write_str("refused"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}
