//! The Raft log: stable and unstable entries as one.

use bytes::Bytes;

use super::*;
use crate::MemoryStorage;

fn entry(index: u64, term: u64) -> Entry {
    Entry {
        term: Term(term),
        index: LogIndex(index),
        data: Bytes::from_static(b"0123456789"),
        ..Entry::default()
    }
}

fn log_of(stable: &[(u64, u64)]) -> RaftLog<MemoryStorage> {
    let storage = MemoryStorage::new();
    let entries: Vec<Entry> = stable.iter().map(|(index, term)| entry(*index, *term)).collect();
    storage.append(&entries).unwrap();
    RaftLog::new(storage, u64::MAX, LogSink::default()).unwrap()
}

fn terms(log: &RaftLog<MemoryStorage>) -> Vec<u64> {
    let mut entries = Vec::new();
    log.entries_into(log.first_index(), u64::MAX, &mut entries).unwrap();
    entries.iter().map(|entry| entry.term.0).collect()
}

fn id(index: u64, term: u64) -> EntryId {
    EntryId { term: Term(term), index: LogIndex(index) }
}

/// Writes what is unstable to storage, as a driver does.
fn persist(log: &mut RaftLog<MemoryStorage>) {
    let mut entries = Vec::new();
    log.unstable.next_entries_into(&mut entries);
    log.accept_unstable();
    log.storage.append(&entries).unwrap();
    if let Some(last) = entries.last() {
        log.stable_to(EntryId::of(last));
    }
}

#[test]
fn an_append_that_conflicts_replaces_the_tail_and_one_that_repeats_changes_nothing() {
    let mut log = log_of(&[(1, 1), (2, 2), (3, 3)]);
    assert_eq!(log.maybe_append(id(3, 2), &mut vec![entry(4, 4)], LogIndex(9)), Ok(None));
    assert_eq!(log.maybe_append(id(1, 1), &mut vec![entry(2, 2)], LogIndex(1)), Ok(Some(LogIndex(2))));
    assert_eq!((terms(&log), log.committed), (vec![1, 2, 3], LogIndex(1)));
    assert_eq!(
        log.maybe_append(id(1, 1), &mut vec![entry(2, 4), entry(3, 4)], LogIndex(9)),
        Ok(Some(LogIndex(3)))
    );
    assert_eq!((terms(&log), log.committed), (vec![1, 4, 4], LogIndex(3)));
    persist(&mut log);
    assert_eq!((terms(&log), log.unstable.len()), (vec![1, 4, 4], 0));
    assert_eq!(log.last(), id(3, 4));
}

#[test]
fn committed_entries_come_from_memory_after_they_were_persisted() {
    let mut log = log_of(&[]);
    assert_eq!(
        log.maybe_append(id(0, 0), &mut vec![entry(1, 1), entry(2, 1)], LogIndex(0)),
        Ok(Some(LogIndex(2)))
    );
    persist(&mut log);
    assert_eq!((log.unstable.len(), log.unstable.first()), (0, LogIndex(1)));
    log.commit_to(LogIndex(2));
    let mut out = Vec::new();
    log.next_committed_into(false, &mut out);
    assert_eq!(out.len(), 2);
    assert_eq!(log.unstable.first(), LogIndex(3), "what was handed out is released");
}

#[test]
fn entries_are_read_across_storage_and_memory_up_to_a_size() {
    let mut log = log_of(&[(1, 1), (2, 1)]);
    log.maybe_append(id(2, 1), &mut vec![entry(3, 1), entry(4, 1)], LogIndex(0)).unwrap();
    let size = entry(1, 1).size_bytes();
    for (low, bytes_max, want) in [
        (1, 0, 1),
        (1, 2 * size, 2),
        (1, 3 * size, 3),
        (1, 4 * size - 1, 3),
        (1, u64::MAX, 4),
        (3, 0, 1),
        (4, 9, 1),
    ] {
        let mut entries = Vec::new();
        log.entries_into(LogIndex(low), bytes_max, &mut entries).unwrap();
        assert_eq!(entries.len(), want, "from {low} with {bytes_max} bytes");
    }
}

#[test]
fn applying_pauses_at_its_limit_until_it_is_acknowledged() {
    let mut log = log_of(&[]);
    log.applying_bytes_max = entry(1, 1).size_bytes() + 1;
    log.maybe_append(id(0, 0), &mut (1..=3).map(|index| entry(index, 1)).collect(), LogIndex(3)).unwrap();
    for index in 1..=3 {
        let mut out = Vec::new();
        log.next_committed_into(true, &mut out);
        assert_eq!(out.iter().map(|entry| entry.index.0).collect::<Vec<_>>(), [index]);
        let mut none = Vec::new();
        log.next_committed_into(true, &mut none);
        assert!(none.is_empty());
        assert_eq!(log.applied_to(LogIndex(index)), 10);
    }
}

#[test]
fn memory_shrinks_after_a_burst() {
    let mut log = log_of(&[]);
    let burst = 100_000;
    log.maybe_append(id(0, 0), &mut (1..=burst).map(|index| entry(index, 1)).collect(), LogIndex(burst))
        .unwrap();
    assert!(log.unstable.capacity() >= 100_000);
    persist(&mut log);
    log.next_committed_into(false, &mut Vec::new());
    assert!(log.unstable.capacity() <= 512, "{}", log.unstable.capacity());
}

#[test]
fn durable_entries_that_wait_for_their_commit_are_kept_within_a_bound() {
    let mut log = log_of(&[]);
    let data = Bytes::from(vec![0; 1 << 16]);
    let entries = (1..=64).map(|index| Entry {
        term: Term(1),
        index: LogIndex(index),
        data: data.clone(),
        ..Entry::default()
    });
    log.maybe_append(id(0, 0), &mut entries.collect(), LogIndex(0)).unwrap();
    persist(&mut log);
    assert_eq!(log.unstable.first(), LogIndex(50), "15 entries of 64 KiB fit into 1 MiB with their overhead");
}

#[test]
fn the_search_for_a_conflict_skips_whole_terms() {
    let log = log_of(&[(1, 2), (2, 2), (3, 4), (4, 4), (5, 4)]);
    assert_eq!(log.find_conflict_by_term(LogIndex(5), Term(4)), id(5, 4));
    assert_eq!(log.find_conflict_by_term(LogIndex(5), Term(3)), id(2, 2));
    assert_eq!(log.find_conflict_by_term(LogIndex(5), Term(1)), id(0, 0));
    assert_eq!(log.find_conflict_by_term(LogIndex(9), Term(1)), id(9, 0));
}

#[test]
fn an_acknowledged_write_of_a_replaced_entry_does_not_count() {
    let mut log = log_of(&[]);
    log.maybe_append(id(0, 0), &mut vec![entry(1, 1), entry(2, 1)], LogIndex(0)).unwrap();
    log.accept_unstable();
    log.maybe_append(id(0, 0), &mut vec![entry(1, 2)], LogIndex(0)).unwrap();
    log.stable_to(id(1, 1));
    assert_eq!(log.unstable.offset(), LogIndex(1));
    log.stable_to(id(2, 1));
    assert_eq!(log.unstable.offset(), LogIndex(1));
    log.stable_to(id(1, 2));
    assert_eq!(log.unstable.offset(), LogIndex(2));
}
