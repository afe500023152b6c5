//! A group of nodes over a network that lies, played from bytes: each byte decides something, and when there are none left the run is
//! over. A fuzzer that changes a byte changes one decision.
//!
//! What must hold is asserted here: no node panics, takes back what it has committed, or applies what it has not committed; a storage is
//! never asked for what makes no sense.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use pinion_raft::{
    APPEND_THREAD, APPLY_THREAD, ApplyAhead, ConfChange, ConfChangeKind, ConfState, Config, Entry, EntryKind,
    History, INDEX_MAX, LeaseConfig, MemoryStorage, Message, MessageKind, RawNode, ReadOnlyOption, Snapshot,
    SnapshotMetadata,
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

/// What is left of the bytes.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn is_used_up(&self) -> bool {
        self.0.is_empty()
    }

    /// A number below `sides`, 0 when the bytes are used up.
    fn roll(&mut self, sides: u8) -> u8 {
        self.0.split_off_first().map_or(0, |byte| byte % sides)
    }

    fn place(&mut self, sides: usize) -> usize {
        usize::from(self.roll(u8::try_from(sides).unwrap_or(u8::MAX)))
    }

    fn is_rare(&mut self, one_in: u8) -> bool {
        self.roll(one_in) == 1
    }

    /// Mostly small, sometimes at the limits.
    fn number(&mut self) -> u64 {
        match self.roll(u8::MAX) {
            byte @ 0..240 => u64::from(byte % 30),
            240 => u64::MAX,
            241 => INDEX_MAX,
            242 => INDEX_MAX + 1,
            243 => u64::MAX - 1,
            byte => u64::from(byte),
        }
    }

    fn peer(&mut self) -> PeerId {
        PeerId(u64::from(self.roll(6)))
    }

    fn bytes(&mut self) -> Bytes {
        let length = self.place(9);
        Bytes::copy_from_slice(&self.number().to_le_bytes()[..length.min(8)])
    }

    fn entries(&mut self, index: u64, term: u64) -> Vec<Entry> {
        let count = u64::from(self.roll(4));
        (1..=count)
            .map(|offset| {
                let (skew, later) = (u64::from(self.is_rare(10)), u64::from(self.roll(2)));
                let kinds = [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2];
                Entry {
                    index: LogIndex(index.wrapping_add(offset + skew)),
                    term: Term(term.wrapping_add(later)),
                    kind: kinds[self.place(3)],
                    data: self.bytes(),
                }
            })
            .collect()
    }

    fn snapshot(&mut self) -> Option<Box<Snapshot>> {
        if self.is_rare(4) {
            return None;
        }
        let mut peers = || (0..self.roll(4)).map(|_| self.peer()).collect();
        let (voters, learners, voters_outgoing, learners_next) = (peers(), peers(), peers(), peers());
        let auto_leave = self.roll(2) == 0;
        let conf_state = ConfState { voters, learners, voters_outgoing, learners_next, auto_leave };
        let metadata =
            SnapshotMetadata { conf_state, index: LogIndex(self.number()), term: Term(self.number()) };
        Some(Box::new(Snapshot { metadata, data: Bytes::new() }))
    }

    /// A message that nobody sent.
    fn message(&mut self, to: PeerId) -> Message {
        let kind = KINDS[self.place(KINDS.len())];
        let (index, log_term) = (self.number(), self.number());
        Message {
            kind,
            reject: self.is_rare(3),
            to: if self.is_rare(20) { PeerId(self.number()) } else { to },
            from: if self.is_rare(10) { PeerId(self.number()) } else { self.peer() },
            term: Term(self.number()),
            log_term: Term(log_term),
            index: LogIndex(index),
            commit: LogIndex(self.number()),
            vote: self.peer(),
            reject_hint: LogIndex(self.number()),
            priority: i64::from(self.roll(3)) - 1,
            lease: if self.is_rare(3) { self.number() } else { 0 },
            entries: self.entries(index, log_term),
            snapshot: self.snapshot(),
            context: self.bytes(),
            responses: if self.is_rare(20) { vec![Message::default()] } else { Vec::new() },
        }
    }

    /// A real message with one field changed. Its term stays, so that it is looked at.
    fn spoil(&mut self, mut message: Message) -> Message {
        match self.roll(10) {
            0 => message.index = LogIndex(self.number()),
            1 => message.log_term = Term(self.number()),
            2 => message.reject = !message.reject,
            3 => message.reject_hint = LogIndex(self.number()),
            4 => message.from = self.peer(),
            5 => message.entries = self.entries(message.index.0, message.log_term.0),
            6 => message.commit = LogIndex(self.number()),
            7 => message.lease = self.number(),
            8 => message.kind = KINDS[self.place(KINDS.len())],
            _ => message.snapshot = self.snapshot(),
        }
        message
    }

    fn conf_change(&mut self) -> ConfChange {
        let kinds = [ConfChangeKind::AddVoter, ConfChangeKind::AddLearner, ConfChangeKind::Remove];
        let mut change = ConfChange::simple(kinds[self.place(3)], self.peer());
        for _ in 0..self.roll(3) {
            let more = ConfChange::simple(kinds[self.place(3)], self.peer());
            change.entry_kind = EntryKind::ConfChangeV2;
            change.changes.extend(more.changes);
        }
        change
    }
}

