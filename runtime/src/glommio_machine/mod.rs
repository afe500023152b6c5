//! The real machine: io_uring, direct input and output, one glommio executor a core.
//!
//! glommio is named in this folder and nowhere else.

pub(crate) mod check;
pub(crate) mod executor;
pub(crate) mod fs;
pub(crate) mod net;
mod nudge;
pub(crate) mod random;
mod ring;
pub(crate) mod task;
pub(crate) mod time;
