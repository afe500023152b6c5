//! Messages that wait to be sent: the urgent ones, and the large ones.
//!
//! Elections, leases and acknowledgements hang on small messages, which must not wait behind megabytes of entries. Which queue a
//! message is in depends on its kind alone, so that appends stay in their order, and so do acknowledgements.

use crate::convert::consensus::ENTRIES_MAX;
use crate::convert::link::{MESSAGES_MAX, region_message_words};
use crate::{LinkLimits, RegionMessage};
use pinion_raft::MessageKind;
use pinion_types::{PeerId, RegionId};
use std::collections::VecDeque;

/// Bytes of large messages that may join a batch of urgent ones: a call is only acted on when it has come whole.
const JOINING_BYTES_MAX: usize = 64 << 10;
/// Entries of a message at most; together with as many as fit in a batch the receiver takes them.
const MESSAGE_ENTRIES_MAX: usize = ENTRIES_MAX as usize / 2;

/// Whom a message is for.
pub(super) type Receiver = (RegionId, PeerId);

/// The messages.
#[derive(Default)]
pub(super) struct Queue {
    urgent: Lane,
    large: Lane,
}

/// One queue, with the bytes of each message and of all.
#[derive(Default)]
struct Lane {
    messages: VecDeque<(usize, RegionMessage)>,
    bytes: usize,
}

/// What goes as one call.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) messages: Vec<RegionMessage>,
    /// Bytes of the urgent messages and of the large ones.
    pub(super) urgent_bytes: usize,
    pub(super) large_bytes: usize,
}

impl Queue {
    /// Puts a message in, or gives its receiver back when there is no room for it.
    pub(super) fn push(&mut self, message: RegionMessage, limits: &LinkLimits) -> Result<(), Receiver> {
        let bytes = region_message_words(&message) * 8;
        let (lane, bytes_max) = if is_urgent(&message) {
            (&mut self.urgent, limits.urgent_bytes_max)
        } else {
            (&mut self.large, limits.queue_bytes_max)
        };
        let is_too_large =
            bytes > limits.message_bytes_max || message.message.entries.len() > MESSAGE_ENTRIES_MAX;
        let is_full = !lane.messages.is_empty() && lane.bytes + bytes > bytes_max;
        if is_too_large || is_full {
            return Err(receiver(&message));
        }
        lane.bytes += bytes;
        lane.messages.push_back((bytes, message));
        Ok(())
    }

    /// Takes what goes as one call, of the queues that may send. Empty when there is nothing.
    pub(super) fn take(&mut self, may_send_urgent: bool, may_send_large: bool, limits: &LinkLimits) -> Batch {
        let mut batch = Batch::default();
        let count_max = limits.batch_messages_max.min(MESSAGES_MAX as usize);
        if may_send_urgent {
            batch.urgent_bytes = self.urgent.take(&mut batch.messages, count_max, limits.batch_bytes_max);
        }
        if may_send_large {
            let bytes_max =
                if batch.messages.is_empty() { limits.batch_bytes_max } else { JOINING_BYTES_MAX };
            batch.large_bytes = self.large.take(&mut batch.messages, count_max, bytes_max);
        }
        batch
    }

