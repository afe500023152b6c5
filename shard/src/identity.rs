//! Who a store is: kept in core 0's log, written in the same group as the store's first regions.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | format, 1 |
//! | 4 | 8 | cluster id, random |
//! | 12 | 8 | store id |
//!
//! Integers are little-endian.

use crate::error::ShardError;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use pinion_types::StoreId;

const FORMAT: u32 = 1;

/// A store's place in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that the store belongs to.
    pub cluster: u64,
    /// The store's id in it.
    pub store: StoreId,
}

impl Identity {
    /// The identity as bytes.
    pub fn encode(self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u32_le(FORMAT);
        bytes.put_u64_le(self.cluster);
        bytes.put_u64_le(self.store.0);
        bytes.freeze()
    }

    /// Reads an identity back.
    pub fn decode(mut bytes: Bytes) -> Result<Self, ShardError> {
        if bytes.remaining() != 20 {
            return Err(ShardError::Identity(format!("it has {} bytes, not 20", bytes.remaining())));
        }
        let format = bytes.get_u32_le();
        if format != FORMAT {
            return Err(ShardError::Identity(format!(
                "it is of format {format}; this program knows {FORMAT}"
            )));
        }
        Ok(Self { cluster: bytes.get_u64_le(), store: StoreId(bytes.get_u64_le()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_and_a_cut_one_does_not() {
        let identity = Identity { cluster: 7, store: StoreId(3) };
        assert_eq!(Identity::decode(identity.encode()).unwrap(), identity);
        assert!(Identity::decode(identity.encode().slice(1..)).is_err());
    }
}
