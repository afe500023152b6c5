//! A core at work: its regions' peers, propose, persist, apply, answer; routing between cores.
//!
//! - [`start`]: starting a core, making a new store; `orphans`: what an earlier start's cores left;
//! - [`core`]: the loop; `loads`: entries that it needs and the log has on disk only;
//! - `peer`: one region's replica: propose, apply, read;
//! - [`service`] and [`admin`]: what callers and administrators ask;
//! - [`router`], `message`, [`relocate`]: between the cores of a store;
//! - `messages`, `links`, `incoming`, [`membership`], `snapshots`, `inquiry`: between stores; `steward` and `split_check`: what a store sees to by itself; `cluster` and `book`: what concerns all of them;
//!   `acquaintances`: where they listened when last heard of;
//! - [`command`], [`value`], [`meta`], [`structures`], [`identity`]: formats.
//!
//! Never here: an answer before the entry is applied; a call that waits for another core's lock; a queue without a bound.

mod acquaintances;
pub mod admin;
pub mod admission;
mod appends;
mod apply;
mod book;
pub mod checks;
mod cluster;
pub mod command;
pub mod core;
pub mod error;
mod event;
pub mod identity;
mod incoming;
mod inquiry;
mod links;
mod loads;
pub mod membership;
mod message;
mod messages;
pub mod meta;
mod orphans;
mod peer;
pub mod relocate;
pub mod router;
pub mod service;
mod snapshots;
mod split_check;
pub mod stamp;
pub mod start;
mod steward;
mod stop;
mod storage;
pub mod structures;
#[doc(hidden)]
pub mod testing;
pub mod value;

pub use admin::StoreAdmin;
pub use admission::AdmissionLimits;
pub use book::StoreEntry;
pub use core::{RaftTiming, Shard, ShardLimits};
pub use error::ShardError;
pub use start::{CorePort, Founding, ports};
