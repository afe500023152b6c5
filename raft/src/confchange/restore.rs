//! A configuration from the form in which it is stored.

use pinion_types::{LogIndex, PeerId};

use super::{Changed, Changer};
use crate::tracker::Tracker;
use crate::{ConfChangeError, ConfChangeKind, ConfChangeSingle, ConfState};

/// Builds the configuration that `state` describes, from nothing, by the same steps that could have led there.
///
/// `tracker` must be empty; it gives the bounds of the windows.
///
/// [`ConfChangeError::Invariant`] when `state` contradicts itself.
pub fn restore(tracker: &Tracker, last_index: LogIndex, state: &ConfState) -> Changed {
    let mut changer = Changer::new(tracker, last_index);
    for id in &state.voters_outgoing {
        changer.simple_step(&[single(ConfChangeKind::AddVoter, *id)])?;
    }
    let mut incoming: Vec<ConfChangeSingle> = Vec::new();
    incoming.extend(state.voters_outgoing.iter().map(|id| single(ConfChangeKind::Remove, *id)));
    incoming.extend(state.voters.iter().map(|id| single(ConfChangeKind::AddVoter, *id)));
    incoming.extend(state.learners.iter().map(|id| single(ConfChangeKind::AddLearner, *id)));
    incoming.extend(state.learners_next.iter().map(|id| single(ConfChangeKind::AddLearner, *id)));
    let (configuration, progress) = if state.voters_outgoing.is_empty() {
        for change in incoming {
            changer.simple_step(&[change])?;
        }
        changer.finish()?
    } else {
        changer.enter_joint(state.auto_leave, &incoming)?
    };
    if !configuration.to_conf_state().is_equivalent(state) {
        return Err(ConfChangeError::Invariant {
            reason: "a stored configuration that contradicts itself",
            peer: state.voters.first().copied().unwrap_or(crate::NO_PEER),
        });
    }
    Ok((configuration, progress))
}

fn single(kind: ConfChangeKind, peer: PeerId) -> ConfChangeSingle {
    ConfChangeSingle { kind, peer }
}
