//! Histories of a store that is atomic by construction: every call takes effect at one tick between its invocation and its return.

use crate::{CallId, History, Key, Operation, Outcome, ValueId};
use std::collections::BTreeMap;

/// SplitMix64, from a seed that a failing test names.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(u64::try_from(len).unwrap())).unwrap()
    }
}

/// What the clients do.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) calls: usize,
    pub(super) clients: u32,
    pub(super) keys: u64,
    /// Half of the calls go to the first keys, this many.
    pub(super) hot_keys: u64,
    pub(super) unknown_percent: u64,
    pub(super) batch_percent: u64,
    /// Batches have keys of the same so many, so that no batch joins all keys.
    pub(super) batch_keys: u64,
    /// The longest time from an invocation to the effect, and from there to the return.
    pub(super) delay_max: u64,
}

/// One call on its way.
struct Flight {
    client: u32,
    invoked: u64,
    effect: u64,
    returned: u64,
    is_unknown: bool,
}

/// The history of a load.
pub(super) fn generate(load: &Load, random: &mut Random) -> History {
    let mut clocks = vec![0; usize::try_from(load.clients).unwrap()];
    let mut flights: Vec<Flight> = (0..load.calls)
        .map(|_| {
            let client = random.index(clocks.len());
            let invoked = clocks[client] + random.below(load.delay_max);
            let effect = invoked + random.below(load.delay_max);
            let returned = effect + random.below(load.delay_max);
            let is_unknown = random.percent(load.unknown_percent);
            clocks[client] = returned + 1;
            // What is unknown may happen long after its client has given up, or never.
            let effect = match is_unknown {
                true if random.percent(50) => u64::MAX,
                true => invoked + random.below(5 * load.delay_max),
                false => effect,
            };
            Flight { client: u32::try_from(client).unwrap(), invoked, effect, returned, is_unknown }
        })
        .collect();
    flights.sort_by_key(|flight| flight.effect);

    let mut store = Store { load, state: BTreeMap::new(), next_value: 1 };
    let mut calls: Vec<(Flight, Operation, Outcome)> = flights
        .into_iter()
        .map(|flight| {
            let (operation, outcome) = store.call(random);
            let outcome = if flight.is_unknown { Outcome::Unknown } else { outcome };
            (flight, operation, outcome)
        })
        .collect();
    calls.sort_by_key(|(flight, ..)| flight.invoked);
    let mut history = History::new();
    for (flight, operation, outcome) in calls {
        let call = history.invoke_at(flight.invoked, flight.client, operation);
        // No answer at all is as good as an unknown one.
        if !(flight.is_unknown && random.percent(50)) {
            history.complete_at(flight.returned, call, outcome);
        }
    }
    history
}

struct Store<'a> {
    load: &'a Load,
    state: BTreeMap<Key, ValueId>,
    next_value: u64,
}

impl Store<'_> {
    fn call(&mut self, random: &mut Random) -> (Operation, Outcome) {
        if random.percent(self.load.batch_percent) {
            return self.batch(random);
        }
        let number = match random.percent(50) {
            true => random.below(self.load.hot_keys),
            false => random.below(self.load.keys),
        };
        let key = key(number);
        let found = self.state.get(&key).copied();
        let kind = random.below(100);
        if kind < 50 {
            (Operation::get(key), Outcome::Read(found))
        } else if kind < 80 {
            let value = self.fresh();
            self.state.insert(key.clone(), value);
            (Operation::put(key, value), Outcome::Written)
        } else if kind < 88 {
            self.state.remove(&key);
            (Operation::delete(key), Outcome::Written)
        } else {
            let new = self.fresh();
            let other = (new.0 > 2).then(|| ValueId(1 + random.below(new.0 - 1)));
            let expected = if random.percent(60) { found } else { other };
            let swapped = expected == found;
            if swapped {
                self.state.insert(key.clone(), new);
            }
            (Operation::compare_and_swap(key, expected, new), Outcome::Compared { swapped, previous: found })
        }
    }

    fn batch(&mut self, random: &mut Random) -> (Operation, Outcome) {
        let keys_max = self.load.batch_keys.min(self.load.keys);
        let first = random.below(self.load.keys / keys_max) * keys_max;
        let mut keys: Vec<Key> = (first..first + keys_max).filter(|_| random.percent(60)).map(key).collect();
        if keys.is_empty() {
            keys.push(key(first));
        }
        if random.percent(50) {
            let found = keys.iter().map(|key| self.state.get(key).copied()).collect();
            return (Operation::BatchGet { keys }, Outcome::BatchRead(found));
        }
        let writes: Vec<(Key, ValueId)> = keys.into_iter().map(|key| (key, self.fresh())).collect();
        self.state.extend(writes.iter().cloned());
        (Operation::BatchPut { writes }, Outcome::Written)
    }

    fn fresh(&mut self) -> ValueId {
        self.next_value += 1;
        ValueId(self.next_value - 1)
    }
}

fn key(number: u64) -> Key {
    format!("k{number}").into_bytes()
}

/// The history with another outcome of one call.
pub(super) fn with_outcome(history: &History, call: CallId, outcome: &Outcome) -> History {
    let mut changed = History::new();
    for record in history.records() {
        changed.invoke_at(record.invoked, record.client, record.operation.clone());
        if let Some((tick, answer)) = &record.answer {
            let answer = if record.id == call { outcome } else { answer };
            changed.complete_at(*tick, record.id, answer.clone());
        }
    }
    changed
}
