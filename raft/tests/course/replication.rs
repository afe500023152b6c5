//! Project 2A "2AB": the log.

use bytes::Bytes;
use pinion_raft::{HardState, Message, MessageKind, Role, testing};
use pinion_types::{LogIndex, PeerId, Term};

use crate::support::*;

const DATA: &str = "somedata";

#[test]
fn test_progress_leader_2ab() {
    let mut node = fresh(1, &[1, 2]);
    become_leader(&mut node);
    for index in 1..=5 {
        let progress = node.tracker().progress.get(PeerId(1)).unwrap();
        assert_eq!((progress.matched.0, progress.next.0), (index, index + 1));
        node.propose(Bytes::from_static(b"foo")).unwrap();
        testing::settle(&mut node);
    }
}

#[test]
fn test_leader_election_overwrite_newer_logs_2ab() {
    let ids = [1, 2, 3, 4, 5];
    let nodes = ids.map(|id| {
        let (entries, state) = match id {
            1 | 2 => (&[(1, 1)][..], hard_state(1, 0)),
            3 => (&[(1, 2)][..], hard_state(2, 0)),
            _ => (&[][..], HardState { vote: PeerId(3), ..hard_state(2, 0) }),
        };
        let storage = storage_of(&ids, entries);
        storage.set_hard_state(state);
        Some(node(id, &storage))
    });
    let mut network = Network::with(nodes.into());
    // A quorum knows of the election of term 2.
    network.hup(1);
    assert_eq!((role(network.node(1)), term(network.node(1))), (Role::Follower, 2));
    network.hup(1);
    assert_eq!((role(network.node(1)), term(network.node(1))), (Role::Leader, 3));
    for (id, node) in network.alive() {
        assert_eq!(log(node), [(1, 1), (2, 3)], "{id}");
    }
}

#[test]
fn test_log_replication_2ab() {
    for (again, want) in [(false, 2), (true, 4)] {
        let mut network = Network::of(&[true; 3]);
        network.hup(1);
        network.propose(1, DATA);
        if again {
            network.hup(2);
            network.propose(1, "passed on by a follower");
        }
        let proposed: &[&[u8]] =
            if again { &[DATA.as_bytes(), b"passed on by a follower"] } else { &[DATA.as_bytes()] };
        for (id, node) in network.alive() {
            assert_eq!(committed(node), want, "{id}");
            let applied = network.applied[&id].iter().filter(|entry| !entry.data.is_empty());
            assert!(applied.map(|entry| &entry.data[..]).eq(proposed.iter().copied()), "{id}");
        }
    }
}

#[test]
fn test_single_node_commit_2ab() {
    let mut network = Network::of(&[true]);
    network.hup(1);
    network.propose(1, DATA);
    network.propose(1, DATA);
    assert_eq!(committed(network.node(1)), 3);
}

#[test]
fn test_commit_without_new_term_entry_2ab() {
    let mut network = Network::of(&[true; 5]);
    network.hup(1);
    for other in [3, 4, 5] {
        network.cut(1, other);
    }
    network.propose(1, DATA);
    network.propose(1, DATA);
    assert_eq!(committed(network.node(1)), 1);
    network.recover();
    network.hup(2);
    assert_eq!(committed(network.node(1)), 4);
}

#[test]
fn test_commit_with_heartbeat_2ab() {
    let mut network = Network::of(&[true; 5]);
    network.hup(1);
    network.isolate(5);
    network.propose(1, DATA);
    network.propose(1, DATA);
    network.recover();
    assert_eq!(committed(network.node(5)), 1);
    network.beat(1);
    assert_eq!(committed(network.node(5)), 3);
}

#[test]
fn test_dueling_candidates_2ab() {
    let mut network = Network::of(&[true; 3]);
    network.cut(1, 3);
    network.hup(1);
    network.hup(3);
    assert_eq!((role(network.node(1)), role(network.node(3))), (Role::Leader, Role::Candidate));
    network.recover();
    network.hup(3);
    for (id, entries) in [(1, &[(1, 1)][..]), (2, &[(1, 1)]), (3, &[])] {
        let node = network.node(id);
        assert_eq!((role(node), term(node)), (Role::Follower, 2), "{id}");
        assert_eq!((log(node), committed(node)), (entries.to_vec(), u64::try_from(entries.len()).unwrap()));
    }
}

