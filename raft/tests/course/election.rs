//! Project 2A "2AA": elections.

use pinion_raft::{Config, HardState, Message, MessageKind, NO_PEER, RawNode, Role, testing};
use pinion_types::{LogIndex, PeerId, Term};

use crate::support::*;

#[test]
fn test_leader_election_2aa() {
    for (alive, want) in [
        (&[true, true, true][..], Role::Leader),
        (&[true, true, false], Role::Leader),
        (&[true, false, false], Role::Candidate),
        (&[true, false, false, true], Role::Candidate),
        (&[true, false, false, true, true], Role::Leader),
    ] {
        let mut network = Network::of(alive);
        network.hup(1);
        assert_eq!((role(network.node(1)), term(network.node(1))), (want, 1), "{alive:?}");
    }
}

#[test]
fn test_leader_cycle_2aa() {
    let mut network = Network::of(&[true; 3]);
    for campaigner in 1..=3 {
        network.hup(campaigner);
        for (id, node) in network.alive() {
            assert_eq!(role(node), if id == campaigner { Role::Leader } else { Role::Follower });
        }
    }
}

#[test]
fn test_vote_from_any_state_2aa() {
    for state in [Role::Follower, Role::Candidate, Role::Leader] {
        let mut node = in_state(state, 1);
        read_messages(&mut node);
        let next = term(&node) + 1;
        let request =
            Message { log_term: Term(next), index: LogIndex(42), ..message(MessageKind::Vote, 2, 1, next) };
        testing::step(&mut node, request).unwrap();
        let answers = read_messages(&mut node);
        assert_eq!(answers, [vote_for(42, next, message(MessageKind::VoteResponse, 1, 2, next))]);
        assert_eq!(
            (role(&node), term(&node), node.hard_state().vote),
            (Role::Follower, next, PeerId(2)),
            "{state}"
        );
    }
}

/// A node of three in this role, at the term or one above.
fn in_state(state: Role, at: u64) -> RawNode<pinion_raft::MemoryStorage> {
    let mut node = fresh(1, &[1, 2, 3]);
    match state {
        Role::Follower => testing::become_follower(&mut node, Term(at), PeerId(2)),
        Role::Candidate | Role::PreCandidate => testing::become_candidate(&mut node),
        Role::Leader => become_leader(&mut node),
    }
    node
}

#[test]
fn test_single_node_candidate_2aa() {
    let mut network = Network::of(&[true]);
    network.hup(1);
    assert_eq!(role(network.node(1)), Role::Leader);
}

fn candidate_reset_term(kind: MessageKind) {
    let mut network = Network::of(&[true; 3]);
    network.hup(1);
    assert_eq!(role(network.node(1)), Role::Leader);
    network.isolate(3);
    network.hup(2);
    network.hup(1);
    assert_eq!((role(network.node(1)), role(network.node(2))), (Role::Leader, Role::Follower));
    while role(network.node(3)) != Role::Candidate {
        network.node(3).tick();
    }
    network.recover();
    let at = term(network.node(1));
    network.send(message(kind, 1, 3, at));
    assert_eq!((role(network.node(3)), term(network.node(3))), (Role::Follower, at));
}

#[test]
fn test_candidate_reset_term_message_type_msg_heartbeat_2aa() {
    candidate_reset_term(MessageKind::Heartbeat);
}

#[test]
fn test_candidate_reset_term_message_type_msg_append_2aa() {
    candidate_reset_term(MessageKind::Append);
}

/// The answer to a heartbeat of a lower term is given with check-quorum or pre-vote alone; here, with the former.
#[test]
fn test_disruptive_follower_2aa() {
    let nodes = (1..=3).map(|id| {
        let config = Config { check_quorum: true, ..config(id) };
        let mut node = RawNode::new(config, storage_of(&[1, 2, 3], &[])).unwrap();
        testing::become_follower(&mut node, Term(1), NO_PEER);
        Some(node)
    });
    let mut network = Network::with(nodes.collect());
    network.hup(1);
    while role(network.node(3)) != Role::Candidate {
        network.node(3).tick();
    }
    let roles: Vec<Role> = network.alive().map(|(_, node)| role(node)).collect();
    let terms: Vec<u64> = network.alive().map(|(_, node)| term(node)).collect();
    assert_eq!((roles, terms), (vec![Role::Leader, Role::Follower, Role::Candidate], vec![2, 2, 3]));
    // Its requests for votes are still on their way, and would be ignored, when the late heartbeat comes.
    read_messages(network.node(3));
    network.send(message(MessageKind::Heartbeat, 1, 3, 2));
    assert_eq!((role(network.node(1)), term(network.node(1))), (Role::Follower, 3));
}

