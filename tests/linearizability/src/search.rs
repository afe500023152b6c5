//! Looks for an order of a component's transactions: Wing and Gong's search (1993) with Lowe's cache (2017, "Testing for linearizability").
//!
//! 1. Invocations and returns stand in one list by time. Whatever is invoked before the first return in it may happen next.
//! 2. A transaction that may happen, and whose requirements hold, happens: its events leave the list, its values are written.
//! 3. When nothing can happen before the first return, the choice made last is taken back, and the next one tried.
//! 4. A configuration (which transactions have happened, and the values after them) that was seen before is not entered again.
//! 5. The list is empty: the history is linearizable. No choice is left: it is not.
//!
//! Fresh values make most choices unnecessary:
//!
//! - A value whose observers have not all happened is not overwritten, and a value is not written while another is waited for that
//!   must come before it by their zones. Either would end in nothing.
//! - What can be moved to the front of every order that continues from here is **forced**: it happens without an alternative, and when
//!   nothing comes of it, nothing comes of the configuration. That is a read of what is there; a write that nobody sees of what nobody will
//!   see any more; and the swap of a value that only the swap is still to see.
//! - A delete that has happened or not happens directly before a transaction that needs it, the earliest invoked first, or never.
//!
//! Cost: a configuration costs as much as there are transactions at the same time; its entry in the cache a word for each slot and for
//! each 64 transactions from the first that has not happened to the last that has.

use crate::links::Links;
use crate::problem::{Problem, Transaction};
use pinion_types::map::HashSet;

/// The list's head, which ends it as a return that never comes.
const HEAD: usize = 0;

/// What a cached configuration takes besides its words: its place in the table and the allocator's overhead.
const CACHED_OVERHEAD_BYTES: usize = 40;

const WORD_BITS: usize = 64;

/// What searches may spend together.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Configurations that may still be visited, besides one for each transaction.
    pub(crate) configurations_left: u64,
    /// What the cache of a search may hold.
    pub(crate) cache_bytes_max: usize,
    /// Configurations that were visited.
    pub(crate) visited: u64,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is an order.
    Order,
    /// There is none.
    NoOrder,
    /// The budget was spent before either was known.
    Undecided,
}

/// Looks for an order of all transactions.
pub(crate) fn search(problem: &Problem, budget: &mut Budget) -> Found {
    Search::new(problem).run(budget)
}

#[derive(Clone, Copy)]
enum Event {
    Invocation(usize),
    /// The tick, and how many transactions were invoked before it.
    Return(u64, usize),
}

/// Whether a transaction can happen next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Judgement {
    No,
    Choice,
    Forced,
}

/// What a slot held before.
struct Undo {
    slot: usize,
    code: usize,
    by_open_delete: bool,
}

/// A transaction that has happened.
struct Step {
    transaction: usize,
    forced: bool,
    /// How much of the trail was there before it.
    trail_len: usize,
}

struct Search<'a> {
    problem: &'a Problem,
    /// By node; the head's is a return after all others.
    events: Vec<Event>,
    /// Events that have not happened, by time.
    list: Links,
    /// By transaction: the nodes of its invocation and its return.
    nodes: Vec<(usize, usize)>,
    /// By slot, whose code of absence is the head: values that were not written yet, by their zones' first return.
    unwritten: Links,
    /// By slot: the code of what it holds.
    state: Vec<usize>,
    /// By slot: open deletes that have happened.
    deletes_used: Vec<usize>,
    /// By code: transactions that require it and have not happened.
    observers_left: Vec<usize>,
    /// A bit for each transaction that has happened.
    happened: Vec<u64>,
    left: usize,
    path: Vec<Step>,
    trail: Vec<Undo>,
    seen: HashSet<Box<[u64]>>,
    seen_bytes: usize,
    has_open_deletes: bool,
}

