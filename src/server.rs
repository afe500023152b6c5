//! A store as a process: from settings to cores that serve, and back down.
//!
//! - [`data_dir`]: whose directory it is;
//! - [`plan`]: settings made into what each core gets;
//! - [`mod@run`]: the cores' life: start, ready, stop.

pub(crate) mod data_dir;
mod plan;
mod run;

pub(crate) use run::{Announce, run};