#[test]
fn test_recv_message_type_msg_beat_2aa() {
    for (state, want) in [(Role::Leader, 2), (Role::Candidate, 0), (Role::Follower, 0)] {
        let mut node = in_state(state, 1);
        read_messages(&mut node);
        testing::beat(&mut node);
        let sent = read_messages(&mut node);
        assert_eq!(sent.len(), want, "{state}");
        assert!(sent.iter().all(|message| message.kind == MessageKind::Heartbeat));
    }
}

#[test]
fn test_campaign_while_leader_2aa() {
    let mut node = fresh(1, &[1]);
    assert_eq!(role(&node), Role::Follower);
    node.campaign();
    testing::settle(&mut node);
    let at = term(&node);
    assert_eq!(role(&node), Role::Leader);
    node.campaign();
    testing::settle(&mut node);
    assert_eq!((role(&node), term(&node)), (Role::Leader, at));
}

#[test]
fn test_split_vote_2aa() {
    let nodes = (1..=3).map(|id| {
        let mut node = fresh(id, &[1, 2, 3]);
        testing::become_follower(&mut node, Term(1), NO_PEER);
        Some(node)
    });
    let mut network = Network::with(nodes.collect());
    network.hup(1);
    network.isolate(1);
    // Both campaign before either hears of the other.
    network.node(2).campaign();
    testing::settle(network.node(2));
    network.hup(3);
    network.act(2, |_| ());
    for id in [2, 3] {
        assert_eq!((role(network.node(id)), term(network.node(id))), (Role::Candidate, 3));
    }
    network.hup(2);
    assert_eq!((role(network.node(2)), term(network.node(2))), (Role::Leader, 4));
    assert_eq!((role(network.node(3)), term(network.node(3))), (Role::Follower, 4));
}

fn update_term_from_message(state: Role) {
    let mut node = in_state(state, 1);
    testing::step(&mut node, message(MessageKind::Append, 2, 1, 2)).unwrap();
    assert_eq!((role(&node), term(&node)), (Role::Follower, 2));
}

#[test]
fn test_follower_update_term_from_message_2aa() {
    update_term_from_message(Role::Follower);
}

#[test]
fn test_candidate_update_term_from_message_2aa() {
    update_term_from_message(Role::Candidate);
}

#[test]
fn test_leader_update_term_from_message_2aa() {
    update_term_from_message(Role::Leader);
}

#[test]
fn test_start_as_follower_2aa() {
    assert_eq!(role(&fresh(1, &[1, 2, 3])), Role::Follower);
}

#[test]
fn test_leader_bcast_beat_2aa() {
    let mut node = in_state(Role::Leader, 1);
    node.propose(bytes::Bytes::new()).unwrap();
    read_messages(&mut node);
    node.tick();
    let want = [2, 3].map(|to| message(MessageKind::Heartbeat, 1, to, 1));
    assert_eq!(read_messages(&mut node), want);
}

fn nonleader_start_election(state: Role) {
    let mut node = in_state(state, 1);
    read_messages(&mut node);
    for _ in 1..20 {
        node.tick();
    }
    assert_eq!((role(&node), term(&node), node.hard_state().vote), (Role::Candidate, 2, PeerId(1)));
    let want = [2, 3].map(|to| message(MessageKind::Vote, 1, to, 2));
    assert_eq!(read_messages(&mut node), want);
}

#[test]
fn test_follower_start_election_2aa() {
    nonleader_start_election(Role::Follower);
}

#[test]
fn test_candidate_start_new_election_2aa() {
    nonleader_start_election(Role::Candidate);
}

