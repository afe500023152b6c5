//! What stores say to each other: messages of consensus, snapshots, ids.
//!
//! One core of a store has one link to another store and is its sending end; the other store answers through [`LinkService`].
//! Messages may be lost and are then told about by the sender; they arrive in their order, except that small ones that elections and
//! leases hang on overtake the large ones.

mod limits;
mod sender;

pub use limits::LinkLimits;
pub use sender::{LinkSender, LinkStatistics};

use crate::WireError;
use bytes::Bytes;
use pinion_types::{CoreId, Epoch, LogIndex, Peer, PeerId, RegionId, StoreId, Term};
use std::future::Future;

/// Bytes of a chunk's data at most: 4 MiB. Larger ones hold up what shares the connection and cost more to send again; a chunk is a
/// message, which [`crate::Limits::message_bytes_max`] bounds.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 4 << 20;

/// Who opens a link, and to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkHello {
    /// The sender's cluster.
    pub cluster: u64,
    /// The sender.
    pub from: StoreId,
    /// The core of the sender that speaks on this link.
    pub from_core: CoreId,
    /// Whom the sender means to reach.
    pub to: StoreId,
    /// Where each core of the sender listens, in the order of the cores.
    pub addresses: Vec<String>,
}

impl LinkHello {
    /// Whether the hello is meant for store `store` of cluster `cluster`, and comes from another store.
    pub fn check(&self, cluster: u64, store: StoreId) -> Result<(), WireError> {
        if self.cluster != cluster {
            return Err(WireError::ClusterNotMatch { requested: self.cluster, actual: cluster });
        }
        if self.to != store {
            return Err(WireError::StoreNotMatch { requested: self.to, actual: store });
        }
        if self.from == store || self.from == StoreId(0) {
            return Err(WireError::invalid(format!(
                "store {store} takes no link from store {}: a link is between two stores",
                self.from
            )));
        }
        Ok(())
    }
}

/// A message from a region's peer to another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionMessage {
    /// The region.
    pub region: RegionId,
    /// Its epoch, as the sender knows it.
    pub epoch: Epoch,
    /// The sender.
    pub from: Peer,
    /// The receiver.
    pub to: Peer,
    /// First stored key of the sender's range. Filled only in messages that may create the receiver's peer.
    pub start: Vec<u8>,
    /// First stored key after the sender's range; empty for no end. Filled as `start` is.
    pub end: Vec<u8>,
    /// The core that the sending peer is on.
    pub from_core: CoreId,
    /// Not a message of consensus: the receiver's peer `to` is no longer a member as of `epoch`, and its store is to delete it.
    pub gone: bool,
    /// The message of consensus, never one to a peer's own storage; empty, and not sent, with `gone`.
    pub message: pinion_raft::Message,
}

/// A snapshot that is about to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// Its message of consensus is of the kind `Snapshot`, and the data of that is small.
    pub message: RegionMessage,
    /// What the receiver needs to make a tree of the files.
    pub description: Bytes,
    /// The files to come: number, and size in bytes.
    pub files: Vec<(u64, u64)>,
}

impl SnapshotOffer {
    /// The name of the snapshot on its way; `None` when the message carries none.
    pub fn key(&self) -> Option<SnapshotKey> {
        let snapshot = self.message.message.snapshot.as_ref()?;
        Some(SnapshotKey {
            region: self.message.region,
            to: self.message.to.id,
            index: snapshot.metadata.index,
            term: snapshot.metadata.term,
        })
    }
}

/// Names one snapshot on its way to one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotKey {
    /// The region.
    pub region: RegionId,
    /// The peer that it is for.
    pub to: PeerId,
    /// The last entry that it covers.
    pub index: LogIndex,
    /// That entry's term.
    pub term: Term,
}

/// Part of a file of an offered snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// The snapshot.
    pub key: SnapshotKey,
    /// The file's number.
    pub file: u64,
    /// Where in the file the data begins, in bytes.
    pub offset: u64,
    /// The data's checksum, which the receiver checks: CRC-32 as in Ethernet and zlib.
    pub crc32: u32,
    /// [`SNAPSHOT_CHUNK_BYTES_MAX`] bytes at most.
    pub data: Bytes,
}

/// What serves the `Link` interface: the shard of the connection's core. Dropping a future never undoes what it began.
pub trait LinkService: 'static {
    /// Judges who opens a link; an error refuses it. See [`LinkHello::check`].
    fn hello(&self, hello: &LinkHello) -> Result<(), WireError>;

    /// Takes messages, in their order. Never waits: what it has no room for, it drops.
    fn messages(&self, messages: Vec<RegionMessage>);

    /// Begins to receive a snapshot. Which files are there from an earlier try: number, and how many bytes from the file's start.
    fn snapshot_offer(
        &self,
        offer: SnapshotOffer,
    ) -> impl Future<Output = Result<Vec<(u64, u64)>, WireError>> + 'static;

    /// Takes part of an offered file, once its checksum was found right.
    fn snapshot_chunk(&self, chunk: SnapshotChunk) -> impl Future<Output = Result<(), WireError>> + 'static;

    /// Verifies an offered snapshot that was sent whole, and hands its message to the peer.
    fn snapshot_done(&self, key: SnapshotKey) -> impl Future<Output = Result<(), WireError>> + 'static;

    /// Forgets an offered snapshot.
    fn snapshot_abort(&self, key: SnapshotKey);

    /// The first of `count` ids that were never given before.
    fn allocate_ids(&self, count: u64) -> impl Future<Output = Result<u64, WireError>> + 'static;
}

/// The service of a store that takes no links.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLinks;

impl NoLinks {
    fn refusal() -> WireError {
        WireError::invalid("this store runs alone")
    }
}

impl LinkService for NoLinks {
    fn hello(&self, _: &LinkHello) -> Result<(), WireError> {
        Err(Self::refusal())
    }

    fn messages(&self, _: Vec<RegionMessage>) {}

    fn snapshot_offer(
        &self,
        _: SnapshotOffer,
    ) -> impl Future<Output = Result<Vec<(u64, u64)>, WireError>> + 'static {
        std::future::ready(Err(Self::refusal()))
    }

    fn snapshot_chunk(&self, _: SnapshotChunk) -> impl Future<Output = Result<(), WireError>> + 'static {
        std::future::ready(Err(Self::refusal()))
    }

    fn snapshot_done(&self, _: SnapshotKey) -> impl Future<Output = Result<(), WireError>> + 'static {
        std::future::ready(Err(Self::refusal()))
    }

    fn snapshot_abort(&self, _: SnapshotKey) {}

    fn allocate_ids(&self, _: u64) -> impl Future<Output = Result<u64, WireError>> + 'static {
        std::future::ready(Err(Self::refusal()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_that_was_not_meant_for_this_store_is_refused() {
        let hello = LinkHello { cluster: 7, from: StoreId(1), to: StoreId(2), ..LinkHello::default() };
        assert_eq!(hello.check(7, StoreId(2)), Ok(()));
        let refused = WireError::ClusterNotMatch { requested: 7, actual: 8 };
        assert_eq!(hello.check(8, StoreId(2)), Err(refused));
        let refused = WireError::StoreNotMatch { requested: StoreId(2), actual: StoreId(3) };
        assert_eq!(hello.check(7, StoreId(3)), Err(refused));
        let own = LinkHello { from: StoreId(2), ..hello };
        assert!(matches!(own.check(7, StoreId(2)), Err(WireError::InvalidArgument(_))));
    }
}
