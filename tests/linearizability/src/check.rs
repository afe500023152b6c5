//! The verdict on a history.

use crate::anomaly;
use crate::component::{self, Component};
use crate::explain::explain;
use crate::history::{History, Key};
use crate::problem::Problem;
use crate::search::{Budget, Found, search};
use crate::violation::{Reason, Violation};

/// Configurations that a check visits, one for each call aside, unless it is told otherwise.
pub const CONFIGURATIONS_MAX: u64 = 4_000_000;

/// What the cache of configurations takes, unless it is told otherwise.
pub const CACHE_BYTES_MAX: usize = 256 << 20;

/// What a check may spend.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Configurations visited by the whole check, besides one for each call, which every history needs. By default
    /// [`CONFIGURATIONS_MAX`], a few seconds. Too few, and histories with many calls at a time stay undecided; too many take long. Finding the
    /// smallest prefix that is wrong may take as many again.
    pub configurations_max: u64,
    /// Bytes of the cache, by default [`CACHE_BYTES_MAX`]. A configuration of a single key takes about 64, one of a component eight more
    /// for each key.
    pub cache_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { configurations_max: CONFIGURATIONS_MAX, cache_bytes_max: CACHE_BYTES_MAX }
    }
}

/// What is known of a history in which no violation was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its calls could have happened in one order.
    Linearizable {
        /// How many configurations were visited.
        configurations: u64,
    },
    /// The limits were reached first. Nothing is said of these keys; all others are in order.
    Undecided {
        /// Keys that were not decided.
        keys: Vec<Key>,
        /// How many configurations were visited.
        configurations: u64,
    },
}

/// Judges whether the calls of a history could have happened in one order, each at one moment between its invocation and its return.
///
/// # Errors
/// When they could not. A verdict of violation is certain whatever the limits are.
///
/// # Panics
/// When two calls that were not refused write the same value to the same key.
pub fn check(history: &History, limits: &Limits) -> Result<Verdict, Violation> {
    let (mut spent, mut spent_on_prefixes) = (budget(limits), budget(limits));
    let mut undecided = Vec::new();
    let mut earliest: Option<Violation> = None;
    for component in component::split(history) {
        // Once something is wrong, only what was wrong before is of interest.
        let Some(cut) = earliest.as_ref().map_or(Some(u64::MAX), |wrong| wrong.prefix_end.checked_sub(1))
        else {
            break;
        };
        match judge(&component, cut, &mut spent) {
            Ok(true) => {}
            Ok(false) => undecided.extend(component.keys.iter().map(|key| (*key).clone())),
            Err(reason) => earliest = Some(explain(history, &component, reason, cut, &mut spent_on_prefixes)),
        }
    }
    let configurations = spent.visited;
    match earliest {
        Some(wrong) => Err(Violation { is_smallest: wrong.is_smallest && undecided.is_empty(), ..wrong }),
        None if undecided.is_empty() => Ok(Verdict::Linearizable { configurations }),
        None => Ok(Verdict::Undecided { keys: undecided, configurations }),
    }
}

fn budget(limits: &Limits) -> Budget {
    Budget {
        configurations_left: limits.configurations_max,
        cache_bytes_max: limits.cache_bytes_max,
        visited: 0,
    }
}

/// Whether what the calls up to `cut` say could have happened; false when the budget does not suffice to know.
pub(crate) fn judge(component: &Component<'_>, cut: u64, budget: &mut Budget) -> Result<bool, Reason> {
    let problem = Problem::new(component, cut)?;
    if let Some(reason) = anomaly::find(component, &problem) {
        return Err(reason);
    }
    match search(&problem, budget) {
        Found::Order => Ok(true),
        Found::NoOrder => Err(Reason::NoOrder),
        Found::Undecided => Ok(false),
    }
}
