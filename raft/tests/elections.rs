//! What a refused vote says, who is refused, and what a promise not to vote is worth.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as the test does")]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use pinion_raft::{
    ConfChange, ConfChangeKind, ConfState, Config, Entry, HardState, History, LeaseConfig, MemoryStorage,
    Message, MessageKind, RawNode, Role,
};
use pinion_types::{LogIndex, PeerId, Term};

type Node = RawNode<MemoryStorage>;

/// A storage that holds empty entries of these terms, from index 1 on.
fn storage(voters: &[u64], terms: &[u64]) -> MemoryStorage {
    let storage = MemoryStorage::with_voters(voters.iter().copied());
    let entries: Vec<Entry> = terms
        .iter()
        .zip(1..)
        .map(|(term, index)| Entry { term: Term(*term), index: LogIndex(index), ..Entry::default() })
        .collect();
    storage.append(&entries).unwrap();
    storage
}

fn vote(from: u64, to: u64, term: u64, last: (u64, u64)) -> Message {
    Message {
        kind: MessageKind::Vote,
        from: PeerId(from),
        to: PeerId(to),
        term: Term(term),
        index: LogIndex(last.0),
        log_term: Term(last.1),
        ..Message::default()
    }
}

/// All messages that the node wants sent, with everything written at once.
fn messages(node: &mut Node) -> Vec<Message> {
    let mut sent = Vec::new();
    while node.has_ready() {
        let mut ready = node.ready();
        node.storage().append(&ready.entries).unwrap();
        sent.append(&mut ready.messages);
        sent.append(&mut ready.messages_after_persist);
        node.advance(ready);
    }
    sent
}

#[test]
fn a_newer_log_gets_the_vote_of_a_higher_priority_even_if_it_is_shorter() {
    let config = || Config { priority: 1, ..Config::new(PeerId(1)) };
    for (last, rejects) in [((2, 3), false), ((4, 2), false), ((3, 2), true)] {
        let mut node = RawNode::new(config(), storage(&[1, 2], &[1, 2, 2])).unwrap();
        node.step(vote(2, 1, 4, last)).unwrap();
        assert_eq!(messages(&mut node)[0].reject, rejects, "a log that ends at {last:?}");
    }
}

#[test]
fn whom_the_leader_chose_gets_the_vote_of_a_higher_priority() {
    let config = Config { priority: 1, ..Config::new(PeerId(1)) };
    let mut node = RawNode::new(config, storage(&[1, 2], &[1])).unwrap();
    let chosen = Message { context: Bytes::from_static(b"CampaignTransfer"), ..vote(2, 1, 2, (1, 1)) };
    node.step(chosen).unwrap();
    assert!(!messages(&mut node)[0].reject);
}

#[test]
fn a_vote_for_a_log_that_was_lost_does_not_count() {
    for kind in [MessageKind::Vote, MessageKind::PreVote] {
        let pre_vote = kind == MessageKind::PreVote;
        let stored = storage(&[1, 2, 3], &[1]);
        stored.set_hard_state(HardState { term: Term(1), vote: PeerId(2), ..HardState::default() });
        let start = || {
            let config = Config { pre_vote, check_quorum: false, ..Config::new(PeerId(1)) };
            RawNode::new(config, stored.clone()).unwrap()
        };
        let mut node = start();
        let append = Message {
            index: LogIndex(1),
            log_term: Term(1),
            entries: vec![Entry { term: Term(1), index: LogIndex(2), ..Entry::default() }],
            ..Message { kind: MessageKind::Append, ..vote(2, 1, 1, (0, 0)) }
        };
        node.step(append).unwrap();
        node.campaign();
        // It ends before anything of this is written, but its requests are on their way.
        let requests = node.ready().messages;
        let request = requests.into_iter().find(|request| request.to == PeerId(3)).unwrap();
        let mut voter = RawNode::new(Config::new(PeerId(3)), storage(&[1, 2, 3], &[1, 1])).unwrap();
        voter.step(request).unwrap();
        let late = messages(&mut voter).remove(0);
        assert!(late.kind.is_response() && !late.reject);

        let mut node = start();
        node.campaign();
        let requests = messages(&mut node);
        let role = node.soft_state().role;
        node.step(late).unwrap();
        assert_eq!(node.soft_state().role, role, "its log lacks what it had when it asked");
        let request = requests.into_iter().find(|request| request.to == PeerId(3)).unwrap();
        let mut voter = RawNode::new(Config::new(PeerId(3)), storage(&[1, 2, 3], &[1])).unwrap();
        voter.step(request).unwrap();
        node.step(messages(&mut voter).remove(0)).unwrap();
        assert_ne!(node.soft_state().role, role);
    }
}

