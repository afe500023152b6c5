//! A region snapshot on its way in: the files of `incoming/<region>/`.
//!
//! `DESCRIPTION` is written first. A file is `<number>.part` until all of it is there and synced, then it gets a table's name. A try that finds
//! the identical description goes on where an earlier one stopped: with whole files, and with as much of a part as was synced for
//! certain. Before anything is installed every table is opened and every checksum in it verified.

use super::snapshot::{SNAPSHOT_CHUNK_BYTES_MAX, SnapshotDescription, SnapshotFile};
use super::{Engine, removal};
use crate::Error;
use crate::manifest::{TableRef, table_file_name};
use crate::table::{Table, TableId};
use bytes::Bytes;
use pinion_runtime::fs::{self, ALIGNMENT, Buffer, File, OpenOptions};
use pinion_runtime::{JoinHandle, Lane, spawn_in};
use pinion_types::RegionId;
use std::path::{Path, PathBuf};

/// The name of the file that says what is received.
const DESCRIPTION: &str = "DESCRIPTION";
/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;
/// A part is synced at every multiple of so many bytes, before anything behind that is written.
const SYNC_BYTES: u64 = 4 << 20;

/// A region snapshot on its way in. Dropping it leaves what is there for another try.
pub struct IncomingSnapshot {
    pub(super) description: SnapshotDescription,
    pub(super) directory: PathBuf,
    files: Vec<Receiving>,
    /// A write failed: what is on the disk behind the last sync is not known.
    is_broken: bool,
    is_verified: bool,
    receives: Receives,
}

/// One file on its way in.
struct Receiving {
    file: SnapshotFile,
    /// Bytes that were given to the disk: whole blocks, until the file is whole.
    written: u64,
    /// Bytes behind those that were written.
    tail: Vec<u8>,
    open: Option<File>,
    is_whole: bool,
    /// The check of the whole file, which goes on while the next one comes.
    verifying: Option<JoinHandle<Result<(), Error>>>,
}

impl Receiving {
    fn received(&self) -> u64 {
        self.written + self.tail.len() as u64
    }
}

/// The right to receive a snapshot of a region, which one has at a time.
struct Receives {
    engine: Engine,
    region: RegionId,
}

impl Drop for Receives {
    fn drop(&mut self) {
        self.engine.0.receiving.borrow_mut().remove(&self.region);
    }
}

/// Where snapshots on their way in are.
pub(super) fn incoming_directory(data_dir: &Path) -> PathBuf {
    data_dir.join("incoming")
}

fn part_name(file: u64) -> String {
    format!("{file:010}.part")
}

impl Engine {
    /// Begins to receive a snapshot of a region, which need not be on this core, or goes on with one of the identical description. What an
    /// earlier try with another description left is removed.
    ///
    /// # Errors
    /// When the description is of an unknown version, damaged, or another region's; when a snapshot of the region is being received already;
    /// when the directory cannot be made or read.
    pub async fn receive_snapshot(
        &self,
        region: RegionId,
        description: &[u8],
    ) -> Result<IncomingSnapshot, Error> {
        let decoded = SnapshotDescription::decode(description)?;
        if decoded.region != region {
            return Err(Error::SnapshotRefused { region, what: "the description is of another region" });
        }
        if !self.0.receiving.borrow_mut().insert(region) {
            return Err(Error::SnapshotRefused { region, what: "one is being received already" });
        }
        let receives = Receives { engine: self.clone(), region };
        let directory = self.incoming_directory_of(region);
        if !matches!(read_description(&directory).await?, Some(there) if there == description) {
            removal::remove_directory(&directory).await?;
            let failed = |source| Error::io(&directory, source);
            let base = &self.0.options.data_dir;
            let within = directory.strip_prefix(base).expect("what comes in is within the data directory");
            fs::create_dir_durably(base, within).await.map_err(failed)?;
            fs::write_atomically(directory.join(DESCRIPTION), description).await.map_err(failed)?;
        }
        let files = find_files(&directory, &decoded).await?;
        Ok(IncomingSnapshot {
            description: decoded,
            directory,
            files,
            is_broken: false,
            is_verified: false,
            receives,
        })
    }

    pub(super) fn incoming_directory_of(&self, region: RegionId) -> PathBuf {
        incoming_directory(&self.0.options.data_dir).join(region.to_string())
    }

    /// Removes what was received of a snapshot of a region that is no more. Who receives one at the moment has to discard it.
    pub(super) async fn remove_incoming(&self, region: RegionId) {
        if self.0.receiving.borrow().contains(&region) {
            return;
        }
        let directory = self.incoming_directory_of(region);
        if let Err(error) = removal::remove_directory(&directory).await {
            log::warn!("{} will go with the next start: {error}", directory.display());
        }
    }

