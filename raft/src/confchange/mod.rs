//! From one configuration to the next, as pure functions: Ongaro's thesis §4.3, with learners.
//!
//! A change of at most one voter is *simple*: the majorities before and after overlap. Any other goes through a *joint*
//! configuration, in which both the old and the new majority must agree, and which is entered and left by entries of
//! their own. A voter that is demoted while joint stays a voter of the outgoing half until that is left.

mod restore;
#[cfg(test)]
mod tests;

use pinion_types::{LogIndex, PeerId};

pub use restore::restore;

use crate::tracker::{Configuration, Progress, ProgressMap, Tracker};
use crate::{ConfChange, ConfChangeError, ConfChangeKind, ConfChangeSingle};

/// A configuration in the making.
#[derive(Debug)]
pub struct Changer<'a> {
    tracker: &'a Tracker,
    last_index: LogIndex,
    configuration: Configuration,
    progress: ProgressMap,
}

type Changed = Result<(Configuration, ProgressMap), ConfChangeError>;

impl<'a> Changer<'a> {
    /// Starts from the configuration in force. `last_index` is where new members are probed first.
    pub fn new(tracker: &'a Tracker, last_index: LogIndex) -> Self {
        Self {
            tracker,
            last_index,
            configuration: tracker.configuration.clone(),
            progress: tracker.progress.clone(),
        }
    }

    /// Takes the way that the change asks for.
    pub fn change(self, change: &ConfChange) -> Changed {
        if change.leaves_joint() {
            self.leave_joint()
        } else if let Some(auto_leave) = change.enters_joint() {
            self.enter_joint(auto_leave, &change.changes)
        } else {
            self.simple(&change.changes)
        }
    }

    /// Changes at most one voter, and any number of learners.
    pub fn simple(mut self, changes: &[ConfChangeSingle]) -> Changed {
        self.check()?;
        self.simple_step(changes)?;
        self.finish()
    }

    /// Enters the joint configuration of the one in force and the one that the changes lead to.
    pub fn enter_joint(mut self, auto_leave: bool, changes: &[ConfChangeSingle]) -> Changed {
        self.check()?;
        if self.configuration.voters.is_joint() {
            return Err(ConfChangeError::Refused("config is already joint"));
        }
        if self.configuration.voters.incoming.is_empty() {
            return Err(ConfChangeError::Refused("can't make a zero-voter config joint"));
        }
        self.configuration.voters.outgoing = self.configuration.voters.incoming.clone();
        self.apply(changes)?;
        self.configuration.auto_leave = auto_leave;
        self.finish()
    }

    /// Leaves the joint configuration for its incoming half.
    pub fn leave_joint(mut self) -> Changed {
        self.check()?;
        if !self.configuration.voters.is_joint() {
            return Err(ConfChangeError::Refused("can't leave a non-joint config"));
        }
        for id in std::mem::take(&mut self.configuration.learners_next).ids() {
            self.configuration.learners.insert(*id);
            if let Some(progress) = self.progress.get_mut(*id) {
                progress.is_learner = true;
            }
        }
        for id in std::mem::take(&mut self.configuration.voters.outgoing).ids() {
            if !self.configuration.voters.contains(*id) && !self.configuration.learners.contains(*id) {
                self.progress.remove(*id);
            }
        }
        self.configuration.auto_leave = false;
        self.finish()
    }

    fn simple_step(&mut self, changes: &[ConfChangeSingle]) -> Result<(), ConfChangeError> {
        if self.configuration.voters.is_joint() {
            return Err(ConfChangeError::Refused("can't apply simple config change in joint config"));
        }
        let before = self.configuration.voters.incoming.clone();
        self.apply(changes)?;
        let after = &self.configuration.voters.incoming;
        let added = after.ids().iter().filter(|id| !before.contains(**id)).count();
        let removed = before.ids().iter().filter(|id| !after.contains(**id)).count();
        if added + removed > 1 {
            return Err(ConfChangeError::Refused(
                "more than one voter changed without entering joint config",
            ));
        }
        Ok(())
    }

