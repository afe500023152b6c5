//! The golden transcripts of this module are replayed by tests/goldens.rs.

use super::*;
use crate::{ConfChangeTransition, ConfState};

fn tracker_of(state: &ConfState) -> Tracker {
    let mut tracker = Tracker::new(8, u64::MAX);
    let (configuration, progress) = restore(&tracker, LogIndex(10), state).unwrap();
    tracker.configuration = configuration;
    tracker.progress = progress;
    tracker
}

fn ids(list: &[u64]) -> Vec<PeerId> {
    list.iter().copied().map(PeerId).collect()
}

#[test]
fn every_kind_of_stored_configuration_is_restored_as_it_was() {
    let states = [
        ConfState::default(),
        ConfState { voters: ids(&[1, 2, 3]), ..ConfState::default() },
        ConfState { voters: ids(&[1, 2, 3]), learners: ids(&[4, 5, 6]), ..ConfState::default() },
        ConfState {
            voters: ids(&[1, 2, 3]),
            voters_outgoing: ids(&[1, 2, 4, 6]),
            learners: ids(&[5]),
            learners_next: ids(&[4]),
            auto_leave: true,
        },
    ];
    for state in states {
        assert!(tracker_of(&state).configuration.to_conf_state().is_equivalent(&state), "{state:?}");
    }
}

#[test]
fn a_stored_configuration_that_contradicts_itself_is_refused() {
    let states = [
        ConfState { learners: ids(&[1]), ..ConfState::default() },
        ConfState { voters: ids(&[1]), learners: ids(&[1]), ..ConfState::default() },
        ConfState { voters: ids(&[1, 1]), ..ConfState::default() },
        ConfState { voters: ids(&[0]), ..ConfState::default() },
        ConfState { voters: ids(&[1]), learners_next: ids(&[2]), ..ConfState::default() },
        ConfState { voters: ids(&[1]), auto_leave: true, ..ConfState::default() },
    ];
    for state in states {
        assert!(restore(&Tracker::new(8, u64::MAX), LogIndex(1), &state).is_err(), "{state:?}");
    }
}

#[test]
fn a_change_of_two_voters_goes_through_a_joint_configuration_by_itself() {
    let tracker = tracker_of(&ConfState { voters: ids(&[1]), ..ConfState::default() });
    let add = |peer| ConfChangeSingle { kind: ConfChangeKind::AddVoter, peer: PeerId(peer) };
    let change = ConfChange::joint(ConfChangeTransition::Auto, vec![add(2), add(3)]);
    let (configuration, _) = Changer::new(&tracker, LogIndex(10)).change(&change).unwrap();
    assert_eq!(configuration.to_string(), "voters=(1 2 3)&&(1) autoleave");
}
