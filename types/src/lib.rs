//! What several of Pinion's crates must agree on, and nothing else: ids, positions, key ranges, key zones.
//!
//! This crate is at the bottom: it imports none of the others, does no input or output, and knows no clock.

pub mod family;
pub mod id;
pub mod key;
pub mod map;
pub mod memcomparable;
pub mod region;

pub use family::ColumnFamily;
pub use id::{CoreId, LogIndex, PeerId, RegionId, StoreId, Term};
pub use region::{Epoch, Peer, PeerRole, Region};