struct Member {
    node: RawNode<MemoryStorage>,
    storage: MemoryStorage,
    conf_state: ConfState,
    commit: LogIndex,
    /// What the two storage threads have not done yet; empty without asynchronous writes.
    appends: VecDeque<Message>,
    applies: VecDeque<Message>,
}

/// How the nodes of a run are set up: a bit for each switch, and the clock, in milliseconds.
struct Setup(u8, Rc<Cell<u64>>);

impl Setup {
    fn has(&self, bit: u8) -> bool {
        self.0 & (1 << bit) != 0
    }

    fn is_asynchronous(&self) -> bool {
        self.has(3)
    }

    fn config(&self, id: u64) -> Config {
        let mut drawn = id;
        let clock = Rc::clone(&self.1);
        let lease_based = self.has(2) && self.has(0);
        Config {
            check_quorum: self.has(0),
            pre_vote: self.has(1),
            read_only_option: if lease_based { ReadOnlyOption::LeaseBased } else { ReadOnlyOption::Safe },
            async_storage_writes: self.is_asynchronous(),
            apply_unpersisted: if self.has(4) { ApplyAhead::Yes } else { ApplyAhead::No },
            lease: self.has(5).then(|| LeaseConfig {
                promise: Duration::from_millis(30),
                drift_max: Duration::from_millis(1),
                history: if id == 3 { History::Member } else { History::New },
                clock: Rc::new(move || Duration::from_millis(clock.get())),
            }),
            step_down_on_removal: self.has(6),
            disable_proposal_forwarding: self.has(7),
            batch_append: id != 2,
            max_inflight_messages: 4,
            max_size_per_message: 64,
            timeout_source: Box::new(move |range| {
                drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                range.start + usize::try_from(drawn >> 33).unwrap_or(0) % range.len()
            }),
            ..Config::new(PeerId(id))
        }
    }
}

impl Member {
    fn start(id: u64, setup: &Setup) -> Self {
        let storage = MemoryStorage::with_voters([1, 2, 3]);
        let node = RawNode::new(setup.config(id), storage.clone()).expect("the set-up makes sense");
        let conf_state = node.tracker().configuration.to_conf_state();
        Self {
            node,
            storage,
            conf_state,
            commit: LogIndex(0),
            appends: VecDeque::new(),
            applies: VecDeque::new(),
        }
    }

    fn write(&self, snapshot: Option<Snapshot>, entries: &[Entry]) {
        if let Some(snapshot) = snapshot {
            self.storage.apply_snapshot(snapshot).expect("a snapshot is newer than all that is applied");
        }
        self.storage.append(entries).expect("entries leave no gap");
    }

    fn apply(&mut self, entries: &[Entry]) {
        for entry in entries {
            // Changes that do not fit are refused, and nothing has changed then.
            if entry.kind.is_conf_change()
                && let Ok(change) = ConfChange::decode(entry.kind, &entry.data)
                && let Ok(state) = self.node.apply_conf_change(&change)
            {
                self.conf_state = state;
            }
        }
    }

