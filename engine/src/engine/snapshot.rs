//! Region snapshots: a region's tables under names of their own, to be sent to a peer.
//!
//! Making one flushes the memtable and links the tables into `snapshots/<region>-<number>/`: it costs links, not a scan, and what is written
//! meanwhile is not in it. The tables are sent whole, and the description says which part of each counts. Nothing of it is made durable:
//! a start removes what an earlier life left.
//!
//! The description (numbers are little-endian):
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | magic `PNRS` |
//! | 4 | 4 | format version, 1 |
//! | 8 | 4 | crc32 of the bytes from 12 on |
//! | 12 | 4 | reserved, 0 |
//! | 16 | 8 | region |
//! | 24 | 8 | about how many bytes of the tables count |
//! | 32 | … | the tree's state (`manifest::TreeState`) in its frame; the files are its tables, with their lengths |
//!
//! It has no checksums of whole files. Every chunk is sent with one, and the receiver verifies every checksum within every table before it installs
//! them: that finds what was damaged on the sender's disk too, which a sum over the damaged bytes would have confirmed.

use super::statistics::count;
use super::{Engine, removal};
use crate::Error;
use crate::manifest::{TableRef, TreeState, table_file_name};
use crate::table::{KEY_LEN_MAX, SEQUENCE_MAX};
use bytes::Bytes;
use pinion_runtime::fs::{self, File, OpenOptions};
use pinion_types::{LogIndex, RegionId, Term};
use std::cell::RefCell;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 4] = b"PNRS";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;

/// Bytes of a file that are read or written at a time at most.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 4 << 20;
/// Bytes of a description at most: some hundred thousand tables.
const DESCRIPTION_BYTES_MAX: usize = 64 << 20;
/// Bytes of a table at most. Compaction ends one at a thousandth of that.
const TABLE_BYTES_MAX: u64 = 64 << 30;
/// Counters that came from elsewhere are below this, so that counting on from them is safe.
const COUNTER_MAX: u64 = 1 << 62;

/// A file of a region snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its number.
    pub number: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// What is in a region snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotDescription {
    /// The region.
    pub region: RegionId,
    /// Its tree.
    pub state: TreeState,
    /// About how many bytes of the tables count; the rest belongs to other regions.
    pub bytes: u64,
}

impl SnapshotDescription {
    /// The last entry whose writes are in it.
    pub fn position(&self) -> (LogIndex, Term) {
        self.state.applied()
    }

    /// The files, in the order in which they are best sent.
    pub fn files(&self) -> Vec<SnapshotFile> {
        let file = |table: &TableRef| SnapshotFile { number: table.file, bytes: table.meta.file_len };
        self.state.tables.iter().map(file).collect()
    }

    /// The description as bytes, to be read by [`decode`](Self::decode).
    pub fn encode(&self) -> Vec<u8> {
        let state = self.state.to_bytes();
        let mut body = Vec::with_capacity(HEADER_BYTES - 12 + state.len());
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&self.region.0.to_le_bytes());
        body.extend_from_slice(&self.bytes.to_le_bytes());
        body.extend_from_slice(&state);
        let mut bytes = Vec::with_capacity(12 + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// A description from its bytes, which came from another store: nothing in it is believed unseen.
    ///
    /// # Errors
    /// When it is of an unknown version, damaged, or says what cannot be.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |what| Error::SnapshotDamaged { what };
        if bytes.len() > DESCRIPTION_BYTES_MAX {
            return Err(damaged("the description is too long"));
        }
        let (header, state) =
            bytes.split_first_chunk::<HEADER_BYTES>().ok_or(damaged("the description is cut off"))?;
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if &header[..4] != MAGIC {
            return Err(damaged("the description begins with another magic"));
        }
        if word(4) != VERSION {
            return Err(Error::SnapshotVersion { got: word(4), known: VERSION });
        }
        if crc32fast::hash(bytes.get(12..).unwrap_or_default()) != word(8) {
            return Err(damaged("the description's checksum does not match"));
        }
        let state = TreeState::from_bytes(state)?;
        check(&state)?;
        Ok(Self { region: RegionId(long(16)), state, bytes: long(24) })
    }
}

/// What must hold of a state that comes from another store, beside what holds of any.
fn check(state: &TreeState) -> Result<(), Error> {
    let refused = |what| Err(Error::SnapshotDamaged { what });
    let counters = [state.edit, state.applied_index, state.applied_term, state.next_file];
    if counters.iter().any(|counter| *counter >= COUNTER_MAX) || state.last_sequence >= SEQUENCE_MAX / 2 {
        return refused("a counter is so high that it could not be counted on");
    }
    for table in &state.tables {
        if table.meta.largest_sequence > state.last_sequence {
            return refused("a table has a sequence above the tree's last");
        }
        if table.meta.file_len == 0 || table.meta.file_len > TABLE_BYTES_MAX {
            return refused("a table has a length that cannot be");
        }
        let keys = [&table.meta.smallest, &table.meta.largest, &table.bound_start, &table.bound_end];
        if keys.iter().any(|key| key.len() > KEY_LEN_MAX) {
            return refused("a table's key is too long");
        }
        let (start, end) = table.clipped();
        if start >= end {
            return refused("a table has no key within its bound");
        }
    }
    Ok(())
}

