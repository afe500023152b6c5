//! What other stores ask of this one, over their links.

use crate::cluster::{ClusterCall, ClusterReply};
use crate::core::Shard;
use pinion_capnp::WireError;
use pinion_capnp::link::{LinkHello, LinkService, RegionMessage, SnapshotChunk, SnapshotKey, SnapshotOffer};
use std::future::Future;

impl LinkService for Shard {
    fn hello(&self, hello: &LinkHello) -> Result<(), WireError> {
        hello.check(self.0.cluster, self.0.store)?;
        self.hear_store(hello.from, &hello.addresses);
        Ok(())
    }

    fn messages(&self, messages: Vec<RegionMessage>) {
        self.receive_messages(messages);
    }

    fn snapshot_offer(
        &self,
        offer: SnapshotOffer,
    ) -> impl Future<Output = Result<Vec<(u64, u64)>, WireError>> + 'static {
        let shard = self.clone();
        async move { shard.snapshot_offered(offer).await }
    }

    fn snapshot_chunk(&self, chunk: SnapshotChunk) -> impl Future<Output = Result<(), WireError>> + 'static {
        let shard = self.clone();
        async move { shard.snapshot_chunk_came(chunk).await }
    }

    fn snapshot_done(&self, key: SnapshotKey) -> impl Future<Output = Result<(), WireError>> + 'static {
        let shard = self.clone();
        async move { shard.snapshot_is_whole(key).await }
    }

    fn snapshot_abort(&self, key: SnapshotKey) {
        let shard = self.clone();
        pinion_runtime::spawn(async move { shard.snapshot_given_up(key).await });
    }

    fn allocate_ids(&self, count: u64) -> impl Future<Output = Result<u64, WireError>> + 'static {
        let shard = self.clone();
        async move {
            match shard.cluster_call(ClusterCall::AllocateIds(count)).await? {
                ClusterReply::Ids(first) => Ok(first),
                _ => Err(WireError::Internal("a call for ids was answered with something else".to_owned())),
            }
        }
    }
}
