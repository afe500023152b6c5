//! One set of voters, more than half of whom decide.

use std::fmt;

use pinion_types::{LogIndex, PeerId};

use super::{EVERYTHING, VoteResult};

/// Configurations of up to this many voters are decided without an allocation.
pub const STACK_VOTERS_MAX: usize = 16;

/// A set of voters, kept sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MajorityConfig {
    ids: Vec<PeerId>,
}

impl FromIterator<PeerId> for MajorityConfig {
    fn from_iter<T: IntoIterator<Item = PeerId>>(ids: T) -> Self {
        let mut ids: Vec<PeerId> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Self { ids }
    }
}

impl MajorityConfig {
    /// The ids, ascending.
    pub fn ids(&self) -> &[PeerId] {
        &self.ids
    }

    /// Whether there is nobody in it.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether this peer is in it.
    pub fn contains(&self, id: PeerId) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// Adds a peer.
    pub fn insert(&mut self, id: PeerId) {
        if let Err(place) = self.ids.binary_search(&id) {
            self.ids.insert(place, id);
        }
    }

    /// Removes a peer.
    pub fn remove(&mut self, id: PeerId) {
        if let Ok(place) = self.ids.binary_search(&id) {
            self.ids.remove(place);
        }
    }

    /// The greatest index that more than half of the voters have acknowledged, each at least up to it.
    /// Who has acknowledged nothing counts as 0; an empty set agrees with [`EVERYTHING`].
    pub fn committed_index(&self, acked: impl Fn(PeerId) -> Option<LogIndex>) -> LogIndex {
        LogIndex(self.reached(|id| acked(id).map_or(0, |index| index.0)))
    }

    /// The greatest number that more than half of the voters have reached; an empty set has reached all of them.
    pub(super) fn reached(&self, by: impl Fn(PeerId) -> u64) -> u64 {
        let mut stack = [0; STACK_VOTERS_MAX];
        let mut heap = Vec::new();
        let numbers = if self.ids.len() <= STACK_VOTERS_MAX {
            &mut stack[..self.ids.len()]
        } else {
            heap.resize(self.ids.len(), 0);
            &mut heap[..]
        };
        for (number, id) in numbers.iter_mut().zip(&self.ids) {
            *number = by(*id);
        }
        numbers.sort_unstable();
        // Of n sorted ascending, those from (n - 1) / 2 on are more than half.
        match numbers.len() {
            0 => EVERYTHING.0,
            count => numbers[(count - 1) / 2],
        }
    }

    /// How the vote stands; an empty set votes yes.
    pub fn vote_result(&self, vote: impl Fn(PeerId) -> Option<bool>) -> VoteResult {
        let quorum = self.ids.len() / 2 + 1;
        let (mut granted, mut missing) = (0, 0);
        for id in &self.ids {
            match vote(*id) {
                Some(true) => granted += 1,
                Some(false) => {}
                None => missing += 1,
            }
        }
        if self.ids.is_empty() || granted >= quorum {
            VoteResult::Won
        } else if granted + missing >= quorum {
            VoteResult::Pending
        } else {
            VoteResult::Lost
        }
    }

    /// A table of who has acknowledged what, in which longer bars stand for greater indexes.
    pub fn describe(&self, acked: impl Fn(PeerId) -> Option<LogIndex>) -> String {
        use fmt::Write as _;

        if self.is_empty() {
            return "<empty majority quorum>".to_owned();
        }
        let width = self.len();
        let mut order: Vec<(LogIndex, PeerId)> =
            self.ids.iter().map(|id| (acked(*id).unwrap_or_default(), *id)).collect();
        order.sort_unstable();
        let mut table = format!("{:width$}    idx\n", "");
        for id in &self.ids {
            let index = acked(*id);
            let bar = match index {
                None => "?".to_owned(),
                Some(index) => {
                    format!("{}>", "x".repeat(order.partition_point(|(other, _)| *other < index)))
                }
            };
            // Writing to a string can't fail.
            let _ = writeln!(
                table,
                "{bar:<pad$} {:>5}    (id={id})",
                index.unwrap_or_default().0,
                pad = width + 1
            );
        }
        table
    }
}

impl fmt::Display for MajorityConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (position, id) in self.ids.iter().enumerate() {
            write!(f, "{}{id}", if position == 0 { "" } else { " " })?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(ids: &[u64]) -> MajorityConfig {
        ids.iter().copied().map(PeerId).collect()
    }

    /// The definition, spelled out: the greatest index that a majority has reached.
    fn committed_by_definition(indexes: &[u64]) -> u64 {
        let reached = |index| indexes.iter().filter(|other| **other >= index).count();
        let quorum = indexes.len() / 2 + 1;
        indexes.iter().copied().filter(|index| reached(*index) >= quorum).max().unwrap_or(0)
    }

    #[test]
    fn committed_index_follows_its_definition_for_up_to_twenty_voters() {
        let mut state = 7_u64;
        for count in 1..=20 {
            for _ in 0..50 {
                let indexes: Vec<u64> = (0..count)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (state >> 33) % 12
                    })
                    .collect();
                let ids: Vec<u64> = (1..=count).collect();
                let at = |id: PeerId| Some(LogIndex(indexes[usize::try_from(id.0 - 1).unwrap()]));
                assert_eq!(
                    config(&ids).committed_index(at).0,
                    committed_by_definition(&indexes),
                    "{indexes:?}"
                );
            }
        }
    }

    #[test]
    fn an_empty_set_agrees_with_everything() {
        assert_eq!(config(&[]).committed_index(|_| None), EVERYTHING);
        assert_eq!(config(&[]).vote_result(|_| None), VoteResult::Won);
    }
}