#[test]
fn test_candidate_concede_2ab() {
    let mut network = Network::of(&[true; 3]);
    network.isolate(1);
    network.hup(1);
    network.hup(3);
    network.recover();
    network.beat(3);
    network.propose(3, DATA);
    network.beat(3);
    assert_eq!((role(network.node(1)), term(network.node(1))), (Role::Follower, 1));
    for (id, node) in network.alive() {
        assert_eq!((log(node), committed(node)), (vec![(1, 1), (2, 1)], 2), "{id}");
    }
}

#[test]
fn test_old_messages_2ab() {
    let mut network = Network::of(&[true; 3]);
    for id in [1, 2, 1] {
        network.hup(id);
    }
    // A leader whose term is over tries to make progress.
    network.send(Message { entries: entries_of(&[(3, 2)]), ..message(MessageKind::Append, 2, 1, 2) });
    network.propose(1, DATA);
    for (id, node) in network.alive() {
        assert_eq!((log(node), committed(node)), (vec![(1, 1), (2, 2), (3, 3), (4, 3)], 4), "{id}");
    }
}

#[test]
fn test_proposal_2ab() {
    for (alive, succeeds) in [
        (&[true, true, true][..], true),
        (&[true, true, false], true),
        (&[true, false, false], false),
        (&[true, false, false, true], false),
        (&[true, false, false, true, true], true),
    ] {
        let mut network = Network::of(alive);
        network.hup(1);
        network.propose(1, DATA);
        let want = if succeeds { (vec![(1, 1), (2, 1)], 2) } else { (vec![], 0) };
        for (id, node) in network.alive() {
            assert_eq!((log(node), committed(node)), want, "{alive:?} {id}");
        }
        assert_eq!(term(network.node(1)), 1);
    }
}

#[test]
fn test_handle_message_type_msg_append_2ab() {
    // The append's (index, term, commit, entries), then last index, commit index, rejection.
    for (index, log_term, commit, entries, want) in [
        (2, 3, 3, &[][..], (2, 0, true)),
        (3, 3, 3, &[], (2, 0, true)),
        (1, 1, 1, &[], (2, 1, false)),
        (0, 0, 1, &[(1, 2)], (1, 1, false)),
        (2, 2, 3, &[(3, 2), (4, 2)], (4, 3, false)),
        (2, 2, 4, &[(3, 2)], (3, 3, false)),
        (1, 1, 4, &[(2, 2)], (2, 2, false)),
        (1, 1, 3, &[], (2, 1, false)),
        (1, 1, 3, &[(2, 2)], (2, 2, false)),
        (2, 2, 3, &[], (2, 2, false)),
        (2, 2, 4, &[], (2, 2, false)),
    ] {
        let mut node = node(1, &storage_of(&[1], &[(1, 1), (2, 2)]));
        testing::become_follower(&mut node, Term(2), PeerId(0));
        testing::step(&mut node, append(index, log_term, commit, entries)).unwrap();
        let answers = read_messages(&mut node);
        assert_eq!(answers.len(), 1);
        let got = (node.last_index().0, committed(&node), answers[0].reject);
        assert_eq!(got, want, "{index} {log_term} {commit} {entries:?}");
    }
}

/// An append of term 2, from 2 to 1.
fn append(index: u64, log_term: u64, commit: u64, entries: &[(u64, u64)]) -> Message {
    Message {
        index: LogIndex(index),
        log_term: Term(log_term),
        commit: LogIndex(commit),
        entries: entries_of(entries),
        ..message(MessageKind::Append, 2, 1, 2)
    }
}

#[test]
fn test_heartbeat_update_commit_2ab() {
    for (failed, succeeded) in [(1, 1), (5, 3), (5, 10)] {
        let mut network = Network::of(&[true; 3]);
        network.hup(1);
        network.isolate(1);
        for _ in 0..failed {
            network.propose(1, "");
        }
        assert!(committed(network.node(1)) <= 1);
        network.hup(2);
        for _ in 0..succeeded {
            network.propose(2, "");
        }
        for id in [2, 3] {
            assert_eq!(committed(network.node(id)), 2 + succeeded);
        }
        network.recover();
        network.ignore(MessageKind::Append);
        network.beat(2);
        assert!(committed(network.node(1)) <= 1);
    }
}

