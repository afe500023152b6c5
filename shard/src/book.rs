//! The cluster's book: which stores there are, where they listen, and which ids were given. It is kept in the system region, like any other
//! data, so that it is as durable and as consistent; every store has a copy of the addresses, which may be behind.
//!
//! | stored key | value, little-endian |
//! | --- | --- |
//! | `\0i` | the next id for regions and peers: 8 |
//! | `\0s`, store id (8, big-endian) | format 1: 1, token 8, version 8, number of addresses 4, for each: length 4, text |
//!
//! Stores are numbered from 1 in the order in which they join.

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use pinion_types::StoreId;
use pinion_types::key::Zone;

const FORMAT: u8 = 1;
/// Stores of a cluster at most, and addresses of one.
pub(crate) const STORES_MAX: usize = 1000;
pub(crate) const ADDRESSES_MAX: usize = 256;
/// Bytes of an address at most.
const ADDRESS_BYTES_MAX: usize = 256;

/// A store in the book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreEntry {
    /// The name under which it joined.
    pub token: u64,
    /// Grows with each change of the entry.
    pub version: u64,
    /// Where its cores listen, in their order.
    pub addresses: Vec<String>,
}

/// Bytes that are no entry of the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry of the cluster's book is damaged or of an unknown version: {0}")]
pub(crate) struct MalformedBook(&'static str);

impl From<TryGetError> for MalformedBook {
    fn from(_: TryGetError) -> Self {
        Self("too short")
    }
}

/// The key of the next id.
pub(crate) fn ids_key() -> Bytes {
    Zone::System.stored(b"i").into()
}

/// The key of a store's entry.
pub(crate) fn store_key(store: StoreId) -> Bytes {
    Zone::System.stored(&[b"s".as_slice(), &store.0.to_be_bytes()].concat()).into()
}

/// The range of all stores' entries.
pub(crate) fn stores_range() -> (Vec<u8>, Vec<u8>) {
    (Zone::System.stored(b"s"), Zone::System.stored(b"t"))
}

/// The store whose entry has this key.
pub(crate) fn store_of(key: &[u8]) -> Option<StoreId> {
    let id = Zone::System.caller_key(key)?.strip_prefix(b"s")?;
    Some(StoreId(u64::from_be_bytes(id.try_into().ok()?)))
}

/// The next id as bytes.
pub(crate) fn encode_id(id: u64) -> Bytes {
    Bytes::copy_from_slice(&id.to_le_bytes())
}

/// Reads the next id back.
pub(crate) fn decode_id(bytes: &[u8]) -> Result<u64, MalformedBook> {
    Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| MalformedBook("an id has 8 bytes"))?))
}

impl StoreEntry {
    /// Whether its addresses are such as the book takes.
    pub(crate) fn is_sound(addresses: &[String]) -> bool {
        !addresses.is_empty()
            && addresses.len() <= ADDRESSES_MAX
            && addresses.iter().all(|address| address.len() <= ADDRESS_BYTES_MAX)
    }

    /// The entry as bytes.
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u8(FORMAT);
        bytes.put_u64_le(self.token);
        bytes.put_u64_le(self.version);
        bytes.put_u32_le(u32::try_from(self.addresses.len()).expect("addresses are bounded"));
        for address in &self.addresses {
            bytes.put_u32_le(u32::try_from(address.len()).expect("an address is short"));
            bytes.put_slice(address.as_bytes());
        }
        bytes.freeze()
    }

    /// Reads an entry back.
    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, MalformedBook> {
        if bytes.try_get_u8()? != FORMAT {
            return Err(MalformedBook("unknown format"));
        }
        let (token, version) = (bytes.try_get_u64_le()?, bytes.try_get_u64_le()?);
        let mut addresses = Vec::new();
        for _ in 0..bytes.try_get_u32_le()? {
            let len = usize::try_from(bytes.try_get_u32_le()?).unwrap_or(usize::MAX);
            let text = bytes.split_off(..len).ok_or(MalformedBook("a length past the end"))?;
            let text = std::str::from_utf8(text).map_err(|_| MalformedBook("an address is no text"))?;
            addresses.push(text.to_owned());
        }
        match bytes.has_remaining() {
            true => Err(MalformedBook("bytes after the end")),
            false => Ok(Self { token, version, addresses }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_and_a_cut_one_does_not() {
        let addresses = vec!["127.0.0.1:20160".to_owned(), "[::1]:7".to_owned()];
        let entry = StoreEntry { token: 7, version: 3, addresses };
        let whole = entry.encode();
        assert_eq!(StoreEntry::decode(&whole).unwrap(), entry);
        for len in 0..whole.len() {
            assert!(StoreEntry::decode(&whole[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn keys_name_their_store_and_lie_in_the_range() {
        let (start, end) = stores_range();
        for id in [1, 255, 256, u64::MAX] {
            let key = store_key(StoreId(id));
            assert_eq!(store_of(&key), Some(StoreId(id)));
            assert!(start.as_slice() < &key[..] && &key[..] < end.as_slice());
        }
        assert_eq!(store_of(&ids_key()), None);
    }
}
