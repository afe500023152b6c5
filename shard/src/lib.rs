//! A core at work: its regions' peers, propose, persist, apply, answer; routing between cores.
//!
//! - [`start`]: starting a core, making a new store; `orphans`: what an earlier start's cores left;
//! - [`core`]: the loop;
//! - `peer`: one region's replica: propose, apply, read;
//! - [`service`] and [`admin`]: what callers and administrators ask;
//! - [`router`], `message`, [`relocate`]: between the cores of a store;
//! - [`command`], [`value`], [`meta`], [`identity`]: formats.
//!
//! Never here: an answer before the entry is applied; a call that waits for another core's lock; a queue without a bound.

pub mod admin;
pub mod admission;
pub mod checks;
pub mod command;
pub mod core;
pub mod error;
mod event;
pub mod identity;
mod message;
pub mod meta;
mod orphans;
mod peer;
pub mod relocate;
pub mod router;
pub mod service;
pub mod stamp;
pub mod start;
mod storage;
pub mod value;

pub use admin::StoreAdmin;
pub use admission::AdmissionLimits;
pub use core::{Shard, ShardLimits};
pub use error::ShardError;
pub use start::{CorePort, ports};
