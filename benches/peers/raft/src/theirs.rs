//! The `raft` crate in the driver.

use raft::eraftpb::{Entry, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole, Storage};

use crate::PROPOSAL_BYTES;

struct Node {
    raw: RawNode<MemStorage>,
    applied: u64,
}

/// Three nodes.
///
/// With `BATCH_APPEND`, entries that were proposed one by one travel in one message, as ours do; the crate's default is without.
pub(crate) struct Group<const BATCH_APPEND: bool> {
    nodes: Vec<Node>,
}

/// As ours is set up by default.
fn config(id: u64, batch_append: bool) -> Config {
    Config {
        id,
        election_tick: 10,
        heartbeat_tick: 1,
        max_size_per_msg: 1 << 20,
        max_committed_size_per_ready: 4 << 20,
        max_uncommitted_size: 64 << 20,
        max_inflight_msgs: 256,
        check_quorum: true,
        pre_vote: true,
        batch_append,
        ..Config::default()
    }
}

impl<const BATCH_APPEND: bool> crate::Group for Group<BATCH_APPEND> {
    const NAME: &str = if BATCH_APPEND { "raft, batch_append" } else { "raft" };

    fn start() -> Self {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let nodes = (1..=3)
            .map(|id| {
                let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
                let raw = RawNode::new(&config(id, BATCH_APPEND), storage, &logger)
                    .expect("the set-up makes sense");
                Node { raw, applied: 0 }
            })
            .collect();
        let mut group = Self { nodes };
        group.nodes[0].raw.campaign().expect("it may campaign");
        group.settle();
        assert_eq!(group.nodes[0].raw.raft.state, StateRole::Leader);
        group
    }

    fn commit(&mut self, count: u64, at_once: bool) {
        let target = self.nodes[0].applied + count;
        let leader = &mut self.nodes[0].raw;
        let data = || vec![b'x'; PROPOSAL_BYTES];
        if at_once {
            let entries = (0..count).map(|_| Entry { data: data().into(), ..Entry::default() }).collect();
            let mut message = Message { from: leader.raft.id, entries, ..Message::default() };
            message.set_msg_type(MessageType::MsgPropose);
            leader.raft.step(message).expect("a leader takes proposals");
        } else {
            for _ in 0..count {
                leader.propose(Vec::new(), data()).expect("a leader takes proposals");
            }
        }
        self.settle();
        assert!(self.nodes.iter().all(|node| node.applied == target), "not everything was applied");
    }

    fn applied(&self) -> u64 {
        self.nodes.iter().map(|node| node.applied).min().unwrap_or(0)
    }

    fn compact(&mut self) {
        for node in &mut self.nodes {
            let last = node.raw.store().last_index().expect("it is in memory");
            node.raw.store().wl().compact(last).expect("it is in the log");
        }
    }
}

impl<const BATCH_APPEND: bool> Group<BATCH_APPEND> {
    /// Plays until nobody has anything to do.
    fn settle(&mut self) {
        let mut busy = true;
        while busy {
            busy = false;
            for place in 0..self.nodes.len() {
                while self.nodes[place].raw.has_ready() {
                    busy = true;
                    self.turn(place);
                }
            }
        }
    }

    /// Does what a node asks for.
    fn turn(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        let mut ready = node.raw.ready();
        {
            let mut storage = node.raw.store().wl();
            storage.append(ready.entries()).expect("entries leave no gap");
            if let Some(state) = ready.hs() {
                storage.set_hardstate(state.clone());
            }
        }
        node.apply(&ready.take_committed_entries());
        self.deliver(ready.take_messages());
        self.deliver(ready.take_persisted_messages());
        let node = &mut self.nodes[place];
        let mut light = node.raw.advance(ready);
        if let Some(commit) = light.commit_index() {
            node.raw.store().wl().mut_hard_state().set_commit(commit);
        }
        node.apply(&light.take_committed_entries());
        node.raw.advance_apply();
        self.deliver(light.take_messages());
    }

    fn deliver(&mut self, messages: Vec<Message>) {
        for message in messages {
            let to = usize::from(u8::try_from(message.to).expect("there are three"));
            self.nodes[to - 1].raw.step(message).expect("the messages are real");
        }
    }
}

impl Node {
    fn apply(&mut self, entries: &[Entry]) {
        let proposals = entries.iter().filter(|entry| entry.data.len() == PROPOSAL_BYTES).count();
        self.applied += proposals as u64;
    }
}
