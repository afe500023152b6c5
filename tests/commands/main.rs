//! The commands as a user has them: the real binary, real files and sockets, and what it prints and answers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the processes and files are real")]

mod bad_input;
mod calls;
mod client;
mod cluster;
mod damage;
mod demo;
mod fixtures;
mod full_disk;
mod inspect;
mod process;
mod rolling;
mod sockets;
mod split_check;
mod start;
