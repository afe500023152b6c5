//! A core's storage: the log, the trees, their caches.

pub mod error;

pub use error::{Error, Result};