#[test]
fn test_leader_increase_next_2ab() {
    let leader = node(1, &storage_of(&[1, 2], &[(1, 1), (2, 1), (3, 1)]));
    let others = [2, 3].map(|id| Some(fresh(id, &[1, 2, 3])));
    let mut network = Network::with([Some(leader)].into_iter().chain(others).collect());
    network.hup(1);
    network.propose(1, DATA);
    // Three entries, the empty one, the proposal, and the next after it.
    assert_eq!(network.node(1).tracker().progress.get(PeerId(2)).unwrap().next, LogIndex(6));
}

#[test]
fn test_leader_start_replication_2ab() {
    let mut node = fresh(1, &[1, 2, 3]);
    become_leader(&mut node);
    commit_noop(&mut node);
    let last = node.last_index();
    node.propose(Bytes::from_static(DATA.as_bytes())).unwrap();
    assert_eq!((node.last_index(), committed(&node)), (last.next(), last.0));
    let new = entry(last.next().0, 1, DATA);
    let want = [2, 3].map(|to| Message {
        index: last,
        log_term: Term(1),
        commit: last,
        entries: vec![new.clone()],
        ..message(MessageKind::Append, 1, to, 1)
    });
    assert_eq!(read_messages(&mut node), want);
    assert_eq!(testing::unstable_entries(&node), [new]);
}

#[test]
fn test_leader_commit_entry_2ab() {
    let mut node = fresh(1, &[1, 2, 3]);
    become_leader(&mut node);
    commit_noop(&mut node);
    let next = node.last_index().0 + 1;
    node.propose(Bytes::from_static(DATA.as_bytes())).unwrap();
    for append in read_messages(&mut node) {
        testing::step(&mut node, accept(&append)).unwrap();
    }
    assert_eq!(committed(&node), next);
    let sent = read_messages(&mut node);
    assert_eq!(sent.iter().map(|message| message.to.0).collect::<Vec<_>>(), [2, 3]);
    for message in sent {
        assert_eq!((message.kind, message.commit.0), (MessageKind::Append, next));
    }
    assert_eq!(node.ready().committed_entries, [entry(next, 1, DATA)]);
}

#[test]
fn test_leader_acknowledge_commit_2ab() {
    for (size, acceptors, want) in [
        (1, &[][..], true),
        (3, &[], false),
        (3, &[2], true),
        (3, &[2, 3], true),
        (5, &[], false),
        (5, &[2], false),
        (5, &[2, 3], true),
        (5, &[2, 3, 4], true),
        (5, &[2, 3, 4, 5], true),
    ] {
        let ids: Vec<u64> = (1..=size).collect();
        let mut node = fresh(1, &ids);
        become_leader(&mut node);
        commit_noop(&mut node);
        let last = node.last_index().0;
        node.propose(Bytes::from_static(DATA.as_bytes())).unwrap();
        for append in read_messages(&mut node) {
            if acceptors.contains(&append.to.0) {
                testing::step(&mut node, accept(&append)).unwrap();
            }
        }
        assert_eq!(committed(&node) > last, want, "{size} {acceptors:?}");
    }
}

#[test]
fn test_leader_commit_preceding_entries_2ab() {
    for entries in [&[][..], &[(1, 2)], &[(1, 1), (2, 2)], &[(1, 1)]] {
        let storage = storage_of(&[1, 2, 3], entries);
        storage.set_hard_state(hard_state(2, 0));
        let mut node = node(1, &storage);
        become_leader(&mut node);
        node.propose(Bytes::from_static(DATA.as_bytes())).unwrap();
        for append in read_messages(&mut node) {
            testing::step(&mut node, accept(&append)).unwrap();
        }
        let last = u64::try_from(entries.len()).unwrap();
        let mut want = entries_of(entries);
        want.extend([entry(last + 1, 3, ""), entry(last + 2, 3, DATA)]);
        assert_eq!(node.ready().committed_entries, want);
    }
}

