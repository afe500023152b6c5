//! Bringing entries back into memory that Raft needs and the log has dropped from it: those of a follower that is behind.

use crate::core::Shard;
use crate::peer::Peer;
use pinion_types::LogIndex;
use std::rc::Rc;

/// Bytes of entries that are loaded for one follower at a time. Smaller: it waits for the disk more often. Larger: more of them push what is
/// newer out of memory.
const LOAD_BYTES_MAX: usize = 4 << 20;

impl Shard {
    /// Begins to load what a peer's Raft lacks, unless that is being done already: Raft asks again at every turn. It is told of each piece, and
    /// sends it before anything newer can push it out of memory.
    pub(crate) fn load_entries(&self, peer: &Rc<Peer>) {
        if !peer.begins_loading() {
            return;
        }
        let (shard, peer) = (self.clone(), peer.clone());
        pinion_runtime::spawn(async move {
            let log = shard.engine().log();
            let mut after = LogIndex(0);
            while let Some((low, high)) = peer.wanted_entries(after).filter(|_| !peer.is_gone()) {
                let loaded = log.load(peer.id(), low, high, LOAD_BYTES_MAX).await;
                // What was compacted meanwhile Raft finds to be so when it asks again.
                let is_moot = peer.is_gone()
                    || low < log.first_index(peer.id())
                    || high > log.last_index(peer.id()).next();
                if let (Err(error), false) = (loaded, is_moot) {
                    return shard.fail(&error.into());
                }
                peer.entries_loaded();
                shard.enqueue(&peer);
                after = low;
            }
            peer.ends_loading();
        });
    }
}
