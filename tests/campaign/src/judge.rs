//! The checker's thread: each round that is over is judged, and what its keys held at its end is remembered in brief, so that the campaign's
//! end can ask for all of it again.

use crate::shared::Shared;
use pinion_linearizability::{History, Key, Limits, Operation, Outcome, ValueId, Verdict, check};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

/// Rounds that wait to be judged.
const WAITING_MAX: usize = 4;
/// What a round's check may spend: many times what it needs.
const LIMITS: Limits = Limits { configurations_max: 20_000_000, cache_bytes_max: 1 << 30 };

/// A round that is over.
pub(crate) struct Finished {
    pub(crate) number: u64,
    pub(crate) history: History,
    /// What was read at its end, of every key.
    pub(crate) found: Vec<(Key, Option<ValueId>)>,
}

/// What each key of all rounds may hold for ever: what it held at its round's end, or what a write with an unknown outcome may yet bring.
#[derive(Default)]
pub(crate) struct Ledger(pub(crate) BTreeMap<Key, Vec<Option<ValueId>>>);

impl Ledger {
    fn note(&mut self, history: &History, found: Vec<(Key, Option<ValueId>)>) {
        self.0.extend(found.into_iter().map(|(key, value)| (key, vec![value])));
        for record in history.records() {
            if !matches!(record.answer, None | Some((_, Outcome::Unknown))) {
                continue;
            }
            let mut may_hold = |key: &Key, value: Option<ValueId>| {
                self.0.entry(key.clone()).or_default().push(value);
            };
            match &record.operation {
                Operation::Put { key, value } => may_hold(key, Some(*value)),
                Operation::Delete { key } => may_hold(key, None),
                Operation::CompareAndSwap { key, new, .. } => may_hold(key, Some(*new)),
                Operation::BatchPut { writes } => {
                    for (key, value) in writes {
                        may_hold(key, Some(*value));
                    }
                }
                Operation::Get { .. } | Operation::BatchGet { .. } => {}
            }
        }
    }
}

/// Starts the checker. It ends when nobody can send any more, and then gives its ledger.
pub(crate) fn start(shared: Arc<Shared>, directory: PathBuf) -> (SyncSender<Finished>, JoinHandle<Ledger>) {
    let (sender, rounds) = sync_channel::<Finished>(WAITING_MAX);
    let thread = std::thread::spawn(move || {
        let mut ledger = Ledger::default();
        for round in rounds {
            judge(&round, &shared, &directory);
            ledger.note(&round.history, round.found);
        }
        ledger
    });
    (sender, thread)
}

fn judge(round: &Finished, shared: &Shared, directory: &Path) {
    let (begun, works) = (Instant::now(), &shared.works);
    match check(&round.history, &LIMITS) {
        Ok(Verdict::Linearizable { configurations }) => {
            works.configurations.fetch_add(configurations, Relaxed);
        }
        Ok(Verdict::Undecided { keys, configurations }) => {
            works.configurations.fetch_add(configurations, Relaxed);
            works.keys_undecided.fetch_add(u64::try_from(keys.len()).unwrap_or(u64::MAX), Relaxed);
        }
        Err(violation) => {
            let file = directory.join(format!("history-of-round-{}", round.number));
            let mut text = format!("{violation}\n\nall calls on these keys:\n");
            let concerns = |key: &Key| violation.keys.contains(key);
            for record in
                round.history.records().iter().filter(|record| record.operation.keys().any(concerns))
            {
                let _ = writeln!(text, "{record:?}");
            }
            if let Err(error) = std::fs::write(&file, text) {
                eprintln!("{}: {error}", file.display());
            }
            shared.fail(format!(
                "round {} could not have happened in one order: {violation}\nits history is in {}",
                round.number,
                file.display()
            ));
        }
    }
    let keys = u64::try_from(round.found.len()).unwrap_or(u64::MAX);
    works.keys_checked.fetch_add(keys, Relaxed);
    works.rounds_checked.fetch_add(1, Relaxed);
    let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    works.check_ms_max.fetch_max(took, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_is_told_with_its_history_and_what_is_unknown_may_yet_come() {
        let (shared, directory) = (Arc::new(Shared::default()), tempfile::tempdir().unwrap());
        let (sender, thread) = start(shared.clone(), directory.path().to_owned());
        let mut history = History::new();
        let put = history.invoke(1, Operation::put("k", ValueId(7)));
        history.complete(put, Outcome::Written);
        let lost = history.invoke(1, Operation::put("k", ValueId(8)));
        history.complete(lost, Outcome::Unknown);
        let found = vec![(b"k".to_vec(), Some(ValueId(7)))];
        let good = Finished { number: 1, history: history.clone(), found: found.clone() };
        let get = history.invoke(2, Operation::get("k"));
        history.complete(get, Outcome::Read(None));
        sender.send(good).unwrap();
        sender.send(Finished { number: 2, history, found }).unwrap();
        drop(sender);
        let ledger = thread.join().unwrap();
        assert_eq!(ledger.0[&b"k".to_vec()], [Some(ValueId(7)), Some(ValueId(8))]);
        assert!(shared.failure().unwrap().starts_with("round 2 "));
        let told = std::fs::read_to_string(directory.path().join("history-of-round-2")).unwrap();
        assert!(told.contains("Written") && told.contains("Read(None)"), "{told}");
        assert_eq!(shared.works.rounds_checked.load(Relaxed), 2);
    }
}
