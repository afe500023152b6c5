//! `committed` and `vote`: what a set of voters has decided.

use pinion_raft::quorum::{EVERYTHING, JointConfig, MajorityConfig, VoteResult};
use pinion_types::{LogIndex, PeerId};

use crate::script::Command;

fn ids(values: &[String]) -> Vec<PeerId> {
    values.iter().filter(|value| *value != "zero").map(|value| PeerId(value.parse().unwrap())).collect()
}

/// The ids of both halves in the order in which the values are given, without repetition.
fn order(incoming: &[PeerId], outgoing: &[PeerId]) -> Vec<PeerId> {
    let mut order: Vec<PeerId> = Vec::new();
    for id in incoming.iter().chain(outgoing) {
        if !order.contains(id) {
            order.push(*id);
        }
    }
    order
}

pub(crate) fn run(command: &Command) -> String {
    let (incoming, outgoing) = (ids(command.values("cfg")), ids(command.values("cfgj")));
    let order = order(&incoming, &outgoing);
    let given = |key: &str, id: PeerId| -> Option<String> {
        let place = order.iter().position(|other| *other == id)?;
        command.values(key).get(place).filter(|value| *value != "_").cloned()
    };
    let is_joint = !command.values("cfgj").is_empty();
    let majority: MajorityConfig = incoming.into_iter().collect();
    let joint = JointConfig { incoming: majority.clone(), outgoing: outgoing.into_iter().collect() };
    if command.name == "vote" {
        let vote = |id| given("votes", id).map(|vote| vote == "y");
        let result = if is_joint { joint.vote_result(vote) } else { majority.vote_result(vote) };
        return match result {
            VoteResult::Won => "VoteWon",
            VoteResult::Pending => "VotePending",
            VoteResult::Lost => "VoteLost",
        }
        .to_owned();
    }
    let acked = |id| given("idx", id).map(|index| LogIndex(index.parse().unwrap()));
    let (table, index) = if is_joint {
        (joint.describe(acked), joint.committed_index(acked))
    } else {
        (majority.describe(acked), majority.committed_index(acked))
    };
    if index == EVERYTHING { format!("{table}∞") } else { format!("{table}{index}") }
}