/// A region snapshot that can be sent. [`release`](Self::release) it when nobody needs it: until then it keeps its tables on the disk.
pub struct RegionSnapshot {
    /// The region.
    pub region: RegionId,
    /// The last entry whose writes are in it: these and those of all before it, and no others.
    pub position: (LogIndex, Term),
    /// The tree, with the bounds of its tables.
    pub state: TreeState,
    /// The files, all of which are to be sent.
    pub files: Vec<SnapshotFile>,
    /// About how many bytes of the files count; the rest belongs to other regions.
    pub bytes: u64,
    directory: PathBuf,
    /// The file that was read last.
    open: RefCell<Option<(u64, File)>>,
}

impl RegionSnapshot {
    /// What a receiver must know first, to be read by [`SnapshotDescription::decode`].
    pub fn description(&self) -> Vec<u8> {
        SnapshotDescription { region: self.region, state: self.state.clone(), bytes: self.bytes }.encode()
    }

    /// A part of a file: up to `bytes_max` bytes, and not more than [`SNAPSHOT_CHUNK_BYTES_MAX`], from `offset` on; nothing at its end.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be read, or is shorter than it was.
    pub async fn read(&self, file_number: u64, offset: u64, bytes_max: usize) -> Result<Bytes, Error> {
        let file = self.files.iter().find(|file| file.number == file_number);
        let file = file.ok_or(Error::SnapshotRefused { region: self.region, what: "it has no such file" })?;
        let path = self.directory.join(table_file_name(file_number));
        let rest = usize::try_from(file.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = rest.min(bytes_max).min(SNAPSHOT_CHUNK_BYTES_MAX);
        if len == 0 {
            return Ok(Bytes::new());
        }
        let failed = |source| Error::io(&path, source);
        let there = self.open.borrow().clone().filter(|(number, _)| *number == file_number);
        let opened = match there {
            Some((_, opened)) => opened,
            None => OpenOptions::read().open(&path).await.map_err(failed)?,
        };
        *self.open.borrow_mut() = Some((file_number, opened.clone()));
        let bytes = opened.read_at(offset, len).await.map_err(failed)?;
        if bytes.len() != len {
            return Err(Error::corrupt(&path, offset, "the file is shorter than it was"));
        }
        Ok(Bytes::copy_from_slice(&bytes))
    }

    /// Removes the snapshot's files. One that is dropped without keeps them until the next start.
    ///
    /// # Errors
    /// When they cannot be removed; the next start tries again.
    pub async fn release(self) -> Result<(), Error> {
        self.open.take();
        removal::remove_directory(&self.directory).await
    }
}

/// Where region snapshots are.
pub(super) fn snapshots_directory(data_dir: &Path) -> PathBuf {
    data_dir.join("snapshots")
}

impl Engine {
    /// Makes a snapshot of a region as it is now: flushes it, and links its tables. Flushes and compactions go on meanwhile, structural
    /// steps wait.
    ///
    /// # Errors
    /// When the region is not on this core or is removed meanwhile, or the flush or a link fails.
    pub async fn make_snapshot(&self, id: RegionId) -> Result<RegionSnapshot, Error> {
        let region = self.region(id).ok_or(Error::NoSuchRegion { region: id })?;
        let _busy = self.occupy(&region).await?;
        self.flush_now(&region).await?;
        let directory = self.make_snapshot_directory(id).await?;
        let (state, bytes) = match region.tree.checkpoint_counted(&directory).await {
            Ok(linked) => linked,
            Err(error) => {
                // What was linked would keep tables on the disk.
                drop(removal::remove_directory(&directory).await);
                return Err(error);
            }
        };
        count(&self.0.counters.snapshots_made);
        let description = SnapshotDescription { region: id, state, bytes };
        Ok(RegionSnapshot {
            region: id,
            position: description.position(),
            files: description.files(),
            state: description.state,
            bytes,
            directory,
            open: RefCell::default(),
        })
    }

    /// Makes a directory that no other snapshot of the region has, one of another core that the region was on before included.
    async fn make_snapshot_directory(&self, id: RegionId) -> Result<PathBuf, Error> {
        let directory = snapshots_directory(&self.0.options.data_dir);
        loop {
            let number = self.0.snapshot_number.replace(self.0.snapshot_number.get() + 1);
            let path = directory.join(format!("{id}-{number}"));
            let failed = |source| Error::io(&path, source);
            if !fs::exists(&path).await.map_err(failed)? {
                fs::create_dir_all(&path).await.map_err(failed)?;
                return Ok(path);
            }
        }
    }
}