    /// Removes what was received of snapshots that regions of this core do not need any more.
    pub(super) async fn remove_outdated_incoming(&self) -> Result<(), Error> {
        for name in removal::names(&incoming_directory(&self.0.options.data_dir)).await? {
            let Some(region) = name.parse().ok().and_then(|id| self.region(RegionId(id))) else { continue };
            let directory = self.incoming_directory_of(region.id);
            let description = read_description(&directory).await?;
            let decoded = description.and_then(|description| SnapshotDescription::decode(&description).ok());
            // One that cannot be read is of another version, or was being removed: nobody goes on with it.
            if decoded.is_none_or(|decoded| decoded.position().0 <= region.tree.applied().0) {
                removal::remove_directory(&directory).await?;
            }
        }
        Ok(())
    }
}

async fn read_description(directory: &Path) -> Result<Option<Vec<u8>>, Error> {
    let path = directory.join(DESCRIPTION);
    let failed = |source| Error::io(&path, source);
    if !fs::exists(&path).await.map_err(failed)? {
        return Ok(None);
    }
    fs::read(&path).await.map(Some).map_err(failed)
}

/// What of each file is there and can be built on.
async fn find_files(directory: &Path, description: &SnapshotDescription) -> Result<Vec<Receiving>, Error> {
    let entries = fs::read_dir(directory).await.map_err(|source| Error::io(directory, source))?;
    let len_of = |name: &str| {
        let place = entries.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok()?;
        entries.get(place).map(|entry| entry.len)
    };
    let receiving = |file: SnapshotFile| {
        let is_whole = len_of(&table_file_name(file.number)) == Some(file.bytes);
        let part = len_of(&part_name(file.number)).unwrap_or(0).min(file.bytes);
        // What is there behind a multiple says that all before it is durable.
        let certain = part.saturating_sub(1) / SYNC_BYTES * SYNC_BYTES;
        let written = if is_whole { file.bytes } else { certain };
        Receiving { file, written, tail: Vec::new(), open: None, is_whole, verifying: None }
    };
    Ok(description.files().into_iter().map(receiving).collect())
}

impl IncomingSnapshot {
    /// What it is.
    pub fn description(&self) -> &SnapshotDescription {
        &self.description
    }

    /// How many bytes of each file are there, from its beginning.
    pub fn progress(&self) -> Vec<(u64, u64)> {
        self.files.iter().map(|receiving| (receiving.file.number, receiving.received())).collect()
    }

    /// Takes the next bytes of a file, of which `crc32` is the checksum.
    ///
    /// # Errors
    /// When the checksum does not match, the bytes are not the next ones, are too many, or reach beyond the file's end: nothing was taken then.
    /// When they cannot be written: the snapshot is to be received anew, which goes on with what is there.
    pub async fn write(&mut self, file: u64, offset: u64, data: Bytes, crc32: u32) -> Result<(), Error> {
        let region = self.description.region;
        let refused = |what| Err(Error::SnapshotRefused { region, what });
        if self.is_broken {
            return refused("a write failed before; it is to be received anew");
        }
        let Some(receiving) = self.files.iter_mut().find(|receiving| receiving.file.number == file) else {
            return refused("it has no such file");
        };
        if data.len() > SNAPSHOT_CHUNK_BYTES_MAX {
            return refused("a chunk is too long");
        }
        if offset != receiving.received() {
            return refused("a chunk is not the next one");
        }
        if offset + data.len() as u64 > receiving.file.bytes {
            return refused("a chunk reaches beyond its file's end");
        }
        if crc32fast::hash(&data) != crc32 {
            return refused("a chunk's checksum does not match");
        }
        receiving.tail.extend_from_slice(&data);
        // Until it is known that the write went well.
        self.is_broken = true;
        if receiving.received() == receiving.file.bytes {
            receiving.end(&self.directory).await?;
            self.start_verifying(file);
        } else if receiving.tail.len() >= WRITE_BYTES {
            receiving.write_blocks(&self.directory).await?;
        }
        self.is_broken = false;
        Ok(())
    }

    /// Verifies what came: that all of it did, that each table is the one described, and every checksum in it. It reads all of it once.
    ///
    /// # Errors
    /// When something is missing, and it can be written still; or a table is damaged: all that came is removed then, for another try would
    /// go on with it.
    pub async fn finish(&mut self) -> Result<(), Error> {
        let region = self.description.region;
        if self.files.iter().any(|receiving| !receiving.is_whole) {
            return Err(Error::SnapshotRefused { region, what: "a part of it is missing" });
        }
        let verified = self.verify().await;
        let is_useless = |error: &Error| {
            matches!(
                error,
                Error::Corrupt { .. } | Error::ChecksumMismatch { .. } | Error::UnknownVersion { .. }
            )
        };
        if verified.as_ref().is_err_and(is_useless) {
            removal::remove_directory(&self.directory).await?;
            self.files.clear();
        }
        self.is_verified = verified.is_ok();
        verified
    }