#[test]
fn a_removed_member_tells_what_is_committed_when_it_refuses() {
    let storage = storage(&[2], &[1, 1, 1, 1]);
    storage.set_conf_state(ConfState { voters: vec![PeerId(2)], ..ConfState::default() });
    storage.set_hard_state(HardState { term: Term(1), commit: LogIndex(3), ..HardState::default() });
    let mut removed = RawNode::new(Config::new(PeerId(1)), storage).unwrap();
    removed.step(vote(2, 1, 2, (3, 1))).unwrap();
    let refusal = messages(&mut removed).remove(0);
    assert!(refusal.reject);
    assert_eq!(refusal.context, [1_u64.to_le_bytes(), 3_u64.to_le_bytes()].concat());

    // Who was removed hears of no later term, and the candidate may be in one.
    for term in [0, 3] {
        let config = Config { pre_vote: false, ..Config::new(PeerId(2)) };
        let storage = self::storage(&[1, 2], &[1, 1, 1]);
        storage.set_hard_state(HardState { term: Term(term), ..HardState::default() });
        let mut candidate = RawNode::new(config, storage).unwrap();
        candidate.campaign();
        candidate.step(Message { term: Term(1), ..refusal.clone() }).unwrap();
        assert_eq!(candidate.hard_state().commit, LogIndex(3), "a candidate of term {}", term + 1);
    }
}

#[test]
fn a_learner_with_a_longer_log_hears_from_a_candidate_that_it_votes() {
    let learner = ConfState { voters: vec![PeerId(1)], learners: vec![PeerId(2)], ..ConfState::default() };
    let change = ConfChange::simple(ConfChangeKind::AddVoter, PeerId(2));
    let promoted =
        Entry { term: Term(1), index: LogIndex(1), kind: change.entry_kind, data: change.encode().unwrap() };
    let stored = |state: ConfState, commit, more: bool| {
        let storage = MemoryStorage::new();
        storage.set_conf_state(state);
        storage.append(std::slice::from_ref(&promoted)).unwrap();
        if more {
            let last = Entry { term: Term(1), index: LogIndex(2), ..Entry::default() };
            storage.append(&[last]).unwrap();
        }
        storage.set_hard_state(HardState { term: Term(1), commit: LogIndex(commit), ..HardState::default() });
        storage
    };
    let both = ConfState { voters: vec![PeerId(1), PeerId(2)], ..ConfState::default() };
    let config = Config { pre_vote: false, applied: LogIndex(1), ..Config::new(PeerId(1)) };
    let mut candidate = RawNode::new(config, stored(both, 1, false)).unwrap();
    candidate.campaign();
    let request = messages(&mut candidate).remove(0);

    let mut voter = RawNode::new(Config::new(PeerId(2)), stored(learner, 0, true)).unwrap();
    voter.step(request).unwrap();
    assert!(messages(&mut voter)[0].reject, "its log is longer");
    assert_eq!(voter.hard_state().commit, LogIndex(1), "its promotion is to be applied");
}

/// A clock that the test turns, in milliseconds.
fn lease(time: &Rc<Cell<u64>>) -> LeaseConfig {
    let time = Rc::clone(time);
    LeaseConfig {
        promise: Duration::from_millis(100),
        drift_max: Duration::from_millis(5),
        history: History::New,
        clock: Rc::new(move || Duration::from_millis(time.get())),
    }
}