    /// Empties the queue. Whom the messages were for.
    pub(super) fn clear(&mut self) -> Vec<Receiver> {
        let urgent = std::mem::take(&mut self.urgent);
        let large = std::mem::take(&mut self.large);
        urgent.messages.iter().chain(&large.messages).map(|(_, message)| receiver(message)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.urgent.messages.is_empty() && self.large.messages.is_empty()
    }

    /// Bytes of all messages.
    pub(super) fn bytes(&self) -> usize {
        self.urgent.bytes + self.large.bytes
    }
}

impl Lane {
    /// Moves messages to `batch` while they fit; the first of a batch always does. How many bytes they are.
    fn take(&mut self, batch: &mut Vec<RegionMessage>, count_max: usize, bytes_max: usize) -> usize {
        let mut taken = 0;
        while batch.len() < count_max {
            let fits = |bytes: usize| batch.is_empty() || taken + bytes <= bytes_max;
            let Some((bytes, message)) = self.messages.pop_front_if(|(bytes, _)| fits(*bytes)) else { break };
            taken += bytes;
            batch.push(message);
        }
        self.bytes -= taken;
        taken
    }
}

/// Whom a message is for.
pub(super) fn receiver(message: &RegionMessage) -> Receiver {
    (message.region, message.to.id)
}

fn is_urgent(message: &RegionMessage) -> bool {
    match message.message.kind {
        MessageKind::AppendResponse
        | MessageKind::Vote
        | MessageKind::VoteResponse
        | MessageKind::PreVote
        | MessageKind::PreVoteResponse
        | MessageKind::Heartbeat
        | MessageKind::HeartbeatResponse
        | MessageKind::TransferLeader
        | MessageKind::TimeoutNow
        | MessageKind::ReadIndex
        | MessageKind::ReadIndexResponse => true,
        MessageKind::Propose
        | MessageKind::Append
        | MessageKind::Snapshot
        | MessageKind::StorageAppend
        | MessageKind::StorageAppendResponse
        | MessageKind::StorageApply
        | MessageKind::StorageApplyResponse => message.gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_raft::{Entry, Message};
    use pinion_types::LogIndex;

    fn message(kind: MessageKind, index: u64, bytes: usize) -> RegionMessage {
        let entries = vec![Entry { data: vec![0; bytes].into(), ..Entry::default() }];
        let message = Message { kind, index: LogIndex(index), entries, ..Message::default() };
        RegionMessage { message, ..RegionMessage::default() }
    }

    fn indexes(batch: &Batch) -> Vec<u64> {
        batch.messages.iter().map(|message| message.message.index.0).collect()
    }

    #[test]
    fn urgent_messages_go_first_and_large_ones_do_not_hold_them_up() {
        let mut queue = Queue::default();
        let limits = LinkLimits::default();
        queue.push(message(MessageKind::Append, 1, 1000), &limits).unwrap();
        queue.push(message(MessageKind::Append, 2, 100_000), &limits).unwrap();
        queue.push(message(MessageKind::Heartbeat, 3, 0), &limits).unwrap();
        queue.push(message(MessageKind::Append, 4, 0), &limits).unwrap();
        queue.push(message(MessageKind::AppendResponse, 5, 0), &limits).unwrap();
        assert_eq!(indexes(&queue.take(true, true, &limits)), [3, 5, 1]);
        assert_eq!(indexes(&queue.take(true, true, &limits)), [2, 4]);
        assert!(queue.is_empty() && queue.bytes() == 0);
    }

    #[test]
    fn a_closed_window_holds_back_its_own_queue_alone() {
        let mut queue = Queue::default();
        let limits = LinkLimits::default();
        queue.push(message(MessageKind::Append, 1, 0), &limits).unwrap();
        queue.push(message(MessageKind::Heartbeat, 2, 0), &limits).unwrap();
        assert_eq!(indexes(&queue.take(true, false, &limits)), [2]);
        assert_eq!(indexes(&queue.take(true, false, &limits)), []);
        assert_eq!(indexes(&queue.take(false, true, &limits)), [1]);
    }

    #[test]
    fn batches_keep_to_their_bounds_and_one_message_always_fits() {
        let mut queue = Queue::default();
        let limits = LinkLimits { batch_bytes_max: 5000, batch_messages_max: 3, ..LinkLimits::default() };
        queue.push(message(MessageKind::Append, 1, 9000), &limits).unwrap();
        for index in 2..=5 {
            queue.push(message(MessageKind::Append, index, 100), &limits).unwrap();
        }
        queue.push(message(MessageKind::Append, 6, 4900), &limits).unwrap();
        let batches = std::iter::from_fn(|| Some(queue.take(true, true, &limits)));
        let batches: Vec<_> = batches.take(4).map(|batch| indexes(&batch)).collect();
        assert_eq!(batches, [vec![1], vec![2, 3, 4], vec![5], vec![6]]);
    }

    #[test]
    fn what_there_is_no_room_for_comes_back() {
        let mut queue = Queue::default();
        let limits = LinkLimits {
            queue_bytes_max: 10_000,
            urgent_bytes_max: 1000,
            message_bytes_max: 100_000,
            ..LinkLimits::default()
        };
        let fits = |queue: &mut Queue, kind, bytes| queue.push(message(kind, 0, bytes), &limits).is_ok();
        assert!(!fits(&mut queue, MessageKind::Append, 200_000), "over the bound of a message");
        assert!(fits(&mut queue, MessageKind::Append, 50_000), "the first always fits");
        assert!(!fits(&mut queue, MessageKind::Append, 0));
        assert!(fits(&mut queue, MessageKind::Heartbeat, 0), "urgent ones have room of their own");
        let more = (0..100).filter(|_| fits(&mut queue, MessageKind::Heartbeat, 0)).count();
        assert!(more < 4, "{more} more");
        let mut many = message(MessageKind::Append, 0, 0);
        many.message.entries = vec![Entry::default(); MESSAGE_ENTRIES_MAX + 1];
        let limits = LinkLimits::default();
        assert!(Queue::default().push(many, &limits).is_err(), "over the bound of entries");
        assert_eq!(queue.clear().len(), 2 + more);
        assert_eq!(queue.bytes(), 0);
    }
}
