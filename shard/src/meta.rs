//! What a store remembers of a region beside its tree: the *meta* that the engine keeps with the tree's manifest.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | format, 2 |
//! | 4 | 8 | region id |
//! | 12 | 8 + 8 | epoch: conf_ver, version |
//! | 28 | 8 | stamp in milliseconds since the Unix epoch |
//! | 36 | 8 | index of the last entry that changed the epoch |
//! | 44 | 8 | id of this store's peer |
//! | 52 | 4 + n | start: length, bytes |
//! | | 4 + n | end: length, bytes |
//! | | 4 | number of peers, for each: id (8), store (8), role (1) |
//!
//! A role is 0 for a voter, 1 for a learner, 2 for an incoming voter, 3 for a demoting one, 4 for a leaving one.
//!
//! Integers are little-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use pinion_types::{Epoch, LogIndex, Peer, PeerId, PeerRole, Region, RegionId, StoreId};
use thiserror::Error;

const FORMAT: u32 = 2;

/// A region's description, and its stamp when it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Range, epoch and peers.
    pub region: Region,
    /// The region's stamp in milliseconds since the Unix epoch.
    pub stamp_ms: u64,
    /// The last entry whose change of members or range is in `region`. The description may be newer than the tree: when entries are applied
    /// again after a crash, changes up to here are passed over.
    pub changed_at: LogIndex,
    /// This store's peer: one that waits for a snapshot is in no list of members that it knows.
    pub own: PeerId,
}

/// Bytes that are not a region's description.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the description of a region is damaged or of an unknown version: {0}")]
pub struct MalformedMeta(&'static str);

impl From<TryGetError> for MalformedMeta {
    fn from(_: TryGetError) -> Self {
        Self("too short")
    }
}

impl Meta {
    /// The description as bytes.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u32_le(FORMAT);
        bytes.put_u64_le(self.region.id.0);
        bytes.put_u64_le(self.region.epoch.conf_ver);
        bytes.put_u64_le(self.region.epoch.version);
        bytes.put_u64_le(self.stamp_ms);
        bytes.put_u64_le(self.changed_at.0);
        bytes.put_u64_le(self.own.0);
        for bound in [&self.region.start, &self.region.end] {
            bytes.put_u32_le(u32::try_from(bound.len()).expect("keys are bounded"));
            bytes.put_slice(bound);
        }
        bytes.put_u32_le(u32::try_from(self.region.peers.len()).expect("a region has few peers"));
        for peer in &self.region.peers {
            bytes.put_u64_le(peer.id.0);
            bytes.put_u64_le(peer.store.0);
            bytes.put_u8(role_byte(peer.role));
        }
        bytes.freeze()
    }

    /// Reads a description back.
    pub fn decode(mut bytes: Bytes) -> Result<Self, MalformedMeta> {
        if bytes.try_get_u32_le()? != FORMAT {
            return Err(MalformedMeta("unknown format"));
        }
        let id = RegionId(bytes.try_get_u64_le()?);
        let epoch = Epoch { conf_ver: bytes.try_get_u64_le()?, version: bytes.try_get_u64_le()? };
        let stamp_ms = bytes.try_get_u64_le()?;
        let changed_at = LogIndex(bytes.try_get_u64_le()?);
        let own = PeerId(bytes.try_get_u64_le()?);
        let (start, end) = (bound(&mut bytes)?, bound(&mut bytes)?);
        let mut peers = Vec::new();
        for _ in 0..bytes.try_get_u32_le()? {
            let (id, store) = (PeerId(bytes.try_get_u64_le()?), StoreId(bytes.try_get_u64_le()?));
            let role = role_of(bytes.try_get_u8()?).ok_or(MalformedMeta("unknown role"))?;
            peers.push(Peer { id, store, role });
        }
        match bytes.has_remaining() {
            true => Err(MalformedMeta("bytes after the end")),
            false => Ok(Self { region: Region { id, start, end, epoch, peers }, stamp_ms, changed_at, own }),
        }
    }
}

fn role_byte(role: PeerRole) -> u8 {
    match role {
        PeerRole::Voter => 0,
        PeerRole::Learner => 1,
        PeerRole::IncomingVoter => 2,
        PeerRole::DemotingVoter => 3,
        PeerRole::LeavingVoter => 4,
    }
}

fn role_of(byte: u8) -> Option<PeerRole> {
    match byte {
        0 => Some(PeerRole::Voter),
        1 => Some(PeerRole::Learner),
        2 => Some(PeerRole::IncomingVoter),
        3 => Some(PeerRole::DemotingVoter),
        4 => Some(PeerRole::LeavingVoter),
        _ => None,
    }
}

fn bound(bytes: &mut Bytes) -> Result<Vec<u8>, MalformedMeta> {
    let len = usize::try_from(bytes.try_get_u32_le()?).map_err(|_| MalformedMeta("a length past memory"))?;
    if len > bytes.remaining() {
        return Err(MalformedMeta("a length past the end"));
    }
    Ok(bytes.split_to(len).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        let peer = |id, role| Peer { id: PeerId(id), store: StoreId(1), role };
        let region = Region {
            id: RegionId(7),
            start: b"ra".to_vec(),
            end: Vec::new(),
            epoch: Epoch { conf_ver: 3, version: 4 },
            peers: (0..5).map(|byte| peer(u64::from(byte), role_of(byte).unwrap())).collect(),
        };
        Meta { region, stamp_ms: 99, changed_at: LogIndex(12), own: PeerId(8) }
    }

    #[test]
    fn a_description_reads_back() {
        assert_eq!(Meta::decode(meta().encode()).unwrap(), meta());
    }

    #[test]
    fn a_cut_description_is_refused() {
        let whole = meta().encode();
        for len in 0..whole.len() {
            assert!(Meta::decode(whole.slice(..len)).is_err(), "{len} bytes");
        }
    }
}
