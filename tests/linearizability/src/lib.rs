//! Judges whether what clients saw of a store could have happened in one order, each call at one moment between its
//! invocation and its return: linearizability (Herlihy and Wing 1990).
//!
//! - [`history`]: what was called and what came back, recorded by whoever drives the clients;
//! - [`mod@check`]: the verdict, within limits;
//! - [`violation`]: why a history is wrong, for people.
//!
//! Linearizability is local: keys that no batch joins are judged one by one, keys that share a batch together
//! (`component`). A component's calls become transactions that require values and write values (`problem`). First come
//! necessary conditions that sort and sweep (`anomaly`), whose failures are easily explained; then the search of
//! Wing and Gong (1993) with Lowe's cache of configurations (2017, "Testing for linearizability"), the way Porcupine
//! does it (`search`).
//!
//! Every write must write a value id that is fresh for its key. The search rests on it: a value that was overwritten never comes
//! back, so the calls that saw it stand together in every order, and most choices are decided without trying them.
//!
//! No I/O, no clock, no randomness: the same history gets the same verdict, with the same count of configurations.
//!
//! ```
//! use pinion_linearizability::{History, Limits, Operation, Outcome, ValueId, Verdict, check};
//!
//! let mut history = History::new();
//! let put = history.invoke(1, Operation::put("k", ValueId(7)));
//! let get = history.invoke(2, Operation::get("k"));
//! history.complete(get, Outcome::Read(Some(ValueId(7))));
//! history.complete(put, Outcome::Written);
//! assert!(matches!(check(&history, &Limits::default()), Ok(Verdict::Linearizable { .. })));
//!
//! let stale = history.invoke(2, Operation::get("k"));
//! history.complete(stale, Outcome::Read(None));
//! println!("{}", check(&history, &Limits::default()).unwrap_err());
//! ```

mod anomaly;
pub mod check;
mod component;
mod explain;
pub mod history;
mod links;
mod problem;
mod search;
pub mod violation;

pub use check::{Limits, Verdict, check};
pub use history::{CallId, History, Key, Operation, Outcome, Record, ValueId};
pub use violation::{Reason, Violation};

#[cfg(test)]
mod tests;
