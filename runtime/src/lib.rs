//! The machine as everything else of Pinion sees it: tasks, time, randomness, files, sockets, mailboxes between cores.
//!
//! The door looks like an ordinary async library. Which machine is behind it is known per thread, so that the code above is not
//! generic over it and one test binary can do both:
//! - **glommio** ([`machine::run`]): io_uring, direct input and output, one executor a core;
//! - **the simulator** ([`sim`]): one thread runs every core of every store in virtual time, from a seed.
//!
//! Invariants:
//! - Everything that waits, waits here. Code above never blocks its thread.
//! - A write runs to its end even when the future that asked for it is dropped; its offset may be used again only after
//!   its completion was seen.
//! - What crosses cores is `Send` and goes through a mailbox.

pub mod fs;
mod glommio_machine;
pub mod machine;
pub mod mailbox;
pub mod net;
pub mod random;
pub mod signal;
pub mod sim;
pub mod task;
pub mod time;

pub use random::random_u64;
pub use task::{JoinHandle, Lane, should_yield, spawn, spawn_in, yield_now};
pub use time::{Instant, now, sleep, wall_clock};
