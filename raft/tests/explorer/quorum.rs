//! What a quorum is, said once more and as plainly as possible: the judge must not lean on the code that it judges.

use pinion_raft::ConfState;
use pinion_types::PeerId;

fn is_majority(voters: &[PeerId], yes: impl Fn(PeerId) -> bool) -> bool {
    let count = voters.iter().filter(|id| yes(**id)).count();
    voters.is_empty() || 2 * count > voters.len()
}

/// Whether those that say yes are a quorum of both halves.
pub(crate) fn is_quorum(incoming: &[PeerId], outgoing: &[PeerId], yes: impl Fn(PeerId) -> bool) -> bool {
    is_majority(incoming, &yes) && is_majority(outgoing, &yes)
}

/// Whether a quorum of one configuration need not meet every quorum of the other.
pub(crate) fn may_miss(one: &ConfState, other: &ConfState) -> bool {
    let mut ids: Vec<PeerId> = [&one.voters, &one.voters_outgoing, &other.voters, &other.voters_outgoing]
        .into_iter()
        .flatten()
        .copied()
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let is_in = |set: u32, id: PeerId| {
        ids.iter().position(|one| *one == id).is_some_and(|place| set >> place & 1 == 1)
    };
    (0..1_u32 << ids.len()).any(|set| {
        is_quorum(&one.voters, &one.voters_outgoing, |id| is_in(set, id))
            && is_quorum(&other.voters, &other.voters_outgoing, |id| !is_in(set, id))
    })
}

#[test]
fn quorums_meet_after_one_step_and_not_after_two() {
    let conf = |voters: &[u64], outgoing: &[u64]| ConfState {
        voters: voters.iter().copied().map(PeerId).collect(),
        voters_outgoing: outgoing.iter().copied().map(PeerId).collect(),
        ..ConfState::default()
    };
    assert!(!may_miss(&conf(&[1, 2, 3], &[]), &conf(&[1, 2, 3, 4], &[])));
    assert!(may_miss(&conf(&[1, 2, 3], &[]), &conf(&[1, 2, 3, 4, 5], &[])));
    assert!(!may_miss(&conf(&[1, 2, 3], &[]), &conf(&[3, 4, 5], &[1, 2, 3])));
    assert!(!may_miss(&conf(&[3, 4, 5], &[]), &conf(&[3, 4, 5], &[1, 2, 3])));
}