impl<'a> Search<'a> {
    fn new(problem: &'a Problem) -> Self {
        let count = problem.transactions.len();
        let (events, nodes) = events(&problem.transactions);
        let mut list = Links::new(events.len());
        for node in 1..events.len() {
            list.push_back(HEAD, node);
        }
        let mut unwritten = Links::new(problem.zones.len());
        let mut values: Vec<usize> = (problem.slots..problem.zones.len()).collect();
        values.sort_by_key(|&code| problem.zones[code].first_returned);
        for code in values {
            unwritten.push_back(problem.meanings[code].0, code);
        }
        Self {
            problem,
            events,
            list,
            nodes,
            unwritten,
            state: (0..problem.slots).collect(),
            deletes_used: vec![0; problem.slots],
            observers_left: problem.zones.iter().map(|zone| zone.observers).collect(),
            happened: vec![0; count.div_ceil(WORD_BITS)],
            left: count,
            path: Vec::with_capacity(count),
            trail: Vec::with_capacity(count),
            seen: HashSet::default(),
            seen_bytes: 0,
            has_open_deletes: problem.open_deletes.iter().any(|deletes| !deletes.is_empty()),
        }
    }

    fn run(mut self, budget: &mut Budget) -> Found {
        let mut free = self.left;
        let mut cursor = self.list.next(HEAD);
        while self.left > 0 {
            let Some((transaction, judgement)) = self.next_step(cursor) else {
                match self.back() {
                    Some(next) => cursor = next,
                    None => return Found::NoOrder,
                }
                continue;
            };
            if self.seen_bytes > budget.cache_bytes_max || free == 0 && budget.configurations_left == 0 {
                return Found::Undecided;
            }
            if free > 0 {
                free -= 1;
            } else {
                budget.configurations_left -= 1;
            }
            budget.visited += 1;
            self.take(transaction, judgement == Judgement::Forced);
            // What is forced leads from a known configuration to one other, which need not be remembered.
            cursor = if judgement == Judgement::Forced || self.remember() {
                self.list.next(HEAD)
            } else {
                self.undo();
                self.list.next(self.nodes[transaction].0)
            };
        }
        Found::Order
    }

    /// The first transaction from `cursor` on that can happen next; one that is forced comes before all others.
    fn next_step(&self, cursor: usize) -> Option<(usize, Judgement)> {
        let first_return = self.first_return().0;
        // After the first choice it is known that nothing is forced here.
        let mut judgements = [Judgement::Forced, Judgement::Choice].into_iter();
        if cursor != self.list.next(HEAD) {
            judgements.next();
        }
        for wanted in judgements {
            let mut node = cursor;
            while let Event::Invocation(transaction) = self.events[node] {
                if self.judge(&self.problem.transactions[transaction], first_return) == wanted {
                    return Some((transaction, wanted));
                }
                node = self.list.next(node);
            }
        }
        None
    }

    /// The first return that has not happened.
    fn first_return(&self) -> (u64, usize) {
        let mut node = self.list.next(HEAD);
        loop {
            match self.events[node] {
                Event::Invocation(_) => node = self.list.next(node),
                Event::Return(tick, invoked_before) => return (tick, invoked_before),
            }
        }
    }

    fn judge(&self, transaction: &Transaction, first_return: u64) -> Judgement {
        let mut needs_delete = false;
        for cell in &transaction.requires {
            let now = self.state[cell.slot];
            if now != cell.code {
                if self.problem.is_value(cell.code)
                    || self.observers_left[now] > 0
                    || !self.can_delete(cell.slot, first_return)
                {
                    return Judgement::No;
                }
                needs_delete = true;
            }
        }
        for cell in &transaction.writes {
            let now = self.state[cell.slot];
            let own = usize::from(transaction.requires.iter().any(|required| required.code == now));
            if self.problem.is_value(now) && self.observers_left[now] > own
                || self.problem.is_value(cell.code) && self.must_wait(cell.slot, cell.code)
            {
                return Judgement::No;
            }
        }
        let is_forced = match (transaction.requires.as_slice(), transaction.writes.as_slice()) {
            (_, []) => !needs_delete,
            ([], writes) => writes.iter().all(|cell| {
                self.observers_left[cell.code] == 0 && self.observers_left[self.state[cell.slot]] == 0
            }),
            // It is the only one that is still to see the value, or it could not write.
            ([required], _) => self.problem.is_value(required.code),
            _ => false,
        };
        if is_forced { Judgement::Forced } else { Judgement::Choice }
    }

    /// Whether an open delete of the slot may happen now: it was invoked before whatever has not happened returned.
    fn can_delete(&self, slot: usize, first_return: u64) -> bool {
        let next = self.problem.open_deletes[slot].get(self.deletes_used[slot]);
        next.is_some_and(|invoked| *invoked <= first_return)
    }

