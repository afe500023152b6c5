//! Project 3A: leadership is handed over.

use pinion_raft::{ConfChange, ConfChangeKind, MessageKind, Role, testing};
use pinion_types::PeerId;

use crate::support::*;

fn elected() -> Network {
    let mut network = Network::of(&[true; 3]);
    network.hup(1);
    assert_eq!(network.node(1).soft_state().leader, PeerId(1));
    network
}

/// A wish that leadership goes to `transferee`, which arrives at `to`.
fn transfer(network: &mut Network, transferee: u64, to: u64) {
    network.send(message(MessageKind::TransferLeader, transferee, to, 0));
}

fn check(network: &mut Network, role: Role, leader: u64) {
    let state = network.node(1).soft_state();
    assert_eq!((state.role, state.leader), (role, PeerId(leader)));
}

#[test]
fn test_leader_transfer_to_up_to_date_node_3a() {
    let mut network = elected();
    transfer(&mut network, 2, 1);
    check(&mut network, Role::Follower, 2);
    network.propose(1, "");
    transfer(&mut network, 1, 2);
    check(&mut network, Role::Leader, 1);
}

#[test]
fn test_leader_transfer_to_up_to_date_node_from_follower_3a() {
    let mut network = elected();
    transfer(&mut network, 2, 2);
    check(&mut network, Role::Follower, 2);
    network.propose(1, "");
    transfer(&mut network, 1, 1);
    check(&mut network, Role::Leader, 1);
}

#[test]
fn test_leader_transfer_to_slow_follower_3a() {
    let mut network = elected();
    network.isolate(3);
    network.propose(1, "");
    network.recover();
    assert_eq!(network.node(1).tracker().progress.get(PeerId(3)).unwrap().matched.0, 1);
    transfer(&mut network, 3, 1);
    check(&mut network, Role::Follower, 3);
}

#[test]
fn test_leader_transfer_after_snapshot_3a() {
    let mut network = elected();
    network.isolate(3);
    network.propose(1, "");
    network.compact(1);
    network.recover();
    assert_eq!(network.node(1).tracker().progress.get(PeerId(3)).unwrap().matched.0, 1);
    transfer(&mut network, 3, 1);
    let at = term(network.node(1));
    network.send(message(MessageKind::HeartbeatResponse, 3, 1, at));
    check(&mut network, Role::Follower, 3);
}

#[test]
fn test_leader_transfer_to_self_3a() {
    let mut network = elected();
    transfer(&mut network, 1, 1);
    check(&mut network, Role::Leader, 1);
}

#[test]
fn test_leader_transfer_to_non_existing_node_3a() {
    let mut network = elected();
    transfer(&mut network, 4, 1);
    check(&mut network, Role::Leader, 1);
}

#[test]
fn test_leader_transfer_receive_higher_term_vote_3a() {
    let mut network = elected();
    network.isolate(3);
    transfer(&mut network, 3, 1);
    assert_eq!(testing::transferee(network.node(1)), PeerId(3));
    network.hup(2);
    check(&mut network, Role::Follower, 2);
}

#[test]
fn test_leader_transfer_remove_node_3a() {
    let mut network = elected();
    let change = ConfChange::simple(ConfChangeKind::Remove, PeerId(3));
    network.node(1).apply_conf_change(&change).unwrap();
    transfer(&mut network, 3, 1);
    check(&mut network, Role::Leader, 1);
}

#[test]
fn test_leader_transfer_back_3a() {
    let mut network = elected();
    network.isolate(3);
    transfer(&mut network, 3, 1);
    transfer(&mut network, 1, 1);
    check(&mut network, Role::Leader, 1);
    assert_eq!(testing::transferee(network.node(1)), PeerId(0));
}

#[test]
fn test_leader_transfer_second_transfer_to_another_node_3a() {
    let mut network = elected();
    network.isolate(3);
    transfer(&mut network, 3, 1);
    transfer(&mut network, 2, 1);
    check(&mut network, Role::Follower, 2);
}

#[test]
fn test_transfer_non_member_3a() {
    let mut node = fresh(1, &[2, 3, 4]);
    testing::step(&mut node, message(MessageKind::TimeoutNow, 2, 1, 0)).unwrap();
    for from in [2, 3] {
        testing::step(&mut node, message(MessageKind::VoteResponse, from, 1, 0)).unwrap();
    }
    assert_eq!(role(&node), Role::Follower);
}
