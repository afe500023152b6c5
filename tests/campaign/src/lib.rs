//! Real stores in network namespaces: killed, paused and parted under load, with every answer checked.
//!
//! Clients read and write at a pace (`caller`), round after round (`session`); meanwhile stores are troubled and mended ([`trouble`]), leaders and
//! voters moved, regions split ([`administrator`]). Of each round it is judged whether it could have happened in one order (`judge`). At the
//! end all replicas must hold the same, and nothing that was acknowledged may be lost ([`convergence`]).
//!
//! [`play`](mod@play) puts it together. The program `pinion-campaign` is a play of any length with every kind of trouble; the rows of the course in
//! real time are short ones with some of it, and stories of their own on the same [`cluster`].

pub mod administrator;
mod caller;
pub mod clients;
pub mod cluster;
pub mod convergence;
mod judge;
pub mod keys;
pub mod network;
pub mod play;
pub mod routes;
mod session;
pub mod shared;
pub mod store;
pub mod trouble;
