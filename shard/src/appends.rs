//! A turn's records as appends of a size that the log takes.
//!
//! Nearly always all of a turn is one append. Many regions that catch up at once, or several calls of the largest size, can come to more than half
//! of a segment. What is parted may be cut short between two appends by a crash, as any write may that is not acknowledged; what must hold is
//! that no hard state says that more is committed than the log has by then.

use pinion_engine::log::Record;
use pinion_types::LogIndex;

/// The records of a turn, those of each peer together and its hard state first, in appends of `bytes_max` at most, unless one record is larger.
/// Everything but the last is full; there is one at least.
pub(crate) fn in_appends(records: Vec<Record<'_>>, bytes_max: usize) -> Vec<Vec<Record<'_>>> {
    if size(&records) <= bytes_max {
        return vec![records];
    }
    let mut appends = Appends { done: Vec::new(), current: Vec::new(), bytes: 0, bytes_max };
    let mut records = records.into_iter().peekable();
    while let Some(record) = records.next() {
        let following = records.peek().and_then(first_index);
        match (record, following) {
            // Its entries may end up in several appends: until the last of them is there only what was there before is committed.
            (Record::HardState { stream, term, vote, commit }, Some(first)) if commit >= first => {
                appends.push(Record::HardState { stream, term, vote, commit: first.previous() });
                while let Some(entry) = records.next_if(|next| first_index(next).is_some()) {
                    appends.push(entry);
                }
                appends.push(record);
            }
            _ => appends.push(record),
        }
    }
    appends.done.push(appends.current);
    appends.done
}

/// The position of an entry.
fn first_index(record: &Record<'_>) -> Option<LogIndex> {
    match record {
        Record::Entry { index, .. } => Some(*index),
        _ => None,
    }
}

fn size(records: &[Record<'_>]) -> usize {
    records.iter().map(Record::encoded_len).sum()
}

struct Appends<'a> {
    done: Vec<Vec<Record<'a>>>,
    current: Vec<Record<'a>>,
    bytes: usize,
    bytes_max: usize,
}

impl<'a> Appends<'a> {
    fn push(&mut self, record: Record<'a>) {
        let len = record.encoded_len();
        if self.bytes + len > self.bytes_max && !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
            self.bytes = 0;
        }
        self.bytes += len;
        self.current.push(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use pinion_types::{RegionId, Term};
    use std::collections::BTreeMap;

    fn state(stream: u64, commit: u64) -> Record<'static> {
        Record::HardState { stream: RegionId(stream), term: Term(3), vote: 1, commit: LogIndex(commit) }
    }

    fn entry(stream: u64, index: u64, payload: &Bytes) -> Record<'_> {
        Record::Entry { stream: RegionId(stream), index: LogIndex(index), term: Term(3), kind: 0, payload }
    }

    #[test]
    fn what_fits_is_one_append() {
        let payload = Bytes::from(vec![0; 100]);
        let records = vec![state(1, 9), entry(1, 9, &payload), state(2, 4)];
        let bytes = size(&records);
        assert_eq!(in_appends(records.clone(), bytes).len(), 1);
        assert!(in_appends(records, bytes - 1).len() > 1);
    }

    #[test]
    fn whatever_the_bound_no_append_is_over_it_and_none_ends_with_more_committed_than_there_is() {
        let payload = Bytes::from(vec![0; 100]);
        let mut records = Vec::new();
        for stream in 1..4 {
            records.push(state(stream, 14));
            records.extend((10..16).map(|index| entry(stream, index, &payload)));
        }
        for bytes_max in (200..size(&records)).step_by(50) {
            let appends = in_appends(records.clone(), bytes_max);
            assert!(appends.len() > 1);
            let (mut last, mut committed) = (BTreeMap::new(), BTreeMap::new());
            for append in &appends {
                assert!(size(append) <= bytes_max);
                for record in append {
                    match record {
                        Record::Entry { stream, index, .. } => {
                            let before = last.insert(*stream, *index).unwrap_or(LogIndex(9));
                            assert_eq!(before.next(), *index);
                        }
                        Record::HardState { stream, commit, .. } => drop(committed.insert(*stream, *commit)),
                        _ => unreachable!(),
                    }
                }
                for (stream, commit) in &committed {
                    assert!(last.get(stream).copied().unwrap_or(LogIndex(9)) >= *commit, "{bytes_max}");
                }
            }
            assert!(last.values().all(|index| *index == LogIndex(15)) && last.len() == 3);
            assert!(committed.values().all(|commit| *commit == LogIndex(14)) && committed.len() == 3);
        }
    }
}