/// A leader of two that has committed in its term, and the heartbeat that it sends then.
fn leader(time: &Rc<Cell<u64>>) -> (Node, Message) {
    let config = Config { pre_vote: false, lease: Some(lease(time)), ..Config::new(PeerId(1)) };
    let mut node = RawNode::new(config, storage(&[1, 2], &[])).unwrap();
    node.campaign();
    let answer = |kind, index| Message {
        kind,
        from: PeerId(2),
        to: PeerId(1),
        term: Term(1),
        index: LogIndex(index),
        ..Message::default()
    };
    messages(&mut node);
    node.step(answer(MessageKind::VoteResponse, 0)).unwrap();
    messages(&mut node);
    node.step(answer(MessageKind::AppendResponse, 1)).unwrap();
    assert_eq!(node.soft_state().role, Role::Leader);
    node.tick();
    let heartbeat =
        messages(&mut node).into_iter().find(|message| message.kind == MessageKind::Heartbeat).unwrap();
    (node, heartbeat)
}

fn answered(heartbeat: &Message) -> Message {
    Message {
        kind: MessageKind::HeartbeatResponse,
        from: PeerId(2),
        to: PeerId(1),
        commit: LogIndex(0),
        ..heartbeat.clone()
    }
}

/// Hands messages to and fro until there are none. 2 does not apply changes of the configuration, as if its state machine
/// were slow: the work that holds one is kept from being handed back.
fn talk(one: &mut Node, two: &mut Node) {
    let mut unapplied = None;
    loop {
        let mut sent = Vec::new();
        while one.has_ready() {
            let mut ready = one.ready();
            one.storage().append(&ready.entries).unwrap();
            ready.hard_state.iter().for_each(|state| one.storage().set_hard_state(*state));
            for entry in ready.committed_entries.iter().filter(|entry| entry.kind.is_conf_change()) {
                let state =
                    one.apply_conf_change(&ConfChange::decode(entry.kind, &entry.data).unwrap()).unwrap();
                one.storage().set_conf_state(state);
            }
            sent.append(&mut ready.messages);
            sent.append(&mut ready.messages_after_persist);
            one.advance(ready);
        }
        while unapplied.is_none() && two.has_ready() {
            let mut ready = two.ready();
            two.storage().append(&ready.entries).unwrap();
            sent.append(&mut ready.messages);
            sent.append(&mut ready.messages_after_persist);
            if ready.committed_entries.iter().any(|entry| entry.kind.is_conf_change()) {
                unapplied = Some(ready);
            } else {
                two.advance(ready);
            }
        }
        if sent.is_empty() {
            return;
        }
        for message in sent {
            // What is for a member that has left is refused.
            let _ = if message.to == PeerId(1) { one.step(message) } else { two.step(message) };
        }
    }
}

#[test]
fn the_last_voter_keeps_its_promise_to_a_removed_leader_through_a_restart() {
    let time = Rc::new(Cell::new(1000));
    let config = |id, history| Config {
        pre_vote: false,
        lease: Some(LeaseConfig { history, ..lease(&time) }),
        ..Config::new(PeerId(id))
    };
    let mut leader = RawNode::new(config(2, History::New), storage(&[1, 2], &[])).unwrap();
    let mut last = RawNode::new(config(1, History::New), storage(&[1, 2], &[])).unwrap();
    leader.campaign();
    talk(&mut last, &mut leader);
    leader.tick();
    talk(&mut last, &mut leader);
    leader.propose_conf_change(&ConfChange::simple(ConfChangeKind::Remove, PeerId(2))).unwrap();
    talk(&mut last, &mut leader);
    assert!(leader.lease_read_index().is_some(), "it has not applied its removal");
    assert!(last.tracker().configuration.voters.is_singleton());

    let restart = |last: &Node, history| {
        let config = Config { applied: last.applied(), ..config(1, history) };
        let mut node = RawNode::new(config, last.storage().clone()).unwrap();
        node.campaign();
        messages(&mut node);
        node.soft_state().role
    };
    assert_eq!(restart(&last, History::Member), Role::Follower);
    time.set(1100);
    assert_eq!(leader.lease_read_index(), None);
    let config = Config { applied: last.applied(), ..config(1, History::Member) };
    let mut node = RawNode::new(config, last.storage().clone()).unwrap();
    time.set(1200);
    node.campaign();
    messages(&mut node);
    assert_eq!(node.soft_state().role, Role::Leader);
}

