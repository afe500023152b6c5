//! What a store keeps for ever, in its log's structure records. Each begins with its kind:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | kind: 1 the store's [identity](crate::identity), 2 a tombstone |
//! | 4 | rest | by kind |
//!
//! A tombstone is `region: u64, peer: u64, generation: u64`: this store had the peer, and must never have it again; a later peer of the region
//! begins at a higher generation, so that a core whose log missed the removal does not take the region for its own. Integers are
//! little-endian.

use crate::error::ShardError;
use crate::identity::Identity;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use pinion_types::{PeerId, RegionId};

const TOMBSTONE: u32 = 2;

/// A peer that this store had and that was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tombstone {
    /// The region.
    pub region: RegionId,
    /// The peer: it and earlier ones do not come back.
    pub peer: PeerId,
    /// How often the region had changed cores.
    pub generation: u64,
}

impl Tombstone {
    /// The tombstone as bytes.
    pub fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(28);
        bytes.put_u32_le(TOMBSTONE);
        bytes.put_u64_le(self.region.0);
        bytes.put_u64_le(self.peer.0);
        bytes.put_u64_le(self.generation);
        bytes.freeze()
    }

    /// The later of two of the same region.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        if other.peer > self.peer { other } else { self }
    }

    fn decode(mut body: Bytes) -> Result<Self, ShardError> {
        if body.remaining() != 24 {
            return Err(ShardError::Identity(format!("a tombstone has {} bytes, not 28", body.len() + 4)));
        }
        Ok(Self {
            region: RegionId(body.get_u64_le()),
            peer: PeerId(body.get_u64_le()),
            generation: body.get_u64_le(),
        })
    }
}

/// What a core's log holds of the store's own.
#[derive(Clone, Debug, Default)]
pub struct Structures {
    /// Who the store is, the newest word. Core 0's log has it.
    pub identity: Option<Identity>,
    /// Peers that do not come back.
    pub tombstones: Vec<Tombstone>,
}

impl Structures {
    /// Reads what a log holds, in its order.
    ///
    /// # Errors
    /// When one is damaged, or of a kind that this version does not know.
    pub fn decode(records: &[Bytes]) -> Result<Self, ShardError> {
        let mut structures = Self::default();
        for record in records {
            let mut body = record.clone();
            let kind = body.try_get_u32_le().unwrap_or_default();
            match kind {
                Identity::KIND => structures.identity = Some(Identity::decode(record.clone())?),
                TOMBSTONE => structures.tombstones.push(Tombstone::decode(body)?),
                _ => {
                    return Err(ShardError::Identity(format!(
                        "a record of kind {kind}, which this program does not know"
                    )));
                }
            }
        }
        Ok(structures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_types::StoreId;

    #[test]
    fn the_newest_identity_and_all_tombstones_are_read() {
        let identity = |store| Identity { cluster: 7, store: StoreId(store), token: 9 };
        let tombstone = Tombstone { region: RegionId(3), peer: PeerId(4), generation: 2 };
        let records = [identity(0).encode(), tombstone.encode(), identity(5).encode()];
        let read = Structures::decode(&records).unwrap();
        assert_eq!((read.identity, read.tombstones), (Some(identity(5)), vec![tombstone]));
        assert!(Structures::decode(&[tombstone.encode().slice(..27)]).is_err());
        assert!(Structures::decode(&[Bytes::from_static(b"\x09\0\0\0")]).is_err());
        assert!(Structures::decode(&[Bytes::new()]).is_err());
    }
}