    /// Does what the node asks for; the storage's part later, when writes are asynchronous.
    fn handle(&mut self, bag: &mut Vec<Message>, setup: &Setup) {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            for message in ready.messages.drain(..) {
                match message.to {
                    APPEND_THREAD => self.appends.push_back(message),
                    APPLY_THREAD => self.applies.push_back(message),
                    _ => bag.push(message),
                }
            }
            if setup.is_asynchronous() {
                continue;
            }
            self.write(ready.snapshot.take(), &ready.entries);
            bag.append(&mut ready.messages_after_persist);
            self.apply(&ready.committed_entries);
            self.node.advance(ready);
        }
        self.judge();
    }

    fn judge(&mut self) {
        let commit = self.node.hard_state().commit;
        assert!(commit >= self.commit, "the commit index goes back from {} to {commit}", self.commit);
        self.commit = commit;
        assert!(self.node.applied() <= commit);
        assert!(commit <= self.node.last_index());
        assert_eq!(self.node.storage_error(), None);
    }

    /// One of the two threads does its next piece of work.
    fn work(&mut self, bag: &mut Vec<Message>, appends: bool) {
        let queue = if appends { &mut self.appends } else { &mut self.applies };
        let Some(message) = queue.pop_front() else { return };
        if appends {
            self.write(message.snapshot.map(|snapshot| *snapshot), &message.entries);
        } else {
            self.apply(&message.entries);
        }
        for response in message.responses {
            if response.to == self.node.id() {
                let _ = self.node.step_local(response);
            } else {
                bag.push(response);
            }
        }
    }

    /// Makes a snapshot of what is applied, and forgets the log before it.
    fn compact(&self) {
        let applied = self.node.applied();
        // What is not in the storage's log, or is in a snapshot already, is refused.
        if self.storage.create_snapshot(applied, Some(self.conf_state.clone()), Bytes::new()).is_ok() {
            let _ = self.storage.compact(applied);
        }
    }
}

/// The greatest number of decisions about what happens next.
const STEPS_MAX: usize = 2000;

/// Plays the bytes to a group of three. Gives the greatest commit index that it came to.
pub(crate) fn play(bytes: &[u8]) -> u64 {
    let mut input = Input(bytes);
    let setup = Setup(input.roll(u8::MAX), Rc::default());
    let mut members: Vec<Member> = (1..=3).map(|id| Member::start(id, &setup)).collect();
    let mut bag: Vec<Message> = Vec::new();
    for _ in 0..STEPS_MAX {
        if input.is_used_up() {
            break;
        }
        setup.1.update(|milliseconds| milliseconds + 1);
        let place = input.place(3);
        step(&mut input, &mut members, place, &mut bag);
        for member in &mut members {
            member.handle(&mut bag, &setup);
        }
    }
    members.iter().map(|member| member.commit.0.min(1000)).max().unwrap_or(0)
}

/// One thing happens, at the member at `place` if it is one member's. What is refused is what this is about.
fn step(input: &mut Input<'_>, members: &mut [Member], place: usize, bag: &mut Vec<Message>) {
    let member = &mut members[place];
    let node = &mut member.node;
    match input.roll(64) {
        0..=3 => drop(node.propose(Bytes::from_static(b"command"))),
        4 => drop(node.propose_conf_change(&input.conf_change())),
        5 => drop(node.step(input.message(node.id()))),
        6 => node.transfer_leader(input.peer()),
        7 => drop(node.read_index(Bytes::from_static(b"read"))),
        8 => match input.roll(6) {
            0 => node.forget_leader(),
            1 => node.report_unreachable(input.peer()),
            2 => node.report_snapshot(input.peer(), false),
            3 => node.report_snapshot(input.peer(), true),
            4 => drop(node.lease_read_index()),
            _ => member.compact(),
        },
        9 => node.campaign(),
        10..=12 => node.tick(),
        13 => (0..=input.roll(12)).for_each(|_| node.tick()),
        14..=21 => member.work(bag, true),
        22..=25 => member.work(bag, false),
        26 if !bag.is_empty() => {
            let lost = input.place(bag.len());
            bag.swap_remove(lost);
        }
        27 if !bag.is_empty() => bag.push(bag[input.place(bag.len())].clone()),
        28 if !bag.is_empty() => {
            let spoilt = input.place(bag.len());
            let message = bag.swap_remove(spoilt);
            let message = input.spoil(message);
            deliver(message, members);
        }
        // Mostly in the order of sending, or nobody is ever elected.
        _ if !bag.is_empty() => {
            let next = if input.is_rare(4) { input.place(bag.len()) } else { 0 };
            let message = bag.remove(next);
            deliver(message, members);
        }
        _ => node.tick(),
    }
}

fn deliver(message: Message, members: &mut [Member]) {
    let to = usize::try_from(message.to.0).unwrap_or(usize::MAX);
    if let Some(member) = to.checked_sub(1).and_then(|place| members.get_mut(place)) {
        let _ = member.node.step(message);
    }
}
