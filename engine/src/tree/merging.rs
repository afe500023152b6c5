//! Merging sorted sources into one order, forward or backward.
//!
//! A loser tree (Knuth, "The Art of Computer Programming", volume 3, §5.4.1): each inner node keeps who lost there, so that after a step of
//! the winner one comparison a level finds the next. Most comparisons are of eight key bytes, kept as numbers beside each
//! other, which begin where the sources' keys begin to differ; only ties look at keys.
//!
//! Cost: with n sources log2(n) comparisons an entry. Nothing is allocated after the sources.

use super::source::{Direction, Source};
use crate::Error;
use crate::memtable::prefix_at;
use crate::table::EntryRef;
use std::cmp::Ordering;

/// Sources in one order: key ascending, then sequence descending; backward the reverse of that.
pub(crate) struct Merging {
    sources: Vec<Source>,
    /// Eight key bytes of each source's entry; for backward their complement; all ones for a source that is at its end.
    prefixes: Vec<u64>,
    /// The loser at each inner node; at 0 the winner.
    losers: Vec<usize>,
    /// All keys of the sources share so many bytes.
    skip: usize,
    direction: Direction,
}

impl Merging {
    /// Merges `sources`, whose keys lie in `[smallest, largest]`. It stands nowhere yet.
    pub(crate) fn new(sources: Vec<Source>, smallest: &[u8], largest: &[u8]) -> Self {
        let skip = smallest.iter().zip(largest).take_while(|(a, b)| a == b).count();
        let count = sources.len();
        Self {
            sources,
            prefixes: vec![u64::MAX; count],
            losers: vec![0; count],
            skip,
            direction: Direction::Forward,
        }
    }

    /// The entry that is next in order; `None` at the end.
    #[inline]
    pub(crate) fn entry(&self) -> Option<EntryRef<'_>> {
        let winner = self.losers.first()?;
        let source = &self.sources[*winner];
        source.is_valid().then(|| source.entry())
    }

    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    /// Steps over the current entry; `false` when something must be read: [`step`](Self::step) then goes on.
    #[inline]
    pub(crate) fn try_step(&mut self) -> bool {
        let winner = self.losers[0];
        let stepped = self.sources[winner].try_step(self.direction);
        if stepped {
            self.replay(winner);
        }
        stepped
    }

    /// Steps over the current entry.
    pub(crate) async fn step(&mut self) -> Result<(), Error> {
        let winner = self.losers[0];
        self.sources[winner].step(self.direction).await?;
        self.replay(winner);
        Ok(())
    }

    /// Goes forward from the first entry that does not come before (`key`, `sequence`).
    pub(crate) async fn seek(&mut self, key: &[u8], sequence: u64) -> Result<(), Error> {
        self.direction = Direction::Forward;
        for source in &mut self.sources {
            source.seek(key, sequence).await?;
        }
        self.rebuild();
        Ok(())
    }

    /// Goes backward from the last entry of a key before `key`.
    pub(crate) async fn seek_before(&mut self, key: &[u8]) -> Result<(), Error> {
        self.direction = Direction::Backward;
        for source in &mut self.sources {
            source.seek_before(key).await?;
        }
        self.rebuild();
        Ok(())
    }

    /// Of sources that have nothing newer than `sequence`, steps over all entries up to the end of a deleted range: forward to the first
    /// that is not before `border`, backward to the last that is before it.
    pub(crate) async fn skip_deleted(&mut self, border: &[u8], sequence: u64) -> Result<(), Error> {
        for source in self.sources.iter_mut().filter(|source| source.largest_sequence() <= sequence) {
            if !source.is_valid() {
                continue;
            }
            match self.direction {
                Direction::Forward if source.entry().key < border => source.seek(border, u64::MAX).await?,
                Direction::Backward if source.entry().key >= border => source.seek_before(border).await?,
                _ => {}
            }
        }
        self.rebuild();
        Ok(())
    }

    fn prefix(&self, source: usize) -> u64 {
        let source = &self.sources[source];
        if !source.is_valid() {
            return u64::MAX;
        }
        let prefix = prefix_at(source.entry().key, self.skip);
        match self.direction {
            Direction::Forward => prefix,
            Direction::Backward => !prefix,
        }
    }

    /// Plays all matches.
    fn rebuild(&mut self) {
        let count = self.sources.len();
        for source in 0..count {
            self.prefixes[source] = self.prefix(source);
        }
        if count == 0 {
            return;
        }
        // Winners of inner nodes from the bottom up; the leaves are nodes count..2 * count.
        let mut winners = vec![0; 2 * count];
        for (source, winner) in winners[count..].iter_mut().enumerate() {
            *winner = source;
        }
        for node in (1..count).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            let (winner, loser) = if self.is_before(right, left) { (right, left) } else { (left, right) };
            winners[node] = winner;
            self.losers[node] = loser;
        }
        self.losers[0] = winners[1.min(2 * count - 1)];
    }

    /// Plays the matches of the source that has stepped.
    #[inline]
    fn replay(&mut self, stepped: usize) {
        self.prefixes[stepped] = self.prefix(stepped);
        let mut winner = stepped;
        let mut node = stepped.midpoint(self.sources.len());
        while node > 0 {
            let other = self.losers[node];
            if self.is_before(other, winner) {
                self.losers[node] = winner;
                winner = other;
            }
            node /= 2;
        }
        self.losers[0] = winner;
    }

    #[inline]
    fn is_before(&self, left: usize, right: usize) -> bool {
        match self.prefixes[left].cmp(&self.prefixes[right]) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => self.is_before_tied(left, right),
        }
    }

    fn is_before_tied(&self, left: usize, right: usize) -> bool {
        let (left, right) = (&self.sources[left], &self.sources[right]);
        match (left.is_valid(), right.is_valid()) {
            (false, _) => false,
            (true, false) => true,
            (true, true) => {
                let (left, right) = (left.entry(), right.entry());
                let order = left.key.cmp(right.key).then(right.sequence.cmp(&left.sequence));
                match self.direction {
                    Direction::Forward => order == Ordering::Less,
                    Direction::Backward => order == Ordering::Greater,
                }
            }
        }
    }
}