#[test]
fn test_leader_election_in_one_round_rpc_2aa() {
    for (size, votes, want) in [
        (1, &[][..], Role::Leader),
        (3, &[(2, true), (3, true)], Role::Leader),
        (3, &[(2, true)], Role::Leader),
        (5, &[(2, true), (3, true), (4, true), (5, true)], Role::Leader),
        (5, &[(2, true), (3, true), (4, true)], Role::Leader),
        (5, &[(2, true), (3, true)], Role::Leader),
        (3, &[], Role::Candidate),
        (5, &[(2, true)], Role::Candidate),
        (5, &[(2, false), (3, false)], Role::Candidate),
        (5, &[], Role::Candidate),
    ] {
        let ids: Vec<u64> = (1..=size).collect();
        let mut node = fresh(1, &ids);
        node.campaign();
        testing::settle(&mut node);
        for (id, granted) in votes {
            let vote = Message { reject: !granted, ..message(MessageKind::VoteResponse, *id, 1, 1) };
            testing::step(&mut node, vote).unwrap();
        }
        assert_eq!((role(&node), term(&node)), (want, 1), "{size} {votes:?}");
    }
}

#[test]
fn test_follower_vote_2aa() {
    for (before, candidate, reject) in
        [(0, 1, false), (0, 2, false), (1, 1, false), (2, 2, false), (1, 2, true), (2, 1, true)]
    {
        let mut node = fresh(1, &[1, 2, 3]);
        testing::set_term_and_vote(&mut node, Term(1), PeerId(before));
        testing::step(&mut node, message(MessageKind::Vote, candidate, 1, 1)).unwrap();
        let (_, answers) = testing::take_messages(&mut node);
        let want = Message { reject, ..message(MessageKind::VoteResponse, 1, candidate, 1) };
        assert_eq!(answers, [want], "{before} {candidate}");
    }
}

#[test]
fn test_candidate_fallback_2aa() {
    for at in [1, 2] {
        let mut node = fresh(1, &[1, 2, 3]);
        node.campaign();
        assert_eq!(role(&node), Role::Candidate);
        testing::step(&mut node, message(MessageKind::Append, 2, 1, at)).unwrap();
        assert_eq!((role(&node), term(&node)), (Role::Follower, at));
    }
}

fn begin_round(node: &mut RawNode<pinion_raft::MemoryStorage>, state: Role, leader: u64) {
    if state == Role::Candidate {
        testing::become_candidate(node);
    } else {
        let next = term(node) + 1;
        testing::become_follower(node, Term(next), PeerId(leader));
    }
}

fn nonleader_election_timeout_randomized(state: Role) {
    let mut node = fresh(1, &[1, 2, 3]);
    let mut seen = [false; 21];
    for _ in 0..500 {
        begin_round(&mut node, state, 2);
        let mut time = 0;
        while read_messages(&mut node).is_empty() {
            node.tick();
            time += 1;
        }
        seen[time] = true;
    }
    assert!(seen[11..20].iter().all(|seen| *seen), "{seen:?}");
}

#[test]
fn test_follower_election_timeout_randomized_2aa() {
    nonleader_election_timeout_randomized(Role::Follower);
}

#[test]
fn test_candidate_election_timeout_randomized_2aa() {
    nonleader_election_timeout_randomized(Role::Candidate);
}

fn nonleaders_election_timeout_nonconflict(state: Role) {
    let mut nodes: Vec<_> = (1..=5).map(|id| fresh(id, &[1, 2, 3, 4, 5])).collect();
    let mut conflicts = 0;
    for _ in 0..1000 {
        for node in &mut nodes {
            begin_round(node, state, 0);
        }
        let mut timeouts = 0;
        while timeouts == 0 {
            for node in &mut nodes {
                node.tick();
                timeouts += u32::from(!read_messages(node).is_empty());
            }
        }
        conflicts += u32::from(timeouts > 1);
    }
    assert!(conflicts <= 300, "{conflicts} of 1000");
}

#[test]
fn test_followers_election_timeout_nonconflict_2aa() {
    nonleaders_election_timeout_nonconflict(Role::Follower);
}

#[test]
fn test_candidates_election_timeout_nonconflict_2aa() {
    nonleaders_election_timeout_nonconflict(Role::Candidate);
}

