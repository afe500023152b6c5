//! What checkers see of a core, which nobody else has any business with: every peer's state, and the logical content of its tree.

use crate::core::Shard;
use crate::error::ShardError;
use pinion_engine::tree::IterOptions;
use pinion_types::{ColumnFamily, LogIndex, PeerId, Region, RegionId, Term};

/// A peer as it is now.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own that a checker asks for")]
pub struct PeerState {
    /// The region as the peer knows it.
    pub region: Region,
    /// The peer's own id.
    pub own: PeerId,
    /// Whether it leads.
    pub is_leader: bool,
    /// Whether it leads and may do calls.
    pub serves: bool,
    /// Whether it knows nothing of its region yet.
    pub is_blank: bool,
    /// Whether its configuration is joint.
    pub is_joint: bool,
    /// Whether an entry is being applied that takes its time.
    pub is_applying: bool,
    /// Whether a snapshot is about to take the place of its tree.
    pub is_installing: bool,
    /// Its term.
    pub term: Term,
    /// The last entry that is applied.
    pub applied: LogIndex,
    /// Whether nothing waits to be proposed, written or applied.
    pub is_quiet: bool,
    /// All of that, for people.
    pub text: String,
}

/// Every peer of a core, in the order of the regions' ids.
pub fn peers(shard: &Shard) -> Vec<PeerState> {
    let state = |peer: &std::rc::Rc<crate::peer::Peer>| PeerState {
        region: peer.region().clone(),
        own: peer.peer().id,
        is_leader: peer.is_leader(),
        serves: peer.serves(),
        is_blank: peer.is_blank(),
        is_joint: peer.is_joint(),
        is_applying: peer.is_applying(),
        is_installing: peer.is_installing(),
        term: peer.term(),
        applied: peer.applied().0,
        is_quiet: peer.is_quiet(),
        text: peer.state(),
    };
    shard.peers().iter().map(state).collect()
}

/// Calls that a core has let in and not answered yet.
pub fn calls(shard: &Shard) -> usize {
    shard.0.admission.calls()
}

/// Regions that a core has split because they were too large.
pub fn regions_split(shard: &Shard) -> u64 {
    shard.0.regions_split.get()
}

/// What a region's tree holds, of all families: a checksum and how many pairs, for each. `None` when the region is not here.
pub async fn content(shard: &Shard, region: RegionId) -> Result<Option<Vec<(u32, u64)>>, ShardError> {
    let Some(peer) = shard.peer(region) else { return Ok(None) };
    let (start, end) = (peer.region().start.clone(), peer.region().end.clone());
    let mut contents = Vec::new();
    for family in ColumnFamily::ALL {
        let mut hasher = crc32fast::Hasher::new();
        let mut pairs = 0;
        let mut iterator = peer.tree().iter(family, &start, &end, IterOptions::default());
        iterator.seek_to_first().await?;
        while iterator.is_valid() {
            for part in [iterator.key(), iterator.value()] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
            pairs += 1;
            iterator.next().await?;
        }
        contents.push((hasher.finalize(), pairs));
    }
    Ok(Some(contents))
}