#[test]
fn who_was_always_alone_leads_at_once_after_a_restart() {
    let time = Rc::new(Cell::new(1000));
    let start = |history, storage: MemoryStorage| {
        let lease = Some(LeaseConfig { history, ..lease(&time) });
        let mut node = RawNode::new(Config { lease, ..Config::new(PeerId(1)) }, storage).unwrap();
        node.campaign();
        messages(&mut node);
        node.soft_state().role
    };
    assert_eq!(start(History::Alone, storage(&[1], &[1])), Role::Leader);
    assert_eq!(start(History::Member, storage(&[1], &[1])), Role::Follower);
    assert_eq!(start(History::Alone, storage(&[1, 2], &[1])), Role::Follower, "it is not alone now");
    let changed = storage(&[1], &[1]);
    let change = ConfChange::simple(ConfChangeKind::AddVoter, PeerId(2));
    let entry =
        Entry { term: Term(1), index: LogIndex(2), kind: change.entry_kind, data: change.encode().unwrap() };
    changed.append(&[entry]).unwrap();
    assert_eq!(start(History::Alone, changed), Role::Follower, "its log says that it may not be");
}

#[test]
fn a_lease_read_needs_a_quorum_that_answered_in_time() {
    let time = Rc::new(Cell::new(1000));
    let (mut node, heartbeat) = leader(&time);
    assert_eq!(node.lease_read_index(), None);
    time.set(1060);
    node.step(answered(&heartbeat)).unwrap();
    assert_eq!(node.lease_read_index(), Some(LogIndex(1)));
    // A pause: nothing has ticked, and still the lease is over.
    time.set(1095);
    assert_eq!(node.lease_read_index(), None);
    let lie = Message { lease: heartbeat.lease + 1_000_000_000, ..answered(&heartbeat) };
    assert!(node.step(lie).is_err(), "nobody can answer what was not sent");
}

#[test]
fn a_read_by_index_is_answered_at_once_while_the_lease_lasts() {
    let time = Rc::new(Cell::new(1000));
    let (mut node, heartbeat) = leader(&time);
    node.step(answered(&heartbeat)).unwrap();
    node.read_index(Bytes::from_static(b"within")).unwrap();
    assert_eq!(node.ready().read_states.len(), 1);

    let (mut node, heartbeat) = leader(&time);
    node.step(answered(&heartbeat)).unwrap();
    time.set(1200);
    node.read_index(Bytes::from_static(b"after")).unwrap();
    assert!(node.ready().read_states.is_empty(), "a quorum must say that it still leads");
}

#[test]
fn who_promised_does_not_vote_however_many_ticks_pass() {
    let time = Rc::new(Cell::new(1000));
    let (_, heartbeat) = leader(&time);
    let config = Config { check_quorum: false, lease: Some(lease(&time)), ..Config::new(PeerId(2)) };
    let mut voter = RawNode::new(config, storage(&[1, 2], &[1])).unwrap();
    voter.step(heartbeat.clone()).unwrap();
    assert_eq!(messages(&mut voter)[0].lease, heartbeat.lease);
    for _ in 0..100 {
        voter.tick();
    }
    assert_eq!(voter.soft_state().role, Role::Follower, "it does not campaign either");
    voter.step(vote(1, 2, 9, (5, 1))).unwrap();
    assert_eq!(voter.hard_state().term, Term(1));
    time.set(1100);
    voter.step(vote(1, 2, 9, (5, 1))).unwrap();
    assert_eq!(voter.hard_state().vote, PeerId(1));
}
