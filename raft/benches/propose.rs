//! What a proposal costs in the core alone, with storage in memory.
//!
//! One voter: propose, persist, advance, apply. Three: a leader and two followers, driven in turn on one thread, counted
//! until all three have applied.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pinion_raft::{Config, Entry, MemoryStorage, Message, RawNode, Role};
use pinion_types::{LogIndex, PeerId};

/// Entries that a storage keeps before it is compacted.
const KEPT: u64 = 4096;

struct Member {
    node: RawNode<MemoryStorage>,
    storage: MemoryStorage,
    applied: u64,
    compacted: u64,
}

impl Member {
    fn new(id: u64, voters: &[u64]) -> Self {
        let storage = MemoryStorage::with_voters(voters.iter().copied());
        let config = Config { check_quorum: false, pre_vote: false, ..Config::new(PeerId(id)) };
        let node = RawNode::new(config, storage.clone()).expect("a valid configuration");
        Self { node, storage, applied: 0, compacted: 0 }
    }

    /// Handles one `Ready`; its messages go to `bag`.
    fn handle(&mut self, bag: &mut Vec<Message>) {
        let mut ready = self.node.ready();
        bag.append(&mut ready.messages);
        self.storage.append(&ready.entries).expect("entries follow each other");
        bag.append(&mut ready.messages_after_persist);
        self.applied += ready.committed_entries.len() as u64;
        black_box(&ready.committed_entries);
        self.node.advance(ready);
        let applied = self.node.applied().0;
        if applied - self.compacted > 2 * KEPT {
            self.compacted = applied - KEPT;
            self.storage.compact(LogIndex(self.compacted)).expect("applied entries");
        }
    }
}

struct Group {
    members: Vec<Member>,
    bag: Vec<Message>,
    spare: Vec<Message>,
}

impl Group {
    fn elected(size: u64) -> Self {
        let ids: Vec<u64> = (1..=size).collect();
        let members = ids.iter().map(|id| Member::new(*id, &ids)).collect();
        let mut group = Self { members, bag: Vec::new(), spare: Vec::new() };
        group.members[0].node.campaign();
        group.settle();
        assert_eq!(group.members[0].node.soft_state().role, Role::Leader);
        group
    }

    fn settle(&mut self) {
        loop {
            for member in &mut self.members {
                while member.node.has_ready() {
                    member.handle(&mut self.bag);
                }
            }
            if self.bag.is_empty() {
                return;
            }
            std::mem::swap(&mut self.bag, &mut self.spare);
            for message in self.spare.drain(..) {
                let to = usize::try_from(message.to.0 - 1).expect("a small id");
                self.members[to].node.step(message).expect("a member's message");
            }
        }
    }

    fn propose(&mut self, data: &Bytes, batch: u64) {
        let before = self.members[0].applied;
        if batch == 1 {
            self.members[0].node.propose(data.clone()).expect("a leader");
        } else {
            let entry = Entry { data: data.clone(), ..Entry::default() };
            let entries = (0..batch).map(|_| entry.clone()).collect();
            self.members[0].node.propose_entries(entries).expect("a leader");
        }
        self.settle();
        assert!(self.members.iter().all(|member| member.applied == before + batch));
    }
}

fn propose(criterion: &mut Criterion) {
    let data = Bytes::from(vec![7; 128]);
    for size in [1, 3] {
        let mut benches = criterion.benchmark_group(format!("propose/voters={size}"));
        for batch in [1_u64, 16, 256] {
            let mut group = Group::elected(size);
            benches.throughput(Throughput::Elements(batch));
            benches.bench_function(format!("batch={batch}"), |bencher| {
                bencher.iter(|| group.propose(&data, batch));
            });
        }
        benches.finish();
    }
}

criterion_group!(benches, propose);
criterion_main!(benches);