    async fn verify(&mut self) -> Result<(), Error> {
        let numbers: Vec<u64> = self.files.iter().map(|receiving| receiving.file.number).collect();
        for number in numbers {
            self.start_verifying(number);
        }
        let mut verified = Ok(());
        for receiving in &mut self.files {
            // All of them are waited for: none may read what a failure of another removes.
            let task = receiving.verifying.take().expect("all have been started");
            verified = verified.and(task.await);
        }
        verified
    }

    /// Begins to check a file that is whole, unless that is under way. It reads all of the file, beside whatever callers want meanwhile.
    fn start_verifying(&mut self, file: u64) {
        let Some(receiving) = self.files.iter_mut().find(|receiving| receiving.file.number == file) else {
            return;
        };
        if receiving.verifying.is_some() {
            return;
        }
        let tables = &self.description.state.tables;
        let references: Vec<TableRef> = tables.iter().filter(|table| table.file == file).cloned().collect();
        let path = self.directory.join(table_file_name(file));
        let cache = self.receives.engine.cache().clone();
        let verify = async move {
            for reference in references {
                let table = Table::open(&path, TableId(file), &cache).await?;
                if *table.meta() != reference.meta {
                    return Err(Error::corrupt(&path, 0, "the table is not the one that was described"));
                }
                table.verify().await?;
            }
            Ok(())
        };
        receiving.verifying = Some(spawn_in(Lane::Throughput, verify));
    }

    /// Whether it can be installed.
    pub(super) fn is_verified(&self) -> bool {
        self.is_verified
    }

    /// Removes what came of it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn discard(self) -> Result<(), Error> {
        removal::remove_directory(&self.directory).await
    }
}

/// Makes the names of what is there durable.
async fn sync_names(directory: &Path) -> Result<(), Error> {
    fs::sync_dir(directory).await.map_err(|source| Error::io(directory, source))
}

impl Receiving {
    /// Writes what is there up to the last whole block.
    async fn write_blocks(&mut self, directory: &Path) -> Result<(), Error> {
        let len = self.tail.len() / ALIGNMENT * ALIGNMENT;
        self.write_out(directory, len).await
    }

    /// Writes the rest of the file, makes it durable, and gives it a table's name, durably too.
    async fn end(&mut self, directory: &Path) -> Result<(), Error> {
        let (path, whole) =
            (directory.join(part_name(self.file.number)), directory.join(table_file_name(self.file.number)));
        let failed = |source| Error::io(&path, source);
        self.write_out(directory, self.tail.len()).await?;
        let file = self.opened(&path).await?;
        file.set_len(self.file.bytes).await.map_err(failed)?;
        file.sync_data().await.map_err(failed)?;
        self.open = None;
        fs::rename(&path, &whole).await.map_err(failed)?;
        self.is_whole = true;
        sync_names(directory).await
    }

    /// Writes the first `len` bytes of the tail: whole blocks, or all of it at the file's end.
    async fn write_out(&mut self, directory: &Path, len: usize) -> Result<(), Error> {
        let path = directory.join(part_name(self.file.number));
        let failed = |source| Error::io(&path, source);
        let file = self.opened(&path).await?;
        let mut rest = len;
        while rest > 0 {
            let until_sync = SYNC_BYTES - self.written % SYNC_BYTES;
            let len = rest.min(usize::try_from(until_sync).unwrap_or(usize::MAX));
            let mut buffer = Buffer::new(len.next_multiple_of(ALIGNMENT));
            buffer[..len].copy_from_slice(&self.tail[..len]);
            buffer[len..].fill(0);
            file.write_at(buffer, self.written).await.map_err(failed)?;
            self.tail.drain(..len);
            self.written += len as u64;
            rest -= len;
            if self.written.is_multiple_of(SYNC_BYTES) {
                file.sync_data().await.map_err(failed)?;
            }
            if self.written == SYNC_BYTES {
                sync_names(directory).await?;
            }
        }
        Ok(())
    }

    async fn opened(&mut self, path: &Path) -> Result<File, Error> {
        if let Some(file) = &self.open {
            return Ok(file.clone());
        }
        let file =
            OpenOptions::write().create().open(path).await.map_err(|source| Error::io(path, source))?;
        self.open = Some(file.clone());
        Ok(file)
    }
}
