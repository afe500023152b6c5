//! Nodes and networks as the course sets them up.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use pinion_raft::{
    ConfState, Config, Entry, HardState, MemoryStorage, Message, MessageKind, NO_PEER, RawNode, Role,
    Storage as _, testing,
};
use pinion_types::{LogIndex, PeerId, Term};

/// A node of the course.
pub(crate) type Node = RawNode<MemoryStorage>;

/// The course's configuration: what its core does not have is off, and the timeouts are drawn from a fixed sequence.
pub(crate) fn config(id: u64) -> Config {
    let mut state = id;
    Config {
        pre_vote: false,
        batch_append: false,
        check_quorum: false,
        max_size_per_message: u64::MAX,
        max_uncommitted_entries_size: 0,
        timeout_source: Box::new(move |range| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            range.start + usize::try_from(state >> 33).unwrap() % range.len()
        }),
        ..Config::new(PeerId(id))
    }
}

/// A node over a storage of its own, of which the test keeps a handle.
pub(crate) fn node(id: u64, storage: &MemoryStorage) -> Node {
    RawNode::new(config(id), storage.clone()).unwrap()
}

/// A node of a group that has stored nothing.
pub(crate) fn fresh(id: u64, voters: &[u64]) -> Node {
    node(id, &storage_of(voters, &[]))
}

/// A storage that holds empty entries of these (index, term).
pub(crate) fn storage_of(voters: &[u64], entries: &[(u64, u64)]) -> MemoryStorage {
    let storage = MemoryStorage::with_voters(voters.iter().copied());
    storage.append(&entries_of(entries)).unwrap();
    storage
}

/// Empty entries of these (index, term).
pub(crate) fn entries_of(entries: &[(u64, u64)]) -> Vec<Entry> {
    entries.iter().map(|(index, term)| entry(*index, *term, "")).collect()
}

/// An entry with a command.
pub(crate) fn entry(index: u64, term: u64, data: &'static str) -> Entry {
    Entry {
        term: Term(term),
        index: LogIndex(index),
        data: Bytes::from_static(data.as_bytes()),
        ..Entry::default()
    }
}

/// A message without content.
pub(crate) fn message(kind: MessageKind, from: u64, to: u64, term: u64) -> Message {
    Message { kind, from: PeerId(from), to: PeerId(to), term: Term(term), ..Message::default() }
}

/// Lets own votes and acknowledgements count, and takes the messages to others, ordered by receiver.
pub(crate) fn read_messages(node: &mut Node) -> Vec<Message> {
    testing::settle(node);
    let (mut messages, after) = testing::take_messages(node);
    messages.extend(after);
    messages.sort_by_key(|message| message.to);
    messages
}

/// Makes a node a leader as the course does, out of turn.
pub(crate) fn become_leader(node: &mut Node) {
    testing::become_candidate(node);
    testing::become_leader(node);
    testing::settle(node);
}

pub(crate) fn role(node: &Node) -> Role {
    node.soft_state().role
}

pub(crate) fn term(node: &Node) -> u64 {
    node.hard_state().term.0
}

pub(crate) fn committed(node: &Node) -> u64 {
    node.hard_state().commit.0
}

/// The (index, term) of all entries.
pub(crate) fn log(node: &Node) -> Vec<(u64, u64)> {
    testing::all_entries(node).iter().map(|entry| (entry.index.0, entry.term.0)).collect()
}

/// Persists and applies all that there is; gives what was applied and what was sent.
pub(crate) fn handle_all(node: &mut Node) -> (Vec<Entry>, Vec<Message>) {
    let storage = node.storage().clone();
    let (mut applied, mut sent) = (Vec::new(), Vec::new());
    while node.has_ready() {
        let mut ready = node.ready();
        if let Some(snapshot) = ready.snapshot.take() {
            storage.apply_snapshot(snapshot).unwrap();
        }
        storage.append(&ready.entries).unwrap();
        if let Some(state) = ready.hard_state {
            storage.set_hard_state(state);
        }
        applied.append(&mut ready.committed_entries);
        sent.append(&mut ready.messages);
        sent.append(&mut ready.messages_after_persist);
        node.advance(ready);
    }
    (applied, sent)
}

/// A group whose members persist at once, over a network that loses what the test says.
#[derive(Default)]
pub(crate) struct Network {
    /// A member that is none swallows all it gets.
    members: BTreeMap<u64, Option<Node>>,
    pub(crate) applied: BTreeMap<u64, Vec<Entry>>,
    cut: Vec<(u64, u64)>,
    ignored: Vec<MessageKind>,
}

