//! What `pinion` does, one module for each mode.

pub(crate) mod bench;
pub(crate) mod cluster;
pub(crate) mod config;
mod connection;
pub(crate) mod demo;
pub(crate) mod inspect;
pub(crate) mod manual;
pub(crate) mod raw;
pub(crate) mod region;
pub(crate) mod server;
mod table;
mod text;
