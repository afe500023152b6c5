//! Splits a history into parts that can be judged one by one: keys that share a batch belong together.
//!
//! A history is linearizable if and only if its parts are, because no call has part in two of them (Herlihy and Wing 1990,
//! theorem 1).

use crate::history::{History, Key, Operation, Outcome, Record};
use pinion_types::map::HashMap;

/// Keys and all calls that read or write them.
#[derive(Debug, Default)]
pub(crate) struct Component<'a> {
    /// In the order of their first call. A key's place in here is its slot.
    pub(crate) keys: Vec<&'a Key>,
    pub(crate) slots: HashMap<&'a Key, usize>,
    /// By invocation.
    pub(crate) calls: Vec<&'a Record>,
}

/// The components, in the order of their first call.
pub(crate) fn split(history: &History) -> Vec<Component<'_>> {
    let mut numbers: HashMap<&Key, usize> = HashMap::default();
    let mut keys: Vec<&Key> = Vec::new();
    let mut parents: Vec<usize> = Vec::new();
    let mut calls: Vec<(&Record, usize)> = Vec::with_capacity(history.len());
    for record in history.records().iter().filter(|record| says_something(record)) {
        let mut first = None;
        for key in record.operation.keys() {
            let number = *numbers.entry(key).or_insert_with(|| {
                keys.push(key);
                parents.push(parents.len());
                parents.len() - 1
            });
            join(&mut parents, *first.get_or_insert(number), number);
        }
        // A batch of nothing sees nothing.
        calls.extend(first.map(|key| (record, key)));
    }

    let mut places: HashMap<usize, usize> = HashMap::default();
    let mut components: Vec<Component<'_>> = Vec::new();
    for (number, key) in keys.into_iter().enumerate() {
        let root = root(&mut parents, number);
        let place = *places.entry(root).or_insert_with(|| {
            components.push(Component::default());
            components.len() - 1
        });
        let component = &mut components[place];
        component.slots.insert(key, component.keys.len());
        component.keys.push(key);
    }
    for (record, key) in calls {
        components[places[&root(&mut parents, key)]].calls.push(record);
    }
    for component in &mut components {
        component.calls.sort_by_key(|record| (record.invoked, record.id));
    }
    components
}

/// What never happened tells nothing, and neither does a read whose result nobody saw: it joins no keys either.
fn says_something(record: &Record) -> bool {
    match &record.answer {
        Some((_, Outcome::Refused)) => false,
        Some((_, Outcome::Unknown)) | None => {
            !matches!(record.operation, Operation::Get { .. } | Operation::BatchGet { .. })
        }
        Some(_) => true,
    }
}

fn join(parents: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(parents, a), root(parents, b));
    parents[a.max(b)] = a.min(b);
}

fn root(parents: &mut [usize], mut of: usize) -> usize {
    while parents[of] != of {
        // Halving the path on the way keeps the paths short.
        parents[of] = parents[parents[of]];
        of = parents[of];
    }
    of
}
