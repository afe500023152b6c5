//! The store's own copy of where the others listen, kept through restarts: when all stores of a cluster start at once nobody leads the system region,
//! and the book can't be read before they have found each other.
//!
//! The file `stores`, little-endian:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | magic `PINISTOR` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | number of stores; for each: store id 8, length 4, its entry as in the [book](crate::book) |
//! | last 4 | 4 | crc of everything before |
//!
//! It is a copy: what is not there, or can't be read, is learned anew as soon as another store is met. A damaged one is told of and replaced.

use crate::book::{STORES_MAX, StoreEntry};
use crate::error::ShardError;
use bytes::{Buf, BufMut};
use pinion_capnp::StoreRecord;
use pinion_runtime::fs;
use pinion_types::StoreId;
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"PINISTOR";
const VERSION: u32 = 1;
const CRC_BYTES: usize = 4;

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("stores")
}

/// What is kept; nothing where nothing is, or where it is damaged.
///
/// # Errors
/// When the file can't be read, or is of a version that this program does not know.
pub(crate) async fn read(data_dir: &Path) -> Result<Vec<StoreRecord>, ShardError> {
    let path = file(data_dir);
    let bytes = match fs::read(&path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(pinion_engine::Error::io(&path, source).into()),
    };
    match version(&bytes) {
        Some(VERSION) => {}
        Some(got) => {
            return Err(ShardError::Identity(format!(
                "{} is of version {got}; this program knows {VERSION}",
                path.display()
            )));
        }
        None => {
            log::warn!("{} is damaged; where the other stores listen is learned anew", path.display());
            return Ok(Vec::new());
        }
    }
    Ok(decode(&bytes).unwrap_or_else(|| {
        log::warn!("{} is damaged; where the other stores listen is learned anew", path.display());
        Vec::new()
    }))
}

/// Keeps these records in place of what was kept.
///
/// # Errors
/// When the file can't be written.
pub(crate) async fn write(data_dir: &Path, records: &[StoreRecord]) -> Result<(), ShardError> {
    let path = file(data_dir);
    let written = fs::write_atomically(&path, &encode(records)).await;
    Ok(written.map_err(|source| pinion_engine::Error::io(&path, source))?)
}

fn encode(records: &[StoreRecord]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.put_u32_le(VERSION);
    bytes.put_u32_le(u32::try_from(records.len()).expect("a cluster's stores are bounded"));
    for StoreRecord { id, addresses, version } in records {
        let entry = StoreEntry { token: 0, version: *version, addresses: addresses.clone() }.encode();
        bytes.put_u64_le(id.0);
        bytes.put_u32_le(u32::try_from(entry.len()).expect("an entry is short"));
        bytes.put_slice(&entry);
    }
    bytes.put_u32_le(crc32fast::hash(&bytes));
    bytes
}

/// The version, where it is such a file and whole.
fn version(bytes: &[u8]) -> Option<u32> {
    let body = bytes.len().checked_sub(CRC_BYTES)?;
    let (body, mut crc) = bytes.split_at(body);
    let mut rest = body.strip_prefix(MAGIC)?;
    (crc.get_u32_le() == crc32fast::hash(body)).then(|| rest.try_get_u32_le().ok())?
}

fn decode(bytes: &[u8]) -> Option<Vec<StoreRecord>> {
    let mut rest = bytes.get(MAGIC.len() + 4..bytes.len().checked_sub(CRC_BYTES)?)?;
    let count = usize::try_from(rest.try_get_u32_le().ok()?).ok().filter(|count| *count <= STORES_MAX)?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let id = StoreId(rest.try_get_u64_le().ok()?);
        let len = usize::try_from(rest.try_get_u32_le().ok()?).ok()?;
        let entry = StoreEntry::decode(rest.split_off(..len)?).ok()?;
        records.push(StoreRecord { id, addresses: entry.addresses, version: entry.version });
    }
    rest.is_empty().then_some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_and_damaged_ones_do_not() {
        let record = |id| StoreRecord {
            id: StoreId(id),
            addresses: vec![format!("10.0.0.{id}:20160"), format!("10.0.0.{id}:20161")],
            version: id + 7,
        };
        let records = vec![record(1), record(3)];
        let bytes = encode(&records);
        assert_eq!((version(&bytes), decode(&bytes)), (Some(VERSION), Some(records)));
        for len in 0..bytes.len() {
            assert_eq!(version(&bytes[..len]), None, "{len} bytes");
        }
        assert_eq!(decode(&encode(&[])), Some(Vec::new()));
    }
}