impl Network {
    /// Members 1 to n, of which those that are false swallow all they get.
    pub(crate) fn of(alive: &[bool]) -> Self {
        let ids: Vec<u64> = (1..).take(alive.len()).collect();
        Self::with(ids.iter().zip(alive).map(|(id, alive)| alive.then(|| fresh(*id, &ids))).collect())
    }

    pub(crate) fn with(nodes: Vec<Option<Node>>) -> Self {
        Self { members: (1..).zip(nodes).collect(), ..Self::default() }
    }

    pub(crate) fn node(&mut self, id: u64) -> &mut Node {
        self.members.get_mut(&id).unwrap().as_mut().unwrap()
    }

    /// The members that are alive.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (u64, &Node)> {
        self.members.iter().filter_map(|(id, node)| node.as_ref().map(|node| (*id, node)))
    }

    /// Lets a member do something, and delivers all that follows from it.
    pub(crate) fn act(&mut self, id: u64, action: impl FnOnce(&mut Node)) {
        action(self.node(id));
        let mut queue = VecDeque::new();
        self.collect(id, &mut queue);
        while let Some(message) = queue.pop_front() {
            let to = message.to.0;
            if let Some(Some(node)) = self.members.get_mut(&to) {
                // A message that is refused is one that is lost.
                let _ = testing::step(node, message);
                self.collect(to, &mut queue);
            }
        }
    }

    fn collect(&mut self, id: u64, queue: &mut VecDeque<Message>) {
        let (mut applied, sent) = handle_all(self.node(id));
        self.applied.entry(id).or_default().append(&mut applied);
        queue.extend(sent.into_iter().filter(|message| {
            !self.ignored.contains(&message.kind) && !self.cut.contains(&(message.from.0, message.to.0))
        }));
    }

    pub(crate) fn hup(&mut self, id: u64) {
        self.act(id, Node::campaign);
    }

    pub(crate) fn beat(&mut self, id: u64) {
        self.act(id, testing::beat);
    }

    pub(crate) fn propose(&mut self, id: u64, data: &'static str) {
        // A proposal that is refused is one that is lost.
        self.act(id, |node| drop(node.propose(Bytes::from_static(data.as_bytes()))));
    }

    pub(crate) fn send(&mut self, message: Message) {
        self.act(message.to.0, |node| drop(testing::step(node, message)));
    }

    pub(crate) fn cut(&mut self, one: u64, other: u64) {
        self.cut.extend([(one, other), (other, one)]);
    }

    pub(crate) fn isolate(&mut self, id: u64) {
        let others: Vec<u64> = self.members.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.cut(id, other);
        }
    }

    pub(crate) fn ignore(&mut self, kind: MessageKind) {
        self.ignored.push(kind);
    }

    pub(crate) fn recover(&mut self) {
        self.cut.clear();
        self.ignored.clear();
    }

    /// Makes a snapshot of a member's state and compacts its log up to there.
    pub(crate) fn compact(&mut self, id: u64) {
        let node = self.node(id);
        let state = node.status().configuration.to_conf_state();
        node.storage().create_snapshot(node.applied(), Some(state), Bytes::new()).unwrap();
        node.storage().compact(node.applied()).unwrap();
        assert_eq!(node.storage().first_index(), node.applied().next());
    }
}

/// The answer of a follower that takes an append.
pub(crate) fn accept(append: &Message) -> Message {
    assert_eq!(append.kind, MessageKind::Append);
    let count = u64::try_from(append.entries.len()).unwrap();
    Message {
        index: LogIndex(append.index.0 + count),
        ..message(MessageKind::AppendResponse, append.to.0, append.from.0, append.term.0)
    }
}

/// A vote given to a log that ends like this, which the course's core does not say.
pub(crate) fn vote_for(index: u64, log_term: u64, vote: Message) -> Message {
    let context = Bytes::from([log_term.to_le_bytes(), index.to_le_bytes()].concat());
    Message { context, ..vote }
}

/// Has a new leader's empty entry acknowledged by all, persisted and applied.
pub(crate) fn commit_noop(node: &mut Node) {
    testing::broadcast_append(node);
    for append in read_messages(node) {
        assert_eq!(append.entries.len(), 1);
        testing::step(node, accept(&append)).unwrap();
    }
    handle_all(node);
}

/// A hard state that has voted for nobody.
pub(crate) fn hard_state(term: u64, commit: u64) -> HardState {
    HardState { term: Term(term), vote: NO_PEER, commit: LogIndex(commit) }
}

/// A configuration without learners.
pub(crate) fn conf_state(voters: &[u64]) -> ConfState {
    ConfState { voters: voters.iter().copied().map(PeerId).collect(), ..ConfState::default() }
}

/// The members of a node's configuration.
pub(crate) fn members(node: &Node) -> Vec<u64> {
    node.tracker().progress.iter().map(|(id, _)| id.0).collect()
}
