//! Pinion's core in the driver.

use bytes::Bytes;
use pinion_raft::{Config, Entry, MemoryStorage, Message, RawNode, Role, Storage};
use pinion_types::PeerId;

use crate::PROPOSAL_BYTES;

struct Node {
    raw: RawNode<MemoryStorage>,
    storage: MemoryStorage,
    applied: u64,
}

/// Three nodes.
pub(crate) struct Group {
    nodes: Vec<Node>,
}

impl crate::Group for Group {
    const NAME: &str = "pinion";

    fn start() -> Self {
        let nodes = (1..=3)
            .map(|id| {
                let storage = MemoryStorage::with_voters([1, 2, 3]);
                let raw =
                    RawNode::new(Config::new(PeerId(id)), storage.clone()).expect("the set-up makes sense");
                Node { raw, storage, applied: 0 }
            })
            .collect();
        let mut group = Self { nodes };
        group.nodes[0].raw.campaign();
        group.settle();
        assert_eq!(group.nodes[0].raw.soft_state().role, Role::Leader);
        group
    }

    fn commit(&mut self, count: u64, at_once: bool) {
        let target = self.nodes[0].applied + count;
        let leader = &mut self.nodes[0].raw;
        let data = || Bytes::from(vec![b'x'; PROPOSAL_BYTES]);
        if at_once {
            let entries = (0..count).map(|_| Entry { data: data(), ..Entry::default() }).collect();
            leader.propose_entries(entries).expect("a leader takes proposals");
        } else {
            for _ in 0..count {
                leader.propose(data()).expect("a leader takes proposals");
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
            let last = node.storage.last_index();
            node.storage.compact(last).expect("it is in the log");
        }
    }
}

impl Group {
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
        if let Some(state) = ready.hard_state {
            node.storage.set_hard_state(state);
        }
        node.storage.append_from(&mut ready.entries).expect("entries leave no gap");
        node.apply(&ready.committed_entries);
        self.deliver(&mut ready.messages);
        self.deliver(&mut ready.messages_after_persist);
        self.nodes[place].raw.advance(ready);
    }

    fn deliver(&mut self, messages: &mut Vec<Message>) {
        for message in messages.drain(..) {
            let to = usize::from(u8::try_from(message.to.0).expect("there are three"));
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
