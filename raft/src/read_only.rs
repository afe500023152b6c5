//! Reads by index that wait for a quorum to confirm the leader: Ongaro's thesis §6.4.
//!
//! Each broadcast of heartbeats for reads has a round, a number that counts up within the leader's term and comes back
//! with the answers. Who answers round n confirms all reads of rounds up to n.

use std::collections::VecDeque;

use bytes::Bytes;
use pinion_types::{LogIndex, PeerId};

use crate::quorum::{JointConfig, VoteResult};

/// Reads that wait for a quorum, or for the leader's first commit. Further ones are refused.
pub(crate) const READS_PENDING_MAX: usize = 4096;

/// A read, as it was asked for.
#[derive(Debug)]
pub(crate) struct ReadRequest {
    /// Who waits for the answer; the node itself for a local read.
    pub(crate) from: PeerId,
    pub(crate) context: Bytes,
}

#[derive(Debug)]
struct PendingRead {
    round: u64,
    /// The commit index when it was asked for.
    index: LogIndex,
    request: ReadRequest,
}

#[derive(Debug, Default)]
pub(crate) struct ReadOnly {
    last_round: u64,
    pending: VecDeque<PendingRead>,
    /// The latest round that each peer has answered.
    acknowledged: Vec<(PeerId, u64)>,
}

impl ReadOnly {
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= READS_PENDING_MAX
    }

    /// Queues a read in a new round, which this node answers itself, and gives the round's context.
    pub(crate) fn add(&mut self, own_id: PeerId, index: LogIndex, request: ReadRequest) -> Bytes {
        self.last_round += 1;
        self.pending.push_back(PendingRead { round: self.last_round, index, request });
        self.acknowledge(own_id, self.last_round);
        Self::to_context(self.last_round)
    }

    /// The context of the latest round that still waits.
    pub(crate) fn last_context(&self) -> Bytes {
        self.pending.back().map_or_else(Bytes::new, |read| Self::to_context(read.round))
    }

    fn to_context(round: u64) -> Bytes {
        Bytes::copy_from_slice(&round.to_le_bytes())
    }

    fn acknowledge(&mut self, id: PeerId, round: u64) {
        match self.acknowledged.iter_mut().find(|(peer, _)| *peer == id) {
            Some((_, latest)) => *latest = round.max(*latest),
            None => self.acknowledged.push((id, round)),
        }
    }

    /// Takes an answer. A context that is none of ours is ignored.
    pub(crate) fn receive(&mut self, id: PeerId, context: &Bytes) {
        if let Ok(round) = <[u8; 8]>::try_from(&context[..]).map(u64::from_le_bytes)
            && round <= self.last_round
        {
            self.acknowledge(id, round);
        }
    }

    /// The next read that a quorum has confirmed.
    pub(crate) fn pop_confirmed(&mut self, voters: &JointConfig) -> Option<(LogIndex, ReadRequest)> {
        let round = self.pending.front()?.round;
        let confirmed =
            |id| self.acknowledged.iter().find(|(peer, _)| *peer == id).map(|(_, latest)| *latest >= round);
        if voters.vote_result(|id| confirmed(id).filter(|yes| *yes)) != VoteResult::Won {
            return None;
        }
        self.pending.pop_front().map(|read| (read.index, read.request))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_confirms_its_own_and_all_earlier_rounds() {
        let voters =
            JointConfig { incoming: [1, 2, 3].into_iter().map(PeerId).collect(), ..JointConfig::default() };
        let mut reads = ReadOnly::default();
        let mut contexts = Vec::new();
        for index in 5..8 {
            let request = ReadRequest { from: PeerId(1), context: Bytes::new() };
            contexts.push(reads.add(PeerId(1), LogIndex(index), request));
        }
        assert!(reads.pop_confirmed(&voters).is_none());
        reads.receive(PeerId(2), &Bytes::from_static(b"not a round"));
        reads.receive(PeerId(2), &Bytes::from_static(&[99, 0, 0, 0, 0, 0, 0, 0]));
        assert!(reads.pop_confirmed(&voters).is_none());
        reads.receive(PeerId(2), &contexts[1]);
        assert_eq!(reads.pop_confirmed(&voters).unwrap().0, LogIndex(5));
        assert_eq!(reads.pop_confirmed(&voters).unwrap().0, LogIndex(6));
        assert!(reads.pop_confirmed(&voters).is_none());
        assert_eq!(reads.len(), 1);
    }
}
