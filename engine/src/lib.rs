//! A core's storage: the log, the trees, their caches.

pub mod cache;
pub mod error;
pub mod log;
pub mod table;

pub use error::{Error, Result};
