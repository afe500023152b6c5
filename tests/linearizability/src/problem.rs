//! A component's calls as transactions: at one moment each requires that some keys hold some values, and writes others.
//!
//! - A slot is a key of the component, a code a value of a slot. Absence of slot `s` has code `s`; the codes of written values follow.
//! - Get requires, put and delete write, compare-and-swap requires what it found and writes if it swapped; batches do so in several slots.
//! - **Unknown writes** whose value somebody saw have happened, at the latest when the first who saw it returned: they become
//!   transactions that return then. Those whose value nobody saw are dropped: in every order that has them they can be left out, because
//!   whatever follows on their keys overwrites them without a look. What remains unknown are deletes, kept apart by slot.

use crate::component::Component;
use crate::history::{CallId, Key, Operation, Outcome, Record, ValueId};
use crate::violation::Reason;
use pinion_types::map::HashMap;

/// The return of a call that has not returned.
const NEVER: u64 = u64::MAX;

/// One value of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) slot: usize,
    pub(crate) code: usize,
}

/// A call that has happened.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) call: CallId,
    pub(crate) invoked: u64,
    /// When it had happened, at the latest.
    pub(crate) returned: u64,
    pub(crate) requires: Vec<Cell>,
    pub(crate) writes: Vec<Cell>,
}

/// When the value of a code was there: the time of its write and of those that saw it. Whatever else happens, all of them stand
/// together in every order, because the value never comes back.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    /// The transaction that wrote it; none for absence, and for values of dropped writes.
    pub(crate) writer: Option<usize>,
    /// The value had been there at this tick, as this transaction proves by its return.
    pub(crate) first_returned: (u64, usize),
    /// The value was still there at or after this tick, as this transaction proves by its invocation.
    pub(crate) last_invoked: (u64, usize),
    /// How many transactions require it.
    pub(crate) observers: usize,
}

/// What a component's calls up to some tick say.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) slots: usize,
    /// By invocation.
    pub(crate) transactions: Vec<Transaction>,
    /// By code.
    pub(crate) zones: Vec<Zone>,
    /// By code.
    pub(crate) meanings: Vec<(usize, Option<ValueId>)>,
    /// By slot: the invocations of deletes that have happened or not, ascending.
    pub(crate) open_deletes: Vec<Vec<u64>>,
}

/// A call's reads and writes of keys.
struct Draft<'a> {
    record: &'a Record,
    returned: u64,
    requires: Vec<(&'a Key, Option<ValueId>)>,
    writes: Vec<(&'a Key, Option<ValueId>)>,
}

/// The codes of written values, and who writes them.
struct Codes<'a> {
    slots: &'a HashMap<&'a Key, usize>,
    numbers: HashMap<(usize, ValueId), usize>,
    meanings: Vec<(usize, Option<ValueId>)>,
    /// By code, without those of absence: the place of the draft that writes it.
    writers: Vec<usize>,
}

impl Problem {
    /// What the calls say that were invoked at `cut` or earlier; those that returned later have not returned yet.
    ///
    /// # Errors
    /// When an answer contradicts itself, or shows what nothing has written.
    ///
    /// # Panics
    /// When two calls write the same value to the same key.
    pub(crate) fn new(component: &Component<'_>, cut: u64) -> Result<Self, Reason> {
        let calls = component.calls.iter().take_while(|record| record.invoked <= cut);
        let mut drafts =
            calls.filter_map(|record| draft(record, cut).transpose()).collect::<Result<Vec<_>, _>>()?;
        let codes = Codes::new(component, &drafts);
        settle(&mut drafts, &codes);

        let mut open_deletes = vec![Vec::new(); component.keys.len()];
        let mut transactions = Vec::with_capacity(drafts.len());
        for draft in &drafts {
            match (draft.returned, &draft.record.operation) {
                (NEVER, Operation::Delete { key }) => {
                    open_deletes[codes.slots[key]].push(draft.record.invoked);
                }
                (NEVER, _) => {}
                (returned, _) => transactions.push(Transaction {
                    call: draft.record.id,
                    invoked: draft.record.invoked,
                    returned,
                    requires: codes.cells(draft.record, &draft.requires)?,
                    writes: codes.cells(draft.record, &draft.writes)?,
                }),
            }
        }
        let zones = zones(&transactions, codes.meanings.len(), component.keys.len());
        Ok(Self { slots: component.keys.len(), transactions, zones, meanings: codes.meanings, open_deletes })
    }

    /// Whether a code means a value: it is written once, and gone once it is overwritten.
    pub(crate) fn is_value(&self, code: usize) -> bool {
        code >= self.slots
    }
}

