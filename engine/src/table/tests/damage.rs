//! A damaged file gives an error or the right answer, never wrong data and never a panic.

use super::{Entry, collect, on_core, open, write};
use crate::cache::BlockCache;
use crate::error::{Error, Result};
use crate::table::{Compression, EntryKind, RangeTombstone, ReadOptions, TableOptions, hash_key};
use pinion_runtime::fs;
use std::path::Path;
use std::rc::Rc;

fn entries() -> Vec<Entry> {
    (0..40).map(|key| Entry::put(format!("key{key:04}"), key + 1, vec![b'v'; 20])).collect()
}

fn ranges() -> Vec<RangeTombstone> {
    vec![RangeTombstone { start: b"a".to_vec(), end: b"b".to_vec(), sequence: 50 }]
}

fn options(compression: Compression) -> TableOptions {
    TableOptions { block_size_bytes: 400, compression, filter_bits_per_key: 10 }
}

/// Everything that a table answers.
async fn answers(path: &Path, cache: &Rc<BlockCache>) -> Result<(Vec<Entry>, Vec<RangeTombstone>)> {
    let table = open(path, cache).await?;
    let key = b"key0007";
    let found = table.get(key, hash_key(key), 99).await?;
    let found = found.map(|found| (found.sequence, found.kind, found.value.to_vec()));
    assert_eq!(found, Some((8, EntryKind::Put, vec![b'v'; 20])), "a lookup gave something else");
    Ok((collect(&table, ReadOptions::Scan).await?, table.range_tombstones().to_vec()))
}

async fn check_damaged(path: &Path, bytes: &[u8], what: &str) -> bool {
    fs::write_atomically(path, bytes).await.unwrap();
    match answers(path, &BlockCache::new(1 << 20)).await {
        Ok(answers) => {
            assert_eq!(answers, (entries(), ranges()), "{what}");
            false
        }
        Err(
            Error::ChecksumMismatch { file, .. }
            | Error::Corrupt { file, .. }
            | Error::UnknownVersion { file, .. },
        ) => {
            assert_eq!(file, path);
            true
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

#[test]
fn a_changed_byte_anywhere_is_an_error_or_harmless() {
    for compression in [Compression::None, Compression::Lz4] {
        on_core(move |directory| async move {
            let path = directory.join("1.sst");
            write(&path, options(compression), &entries(), &ranges()).await;
            let whole = fs::read(&path).await.unwrap();
            let damaged = directory.join("2.sst");
            let mut noticed = 0;
            for offset in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[offset] ^= 1 << (offset % 8);
                noticed += usize::from(check_damaged(&damaged, &bytes, &format!("byte {offset}")).await);
            }
            // Only the header, which verify() reads, is not needed for these answers.
            assert_eq!(noticed, whole.len() - 16);
        });
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    on_core(|directory| async move {
        let path = directory.join("1.sst");
        write(&path, options(Compression::None), &entries(), &ranges()).await;
        let whole = fs::read(&path).await.unwrap();
        let damaged = directory.join("2.sst");
        for len in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
            assert!(check_damaged(&damaged, &whole[..len], &format!("cut to {len}")).await);
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(check_damaged(&damaged, &longer, "one byte more").await);
    });
}

#[test]
fn another_version_is_named() {
    on_core(|directory| async move {
        let path = directory.join("1.sst");
        write(&path, options(Compression::None), &entries(), &ranges()).await;
        let mut bytes = fs::read(&path).await.unwrap();
        let version = bytes.len() - 48 + 8;
        bytes[version] = 9;
        fs::write_atomically(&path, &bytes).await.unwrap();
        let error = open(&path, &BlockCache::new(1 << 20)).await.err().unwrap();
        assert!(matches!(error, Error::UnknownVersion { got: 9, known: 1, .. }), "{error}");
    });
}

#[test]
fn blocks_of_another_file_are_refused() {
    on_core(|directory| async move {
        let [one, two] = ["1.sst", "2.sst"].map(|name| directory.join(name));
        for path in [&one, &two] {
            write(path, options(Compression::None), &entries(), &ranges()).await;
        }
        let (donor, mut bytes) = (fs::read(&one).await.unwrap(), fs::read(&two).await.unwrap());
        bytes[16..1000].copy_from_slice(&donor[16..1000]);
        fs::write_atomically(&two, &bytes).await.unwrap();
        let error = answers(&two, &BlockCache::new(1 << 20)).await.unwrap_err();
        assert!(matches!(error, Error::ChecksumMismatch { .. }), "{error}");
    });
}
