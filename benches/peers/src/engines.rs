//! The engines behind one trait.

pub(crate) mod fjall;
pub(crate) mod pinion;
pub(crate) mod rocksdb;