/// What a call says, if it says anything.
fn draft(record: &Record, cut: u64) -> Result<Option<Draft<'_>>, Reason> {
    let answer = match &record.answer {
        Some((_, Outcome::Unknown)) | None => None,
        Some((tick, _)) if *tick > cut => None,
        Some((tick, outcome)) => Some((*tick, outcome)),
    };
    let returned = answer.map_or(NEVER, |(tick, _)| tick.min(NEVER - 1));
    let (requires, writes) = match (&record.operation, answer.map(|(_, outcome)| outcome)) {
        (Operation::Get { key }, Some(Outcome::Read(value))) => (vec![(key, *value)], Vec::new()),
        (Operation::BatchGet { keys }, Some(Outcome::BatchRead(values))) => {
            (keys.iter().zip(values.iter().copied()).collect(), Vec::new())
        }
        (Operation::Get { .. } | Operation::BatchGet { .. }, _) => return Ok(None),
        (Operation::Put { key, value }, _) => (Vec::new(), vec![(key, Some(*value))]),
        (Operation::Delete { key }, _) => (Vec::new(), vec![(key, None)]),
        (Operation::BatchPut { writes }, _) => {
            (Vec::new(), writes.iter().map(|(key, value)| (key, Some(*value))).collect())
        }
        (Operation::CompareAndSwap { key, expected, new }, answer) => {
            let (swapped, previous) = match answer {
                Some(Outcome::Compared { swapped, previous }) => (*swapped, *previous),
                // If it had an effect, then this one.
                _ => (true, *expected),
            };
            if swapped != (previous == *expected) {
                return Err(Reason::Contradiction { call: record.id, key: key.clone() });
            }
            (vec![(key, previous)], if swapped { vec![(key, Some(*new))] } else { Vec::new() })
        }
    };
    Ok(Some(Draft { record, returned, requires, writes }))
}

/// Finds the unknown writes whose value was seen. By the order of returns the first who saw a value comes first.
fn settle(drafts: &mut [Draft<'_>], codes: &Codes<'_>) {
    let mut by_return: Vec<usize> =
        (0..drafts.len()).filter(|&place| drafts[place].returned != NEVER).collect();
    by_return.sort_by_key(|&place| drafts[place].returned);
    for place in by_return {
        let returned = drafts[place].returned;
        for index in 0..drafts[place].requires.len() {
            let mut seen = Some(drafts[place].requires[index]);
            // A compare-and-swap that has happened has seen what it expected, which may be unknown in turn.
            while let Some(writer) = seen.and_then(|seen| codes.writer(seen)) {
                let writer = &mut drafts[writer];
                if writer.returned != NEVER {
                    break;
                }
                writer.returned = returned;
                seen = writer.requires.first().copied();
            }
        }
    }
}

impl<'a> Codes<'a> {
    fn new(component: &'a Component<'_>, drafts: &[Draft<'_>]) -> Self {
        let meanings = (0..component.keys.len()).map(|slot| (slot, None)).collect();
        let mut codes =
            Self { slots: &component.slots, numbers: HashMap::default(), meanings, writers: Vec::new() };
        for (place, draft) in drafts.iter().enumerate() {
            for &(key, value) in &draft.writes {
                let Some(value) = value else { continue };
                let slot = codes.slots[key];
                let code = *codes.numbers.entry((slot, value)).or_insert(codes.meanings.len());
                assert_eq!(
                    code,
                    codes.meanings.len(),
                    "a value is written once, but {value:?} of {} by {} is not fresh",
                    key.escape_ascii(),
                    draft.record.id
                );
                codes.meanings.push((slot, Some(value)));
                codes.writers.push(place);
            }
        }
        codes
    }

    fn code(&self, (key, value): (&Key, Option<ValueId>)) -> Option<Cell> {
        let slot = self.slots[key];
        let code = value.map_or(Some(slot), |value| self.numbers.get(&(slot, value)).copied())?;
        Some(Cell { slot, code })
    }

    fn writer(&self, seen: (&Key, Option<ValueId>)) -> Option<usize> {
        let first_value = self.slots.len();
        self.code(seen)
            .filter(|cell| cell.code >= first_value)
            .map(|cell| self.writers[cell.code - first_value])
    }

    fn cells(&self, record: &Record, values: &[(&Key, Option<ValueId>)]) -> Result<Vec<Cell>, Reason> {
        let mut cells = Vec::with_capacity(values.len());
        for &(key, value) in values {
            match (self.code((key, value)), value) {
                (Some(cell), _) => cells.push(cell),
                (None, Some(value)) => {
                    return Err(Reason::NeverWritten {
                        key: key.clone(),
                        value,
                        seen_by: record.id,
                        attempt: None,
                    });
                }
                (None, None) => unreachable!("absence has a code"),
            }
        }
        Ok(cells)
    }
}

fn zones(transactions: &[Transaction], codes: usize, slots: usize) -> Vec<Zone> {
    // Bounds nothing: what a value that was never there has to wait for.
    let empty = Zone { writer: None, first_returned: (NEVER, 0), last_invoked: (0, 0), observers: 0 };
    let mut zones = vec![empty; codes];
    for (place, transaction) in transactions.iter().enumerate() {
        for cell in &transaction.requires {
            zones[cell.code].observers += 1;
        }
        for cell in &transaction.writes {
            if cell.code >= slots {
                zones[cell.code].writer = Some(place);
            }
        }
        for cell in transaction.requires.iter().chain(&transaction.writes).filter(|cell| cell.code >= slots) {
            let zone = &mut zones[cell.code];
            zone.first_returned = zone.first_returned.min((transaction.returned, place));
            zone.last_invoked = zone.last_invoked.max((transaction.invoked, place));
        }
    }
    zones
}
