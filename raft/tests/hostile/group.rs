//! Nothing that arrives from the network panics a node, or makes it take back what it has committed.
//!
//! A group works over a network that also delivers what nobody sent: real messages with a field changed, and messages of
//! random fields. Every run is one of a fixed sequence.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as the test does")]

use bytes::Bytes;
use pinion_raft::{
    ConfChange, ConfChangeKind, ConfState, Config, Entry, EntryKind, INDEX_MAX, MemoryStorage, Message,
    MessageKind, RawNode, Snapshot, SnapshotMetadata,
};
use pinion_types::{LogIndex, PeerId, Term};

const KINDS: [MessageKind; 18] = [
    MessageKind::Propose,
    MessageKind::Append,
    MessageKind::AppendResponse,
    MessageKind::Vote,
    MessageKind::VoteResponse,
    MessageKind::PreVote,
    MessageKind::PreVoteResponse,
    MessageKind::Snapshot,
    MessageKind::Heartbeat,
    MessageKind::HeartbeatResponse,
    MessageKind::TransferLeader,
    MessageKind::TimeoutNow,
    MessageKind::ReadIndex,
    MessageKind::ReadIndexResponse,
    MessageKind::StorageAppend,
    MessageKind::StorageAppendResponse,
    MessageKind::StorageApply,
    MessageKind::StorageApplyResponse,
];

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// Mostly small, sometimes at the limits.
    fn number(&mut self) -> u64 {
        match self.roll(20) {
            0 => u64::MAX,
            1 => INDEX_MAX,
            2 => INDEX_MAX + 1,
            3 => u64::MAX - 1,
            _ => self.roll(30),
        }
    }

    fn entries(&mut self, index: u64, term: u64) -> Vec<Entry> {
        let count = self.roll(4);
        (1..=count)
            .map(|offset| {
                let (skew, later) = (u64::from(self.roll(10) == 0), self.roll(2));
                let kind = [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2]
                    [usize::try_from(self.roll(3)).unwrap()];
                Entry {
                    index: LogIndex(index.wrapping_add(offset + skew)),
                    term: Term(term.wrapping_add(later)),
                    kind,
                    data: Bytes::copy_from_slice(
                        &self.number().to_le_bytes()[..usize::try_from(self.roll(9)).unwrap()],
                    ),
                }
            })
            .collect()
    }

    fn snapshot(&mut self) -> Option<Box<Snapshot>> {
        let mut peers = || (0..self.roll(4)).map(|_| PeerId(self.roll(6))).collect();
        let conf_state = ConfState {
            voters: peers(),
            learners: peers(),
            voters_outgoing: peers(),
            learners_next: peers(),
            auto_leave: self.roll(2) == 0,
        };
        let metadata =
            SnapshotMetadata { conf_state, index: LogIndex(self.number()), term: Term(self.number()) };
        (self.roll(4) > 0).then(|| Box::new(Snapshot { metadata, data: Bytes::new() }))
    }

    /// A message of random fields.
    fn message(&mut self, to: u64) -> Message {
        let (index, log_term) = (self.number(), self.number());
        Message {
            kind: KINDS[usize::try_from(self.roll(18)).unwrap()],
            reject: self.roll(3) == 0,
            to: PeerId(if self.roll(20) == 0 { self.number() } else { to }),
            from: PeerId(if self.roll(10) == 0 { self.number() } else { self.roll(5) }),
            term: Term(self.number()),
            log_term: Term(log_term),
            index: LogIndex(index),
            commit: LogIndex(self.number()),
            vote: PeerId(self.roll(5)),
            reject_hint: LogIndex(self.number()),
            priority: 0,
            lease: if self.roll(3) == 0 { self.number() } else { 0 },
            entries: self.entries(index, log_term),
            snapshot: self.snapshot(),
            context: Bytes::copy_from_slice(
                &self.number().to_le_bytes()[..usize::try_from(self.roll(9)).unwrap()],
            ),
            responses: Vec::new(),
        }
    }

    /// A real message with one field changed. Terms stay as they are, so that the message is looked at.
    fn spoil(&mut self, mut message: Message) -> Message {
        match self.roll(7) {
            0 => message.index = LogIndex(self.number()),
            1 => message.log_term = Term(self.number()),
            2 => message.reject = !message.reject,
            3 => message.reject_hint = LogIndex(self.number()),
            4 => message.from = PeerId(self.roll(6)),
            5 => message.entries = self.entries(message.index.0, message.log_term.0),
            _ => message.snapshot = self.snapshot(),
        }
        message
    }
}

