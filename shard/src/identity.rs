//! Who a store is: kept in core 0's log. A new cluster's first store writes it in the same group as its first regions.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | kind of the record and its format, 1 |
//! | 4 | 8 | cluster id, random; 0 while the store is joining |
//! | 12 | 8 | store id; 0 while the store is joining |
//! | 20 | 8 | token: random, the name under which the store asks to join; asked twice, a cluster gives the same store id |
//!
//! Integers are little-endian.

use crate::error::ShardError;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use pinion_types::StoreId;

const BYTES: usize = 28;

/// A store's place in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that the store belongs to; 0 while it is joining.
    pub cluster: u64,
    /// The store's id in it; 0 while it is joining.
    pub store: StoreId,
    /// The name under which the store joined.
    pub token: u64,
}

impl Identity {
    /// The kind of its record.
    pub(crate) const KIND: u32 = 1;

    /// Whether the store belongs to a cluster.
    pub fn is_member(self) -> bool {
        self.store != StoreId(0)
    }

    /// The identity as bytes.
    pub fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(BYTES);
        bytes.put_u32_le(Self::KIND);
        bytes.put_u64_le(self.cluster);
        bytes.put_u64_le(self.store.0);
        bytes.put_u64_le(self.token);
        bytes.freeze()
    }

    /// Reads an identity back.
    pub fn decode(mut bytes: Bytes) -> Result<Self, ShardError> {
        if bytes.remaining() != BYTES {
            return Err(ShardError::Identity(format!("it has {} bytes, not {BYTES}", bytes.remaining())));
        }
        let format = bytes.get_u32_le();
        if format != Self::KIND {
            return Err(ShardError::Identity(format!(
                "it is of format {format}; this program knows {}",
                Self::KIND
            )));
        }
        Ok(Self {
            cluster: bytes.get_u64_le(),
            store: StoreId(bytes.get_u64_le()),
            token: bytes.get_u64_le(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_and_a_cut_one_does_not() {
        let identity = Identity { cluster: 7, store: StoreId(3), token: 11 };
        assert_eq!(Identity::decode(identity.encode()).unwrap(), identity);
        assert!(Identity::decode(identity.encode().slice(1..)).is_err());
    }
}