/// In the table among the rows of 2AB, and a vote all the same.
#[test]
fn test_recv_message_type_msg_request_vote_2ab() {
    let follower = |index, log_term, vote, reject| (Role::Follower, index, log_term, vote, reject);
    let mut cases = vec![
        follower(3, 2, 2, false),
        follower(3, 2, 1, true),
        (Role::Leader, 3, 3, 1, true),
        (Role::Candidate, 3, 3, 1, true),
    ];
    for index in 0..=3 {
        for log_term in 0..=3 {
            // The node's own log ends at index 2 of term 2.
            let up_to_date = log_term > 2 || (log_term == 2 && index >= 2);
            cases.push(follower(index, log_term, 0, !up_to_date));
        }
    }
    for (state, index, log_term, vote, reject) in cases {
        let at = log_term.max(2);
        let storage = storage_of(&[1], &[(1, 2), (2, 2)]);
        let before = if state == Role::Follower { at } else { at - 1 };
        storage.set_hard_state(HardState { vote: PeerId(vote), ..hard_state(before, 0) });
        let mut node = node(1, &storage);
        match state {
            Role::Leader => become_leader(&mut node),
            Role::Candidate => testing::become_candidate(&mut node),
            _ => {}
        }
        testing::take_messages(&mut node);
        let request = Message {
            log_term: Term(log_term),
            index: LogIndex(index),
            ..message(MessageKind::Vote, 2, 1, at)
        };
        testing::step(&mut node, request).unwrap();
        let (_, answers) = testing::take_messages(&mut node);
        let want = Message { reject, ..message(MessageKind::VoteResponse, 1, 2, at) };
        let want = if reject { want } else { vote_for(index, log_term, want) };
        assert_eq!(answers, [want], "{state} {index} {log_term} {vote}");
    }
}

#[test]
fn test_voter_2ab() {
    for (entries, log_term, index, reject) in [
        (&[(1, 1)][..], 1, 1, false),
        (&[(1, 1)], 1, 2, false),
        (&[(1, 1), (2, 1)], 1, 1, true),
        (&[(1, 1)], 2, 1, false),
        (&[(1, 1)], 2, 2, false),
        (&[(1, 1), (2, 1)], 2, 1, false),
        (&[(1, 2)], 1, 1, true),
        (&[(1, 2)], 1, 2, true),
        (&[(1, 2), (2, 1)], 1, 1, true),
    ] {
        let mut node = node(1, &storage_of(&[1, 2], entries));
        let request = Message {
            log_term: Term(log_term),
            index: LogIndex(index),
            ..message(MessageKind::Vote, 2, 1, 3)
        };
        testing::step(&mut node, request).unwrap();
        let want = Message { reject, ..message(MessageKind::VoteResponse, 1, 2, 3) };
        let want = if reject { want } else { vote_for(index, log_term, want) };
        assert_eq!(read_messages(&mut node), [want], "{entries:?} {log_term} {index}");
    }
}

#[test]
fn test_vote_request_2ab() {
    for (entries, want) in [(&[(1, 1)][..], 2), (&[(1, 1), (2, 2)], 3)] {
        let mut node = fresh(1, &[1, 2, 3]);
        let append = Message { entries: entries_of(entries), ..message(MessageKind::Append, 2, 1, want - 1) };
        testing::step(&mut node, append).unwrap();
        read_messages(&mut node);
        while role(&node) != Role::Candidate {
            node.tick();
        }
        let (index, log_term) = entries[entries.len() - 1];
        let want = [2, 3].map(|to| Message {
            index: LogIndex(index),
            log_term: Term(log_term),
            ..message(MessageKind::Vote, 1, to, want)
        });
        assert_eq!(read_messages(&mut node), want);
    }
}

#[test]
fn test_all_server_stepdown_2ab() {
    for (state, last) in [(Role::Follower, 0), (Role::Candidate, 0), (Role::Leader, 1)] {
        let mut node = in_state(state, 1);
        for (kind, leader) in [(MessageKind::Vote, NO_PEER), (MessageKind::Append, PeerId(2))] {
            let higher = Message { log_term: Term(3), ..message(kind, 2, 1, 3) };
            testing::step(&mut node, higher).unwrap();
            assert_eq!((role(&node), term(&node)), (Role::Follower, 3), "{state} {kind}");
            assert_eq!((node.last_index().0, log(&node).len()), (last, usize::try_from(last).unwrap()));
            assert_eq!(node.soft_state().leader, leader, "{state} {kind}");
        }
    }
}
