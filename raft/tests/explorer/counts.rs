//! How often each action happened, so that a campaign in which one never did can't pass for one.

use std::fmt;

use crate::plan::Action;

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) runs: u64,
    pub(crate) steps: u64,
    pub(crate) commits: u64,
    pub(crate) terms: u64,
    of_actions: Vec<(Action, u64)>,
}

impl Counts {
    pub(crate) fn count(&mut self, action: Action) {
        match self.of_actions.iter_mut().find(|(other, _)| *other == action) {
            Some((_, count)) => *count += 1,
            None => self.of_actions.push((action, 1)),
        }
    }

    /// The actions that never happened.
    pub(crate) fn missing(&self) -> Vec<Action> {
        let has_happened = |action| self.of_actions.iter().any(|(other, _)| *other == action);
        Action::ALL.iter().map(|(action, _)| *action).filter(|action| !has_happened(*action)).collect()
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
            writeln!(f, "  {:18} {count:12}", format!("{action:?}"))?;
        }
        Ok(())
    }
}