    /// Whether another value of the slot has not been written that must be there before this one.
    fn must_wait(&self, slot: usize, code: usize) -> bool {
        let mut first = self.unwritten.next(slot);
        if first == code {
            first = self.unwritten.next(first);
        }
        self.problem.zones[first].first_returned.0 < self.problem.zones[code].last_invoked.0
    }

    /// The transaction happens.
    fn take(&mut self, transaction: usize, forced: bool) {
        let trail_len = self.trail.len();
        let Transaction { requires, writes, .. } = &self.problem.transactions[transaction];
        for cell in requires {
            if self.state[cell.slot] != cell.code {
                self.trail.push(Undo { slot: cell.slot, code: self.state[cell.slot], by_open_delete: true });
                self.state[cell.slot] = cell.code;
                self.deletes_used[cell.slot] += 1;
            }
            self.observers_left[cell.code] -= 1;
        }
        for cell in writes {
            self.trail.push(Undo { slot: cell.slot, code: self.state[cell.slot], by_open_delete: false });
            self.state[cell.slot] = cell.code;
            if self.problem.is_value(cell.code) {
                self.unwritten.remove(cell.code);
            }
        }
        let (invocation, returned) = self.nodes[transaction];
        self.list.remove(invocation);
        self.list.remove(returned);
        self.happened[transaction / WORD_BITS] |= 1 << (transaction % WORD_BITS);
        self.left -= 1;
        self.path.push(Step { transaction, forced, trail_len });
    }

    /// The transaction that happened last has not happened.
    fn undo(&mut self) -> Option<Step> {
        let step = self.path.pop()?;
        let Transaction { requires, writes, .. } = &self.problem.transactions[step.transaction];
        let (invocation, returned) = self.nodes[step.transaction];
        self.list.restore(returned);
        self.list.restore(invocation);
        for cell in writes.iter().rev().filter(|cell| self.problem.is_value(cell.code)) {
            self.unwritten.restore(cell.code);
        }
        for cell in requires {
            self.observers_left[cell.code] += 1;
        }
        for undo in self.trail.drain(step.trail_len..).rev() {
            self.state[undo.slot] = undo.code;
            self.deletes_used[undo.slot] -= usize::from(undo.by_open_delete);
        }
        self.happened[step.transaction / WORD_BITS] &= !(1 << (step.transaction % WORD_BITS));
        self.left += 1;
        Some(step)
    }

    /// Takes back the last choice, and all that was forced by it; gives the event after its invocation.
    fn back(&mut self) -> Option<usize> {
        loop {
            let step = self.undo()?;
            if !step.forced {
                return Some(self.list.next(self.nodes[step.transaction].0));
            }
        }
    }

    /// Caches the configuration; false if it was there.
    fn remember(&mut self) -> bool {
        let word = |number: usize| u64::try_from(number).expect("64-bit machine");
        let from = match self.events[self.list.next(HEAD)] {
            Event::Invocation(first_left) => first_left / WORD_BITS,
            Event::Return(..) => self.happened.len(),
        };
        let until = self.first_return().1.div_ceil(WORD_BITS).max(from);
        let used: &[usize] = if self.has_open_deletes { &self.deletes_used } else { &[] };
        let numbers = self.state.iter().chain(used).chain([&from]);
        let configuration: Box<[u64]> =
            numbers.map(|number| word(*number)).chain(self.happened[from..until].iter().copied()).collect();
        let bytes = size_of_val(&*configuration) + CACHED_OVERHEAD_BYTES;
        let is_new = self.seen.insert(configuration);
        if is_new {
            self.seen_bytes += bytes;
        }
        is_new
    }
}

/// Invocations and returns by time, invocations first among those of one tick; and where each transaction's are.
fn events(transactions: &[Transaction]) -> (Vec<Event>, Vec<(usize, usize)>) {
    let mut times: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * transactions.len());
    for (place, transaction) in transactions.iter().enumerate() {
        times.push((transaction.invoked, false, place));
        times.push((transaction.returned, true, place));
    }
    times.sort_unstable();
    let mut events = vec![Event::Return(u64::MAX, transactions.len())];
    let mut nodes = vec![(HEAD, HEAD); transactions.len()];
    let mut invoked_before = 0;
    for (tick, is_return, place) in times {
        if is_return {
            nodes[place].1 = events.len();
            events.push(Event::Return(tick, invoked_before));
        } else {
            invoked_before += 1;
            nodes[place].0 = events.len();
            events.push(Event::Invocation(place));
        }
    }
    (events, nodes)
}