    fn apply(&mut self, changes: &[ConfChangeSingle]) -> Result<(), ConfChangeError> {
        for change in changes.iter().filter(|change| change.peer != crate::NO_PEER) {
            match change.kind {
                ConfChangeKind::AddVoter => self.make_voter(change.peer),
                ConfChangeKind::AddLearner => self.make_learner(change.peer),
                ConfChangeKind::Remove => self.remove(change.peer),
                ConfChangeKind::Update => {}
            }
        }
        if self.configuration.voters.incoming.is_empty() {
            return Err(ConfChangeError::Refused("removed all voters"));
        }
        Ok(())
    }

    fn make_voter(&mut self, id: PeerId) {
        let Some(progress) = self.progress.get_mut(id) else { return self.add_member(id, false) };
        progress.is_learner = false;
        self.configuration.learners.remove(id);
        self.configuration.learners_next.remove(id);
        self.configuration.voters.incoming.insert(id);
    }

    /// A voter that becomes a learner keeps its progress. While it still votes in the outgoing half it can't be a
    /// learner yet, since the two are disjoint: it is put down for later.
    fn make_learner(&mut self, id: PeerId) {
        let Some(progress) = self.progress.get(id) else { return self.add_member(id, true) };
        if progress.is_learner {
            return;
        }
        let mut progress = progress.clone();
        self.remove(id);
        if self.configuration.voters.outgoing.contains(id) {
            self.configuration.learners_next.insert(id);
        } else {
            progress.is_learner = true;
            self.configuration.learners.insert(id);
        }
        self.progress.insert(id, progress);
    }

    fn remove(&mut self, id: PeerId) {
        if !self.progress.contains(id) {
            return;
        }
        self.configuration.voters.incoming.remove(id);
        self.configuration.learners.remove(id);
        self.configuration.learners_next.remove(id);
        // Who still votes in the outgoing half is still sent the log.
        if !self.configuration.voters.outgoing.contains(id) {
            self.progress.remove(id);
        }
    }

    fn add_member(&mut self, id: PeerId, is_learner: bool) {
        if is_learner {
            self.configuration.learners.insert(id);
        } else {
            self.configuration.voters.incoming.insert(id);
        }
        // Probing begins at the end of the log; an empty follower rejects that once and then gets a snapshot.
        let next = self.last_index.max(LogIndex(1));
        let mut progress = Progress::new(next, self.tracker.new_inflights(), is_learner);
        // A new member counts as active, so that a leader does not step down before it was ever asked.
        progress.recently_active = true;
        self.progress.insert(id, progress);
    }

    fn finish(self) -> Changed {
        self.check()?;
        Ok((self.configuration, self.progress))
    }

    fn check(&self) -> Result<(), ConfChangeError> {
        check_invariants(&self.configuration, &self.progress)
    }
}

fn check_invariants(configuration: &Configuration, progress: &ProgressMap) -> Result<(), ConfChangeError> {
    let broken = |reason, peer| Err(ConfChangeError::Invariant { reason, peer });
    let (voters, learners) = (&configuration.voters, &configuration.learners);
    let is_learner = |id| progress.get(id).is_some_and(|progress| progress.is_learner);
    for id in voters.ids().ids().iter().chain(learners.ids()).chain(configuration.learners_next.ids()) {
        if !progress.contains(*id) {
            return broken("a member without progress", *id);
        }
    }
    for id in configuration.learners_next.ids() {
        if !voters.outgoing.contains(*id) {
            return broken("a learner to be that does not vote in the outgoing half", *id);
        }
        if is_learner(*id) {
            return broken("a learner to be that is a learner already", *id);
        }
    }
    for id in learners.ids() {
        if voters.contains(*id) {
            return broken("a learner that votes", *id);
        }
        if !is_learner(*id) {
            return broken("a learner whose progress says otherwise", *id);
        }
    }
    if !voters.is_joint() && (configuration.auto_leave || !configuration.learners_next.is_empty()) {
        return broken("something of a joint configuration in one that is not", crate::NO_PEER);
    }
    Ok(())
}
