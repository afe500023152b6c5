//! How often each action happened and each outcome was seen, so that a campaign in which one never did can't pass for one.

use std::fmt;

use crate::plan::Action;

/// Declares what may come of the actions.
macro_rules! outcomes {
    ($($(#[$doc:meta])* $outcome:ident,)*) => {
        /// What the actions may lead to, and must in a campaign that is worth its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Outcome {
            $($(#[$doc])* $outcome,)*
        }

        impl Outcome {
            pub(crate) const ALL: &[Self] = &[$(Self::$outcome,)*];
        }
    };
}

outcomes! {
    /// A read by index may be served.
    ReadAnswered,
    /// A member has put a snapshot in the place of its log.
    SnapshotRestored,
    /// A joint configuration is in force.
    JointEntered,
    /// It no longer is.
    JointLeft,
    /// Who was told to campaign leads.
    TransferSucceeded,
    /// A leader hears of less than it knows a follower to have.
    StaleAcknowledgement,
    /// A member does not vote because it may have promised so before it ended.
    VoteRefusedAfterRestart,
    /// A member that was always alone starts again.
    StartedAlone,
    /// A member whose last vote-mate has left starts again.
    StartedAsLast,
    /// A crash has lost a commit index, and nothing else.
    CommitIndexLost,
    /// A message was dropped because a term could not be read.
    TermUnreadable,
    /// A follower's window is full.
    WindowFull,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) runs: u64,
    pub(crate) steps: u64,
    pub(crate) commits: u64,
    pub(crate) terms: u64,
    of_actions: Vec<(Action, u64)>,
    pub(crate) of_outcomes: Outcomes,
}

/// How often each outcome was seen.
#[derive(Default)]
pub(crate) struct Outcomes([u64; Outcome::ALL.len()]);

impl Outcomes {
    pub(crate) fn count(&mut self, outcome: Outcome) {
        self.0[outcome as usize] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
}

impl Counts {
    pub(crate) fn count(&mut self, action: Action) {
        match self.of_actions.iter_mut().find(|(other, _)| *other == action) {
            Some((_, count)) => *count += 1,
            None => self.of_actions.push((action, 1)),
        }
    }

    /// The actions that never happened, and the outcomes that were never seen.
    pub(crate) fn missing(&self) -> Vec<String> {
        let has_happened = |action| self.of_actions.iter().any(|(other, _)| *other == action);
        let actions = Action::ALL.iter().map(|(action, _)| *action).filter(|action| !has_happened(*action));
        let unseen = |outcome: &&Outcome| self.of_outcomes.0[**outcome as usize] == 0;
        let outcomes = Outcome::ALL.iter().filter(unseen).map(|outcome| format!("{outcome:?}"));
        actions.map(|action| format!("{action:?}")).chain(outcomes).collect()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} runs, {} steps, {} terms, {} entries committed",
            self.runs, self.steps, self.terms, self.commits
        )?;
        for (action, _) in Action::ALL {
            let count =
                self.of_actions.iter().find(|(other, _)| other == action).map_or(0, |(_, count)| *count);
            writeln!(f, "  {:24} {count:12}", format!("{action:?}"))?;
        }
        for outcome in Outcome::ALL {
            writeln!(f, "  {:24} {:12}", format!("{outcome:?}"), self.of_outcomes.0[*outcome as usize])?;
        }
        Ok(())
    }
}