#[test]
fn test_follower_commit_entry_2ab() {
    for (commands, commit) in [
        (&["some data"][..], 1),
        (&["some data", "some data2"], 2),
        (&["some data2", "some data"], 2),
        (&["some data", "some data2"], 1),
    ] {
        let mut node = fresh(1, &[1, 2, 3]);
        testing::become_follower(&mut node, Term(1), PeerId(2));
        let entries: Vec<_> = (1..).zip(commands).map(|(index, data)| entry(index, 1, data)).collect();
        let append = Message {
            entries: entries.clone(),
            commit: LogIndex(commit),
            ..message(MessageKind::Append, 2, 1, 1)
        };
        testing::step(&mut node, append).unwrap();
        assert_eq!(committed(&node), commit);
        assert_eq!(node.ready().committed_entries, entries[..usize::try_from(commit).unwrap()]);
    }
}

#[test]
fn test_follower_check_message_type_msg_append_2ab() {
    for (log_term, index, reject) in [(0, 0, false), (1, 1, false), (2, 2, false), (1, 2, true), (3, 3, true)]
    {
        let storage = storage_of(&[1, 2, 3], &[(1, 1), (2, 2)]);
        storage.set_hard_state(hard_state(1, 1));
        let mut node = node(1, &storage);
        testing::become_follower(&mut node, Term(2), PeerId(2));
        testing::step(&mut node, append(index, log_term, 0, &[])).unwrap();
        let answers = read_messages(&mut node);
        assert_eq!(answers.len(), 1);
        assert_eq!((answers[0].term.0, answers[0].reject), (2, reject), "{log_term} {index}");
    }
}

#[test]
fn test_follower_append_entries_2ab() {
    for (index, log_term, entries, all, unstable) in [
        (2, 2, &[(3, 3)][..], &[(1, 1), (2, 2), (3, 3)][..], &[(3, 3)][..]),
        (1, 1, &[(2, 3), (3, 4)], &[(1, 1), (2, 3), (3, 4)], &[(2, 3), (3, 4)]),
        (0, 0, &[(1, 1)], &[(1, 1), (2, 2)], &[]),
        (0, 0, &[(1, 3)], &[(1, 3)], &[(1, 3)]),
    ] {
        let mut node = node(1, &storage_of(&[1, 2, 3], &[(1, 1), (2, 2)]));
        testing::become_follower(&mut node, Term(2), PeerId(2));
        testing::step(&mut node, append(index, log_term, 0, entries)).unwrap();
        assert_eq!(log(&node), all);
        assert_eq!(testing::unstable_entries(&node), entries_of(unstable));
    }
}

#[test]
fn test_leader_sync_follower_log_2ab() {
    fn of_terms(terms: &[u64]) -> Vec<(u64, u64)> {
        (1..).zip(terms.iter().copied()).collect()
    }
    let leader_log = of_terms(&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6]);
    for follower_terms in [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6][..],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ] {
        let storages =
            [storage_of(&[1, 2, 3], &leader_log), storage_of(&[1, 2, 3], &of_terms(follower_terms))];
        storages[0].set_hard_state(hard_state(8, 10));
        storages[1].set_hard_state(hard_state(7, 0));
        let nodes = vec![Some(node(1, &storages[0])), Some(node(2, &storages[1])), None];
        let mut network = Network::with(nodes);
        network.hup(1);
        // The follower may not vote for it; the third member does.
        network.send(vote_for(10, 6, message(MessageKind::VoteResponse, 3, 1, 9)));
        network.propose(1, "");
        let want = (log(network.node(1)), committed(network.node(1)));
        assert_eq!(want.1, 12);
        assert_eq!((log(network.node(2)), committed(network.node(2))), want, "{follower_terms:?}");
    }
}

#[test]
fn test_leader_only_commits_log_from_current_term_2ab() {
    for (index, want) in [(1, 0), (2, 0), (3, 3)] {
        let storage = storage_of(&[1, 2], &[(1, 1), (2, 2)]);
        storage.set_hard_state(hard_state(2, 0));
        let mut node = node(1, &storage);
        become_leader(&mut node);
        read_messages(&mut node);
        node.propose(Bytes::new()).unwrap();
        testing::settle(&mut node);
        let acknowledged =
            Message { index: LogIndex(index), ..message(MessageKind::AppendResponse, 2, 1, 3) };
        testing::step(&mut node, acknowledged).unwrap();
        assert_eq!(committed(&node), want, "{index}");
    }
}