struct Member {
    node: RawNode<MemoryStorage>,
    storage: MemoryStorage,
    commit: LogIndex,
}

fn start(id: u64) -> Member {
    let storage = MemoryStorage::with_voters([1, 2, 3]);
    let mut dice = Dice(id);
    let config = Config {
        check_quorum: id == 1,
        pre_vote: id == 2,
        max_inflight_messages: 4,
        max_size_per_message: 64,
        timeout_source: Box::new(move |range| {
            range.start + usize::try_from(dice.roll(u64::try_from(range.len()).unwrap())).unwrap()
        }),
        ..Config::new(PeerId(id))
    };
    let node = RawNode::new(config, storage.clone()).unwrap();
    Member { node, storage, commit: LogIndex(0) }
}

impl Member {
    fn handle(&mut self, bag: &mut Vec<Message>) {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            if let Some(snapshot) = ready.snapshot.take() {
                self.storage.apply_snapshot(snapshot).unwrap();
            }
            self.storage.append(&ready.entries).unwrap();
            bag.append(&mut ready.messages);
            bag.append(&mut ready.messages_after_persist);
            for entry in &ready.committed_entries {
                if let Ok(change) = ConfChange::decode(entry.kind, &entry.data) {
                    // Changes that do not fit are refused, and nothing has changed then.
                    let _ = self.node.apply_conf_change(&change);
                }
            }
            self.node.advance(ready);
        }
        let commit = self.node.hard_state().commit;
        assert!(commit >= self.commit, "the commit index goes back from {} to {commit}", self.commit);
        self.commit = commit;
        assert!(self.node.applied() <= commit);
        assert_eq!(self.node.storage_error(), None);
    }
}

/// Lies can end a group's work: each run begins anew, and is long enough to get somewhere.
fn run(seed: u64) -> u64 {
    let mut dice = Dice(seed);
    let mut members: Vec<Member> = (1..=3).map(start).collect();
    let mut bag: Vec<Message> = Vec::new();
    for _ in 0..400 {
        let id = dice.roll(3) + 1;
        let place = usize::try_from(id - 1).unwrap();
        let node = &mut members[place].node;
        // What is refused is what this is about.
        let _ = match dice.roll(12) {
            0 => node.propose(Bytes::from_static(b"command")),
            1 => {
                let kind = [ConfChangeKind::AddVoter, ConfChangeKind::AddLearner, ConfChangeKind::Remove];
                let kind = kind[usize::try_from(dice.roll(3)).unwrap()];
                node.propose_conf_change(&ConfChange::simple(kind, PeerId(dice.roll(6))))
            }
            2 => node.step(dice.message(id)),
            3 => {
                node.transfer_leader(PeerId(dice.roll(5)));
                node.read_index(Bytes::from_static(b"read"))
            }
            4 | 5 => {
                node.tick();
                Ok(())
            }
            _ if bag.is_empty() => {
                node.tick();
                Ok(())
            }
            _ => {
                let position = usize::try_from(dice.roll(u64::try_from(bag.len()).unwrap())).unwrap();
                let mut message = bag.swap_remove(position);
                if dice.roll(10) == 0 {
                    message = dice.spoil(message);
                }
                let to = message.to.0;
                if (1..=3).contains(&to) {
                    let member = &mut members[usize::try_from(to - 1).unwrap()];
                    let _ = member.node.step(message);
                    member.handle(&mut bag);
                }
                Ok(())
            }
        };
        members[place].handle(&mut bag);
    }
    members.iter().map(|member| member.commit.0.min(1000)).max().unwrap_or(0)
}

#[test]
fn no_message_panics_a_node_or_takes_back_a_commit() {
    let furthest = (0..3000).map(run).filter(|commit| *commit > 5).count();
    assert!(furthest > 100, "the group gets nowhere, so that nothing is tested: {furthest}");
}
