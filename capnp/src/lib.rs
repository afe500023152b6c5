//! The wire: schemas, generated code, the calls as plain types, and the connections that carry them.
//!
//! - [`generated`]: what the Cap'n Proto compiler makes of `schema/`, checked in;
//! - [`raw`] and [`admin`]: calls, answers and the traits that a store implements to serve them; owned and `Send`, because a call may
//!   be answered by another core;
//! - [`link`]: what stores say to each other, likewise;
//! - [`error`]: why a call was not done, as data.
//!
//! This crate knows the wire and nothing of storage. Of consensus it knows the messages, which it carries.

pub mod admin;
pub mod client;
mod convert;
pub mod error;
pub mod frame;
pub mod limits;
pub mod link;
pub mod raw;
mod rpc;
pub mod server;

#[expect(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::allow_attributes_without_reason,
    missing_docs,
    reason = "the compiler's output"
)]
#[rustfmt::skip]
pub mod generated {
    //! What the Cap'n Proto compiler makes of `schema/`.
    pub mod admin_capnp;
    pub mod common_capnp;
    pub mod link_capnp;
    pub mod pinion_capnp;
    pub mod raw_capnp;
}

pub use admin::{
    AdminService, JoinRequest, Joined, PeerChange, PeerChangeKind, RegionInfo, RegionPage, StoreInfo,
    StoreRecord,
};
pub use client::{Client, ClientError, LinkClient};
pub use error::WireError;
pub use limits::{Limits, RequestLimits};
pub use link::{
    LinkHello, LinkLimits, LinkSender, LinkService, LinkStatistics, NoLinks, RegionMessage, SnapshotChunk,
    SnapshotKey, SnapshotOffer,
};
pub use raw::{
    Atomicity, Context, Operation, OperationKind, OperationResult, Operations, Page, Pairs, RawAnswer,
    RawCall, RawReply, RawRequest, RawService, ReadFrom, Remaining, Results, Scan,
};
