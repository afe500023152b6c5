//! The operations of a disk, and what each does.

use super::super::fs::Buffer;
use super::super::random::{Random, mix};
use super::super::trace::digest;
use super::Contents;
use super::faults::{DiskError, Faults, IoCounts};
use super::file::{BLOCK, blocks};
use crate::fs::DirEntry;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What a disk is asked for.
pub(crate) enum Operation {
    Open { path: PathBuf, create: bool, create_new: bool, truncate: bool },
    Read { file: u64, first: usize, count: usize },
    Write { file: u64, first: usize, data: Rc<[u8]>, durable: bool },
    SyncData { file: u64, upto: u64 },
    Length { file: u64 },
    SetLength { file: u64, len: u64 },
    Allocate { file: u64, len: u64 },
    ReadDir { path: PathBuf },
    CreateDirAll { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    HardLink { from: PathBuf, to: PathBuf },
    RemoveFile { path: PathBuf },
    RemoveDirAll { path: PathBuf },
    Exists { path: PathBuf },
    SyncDir { path: PathBuf, upto: u64 },
    Available,
    Lock { path: PathBuf },
}

/// What it gives.
pub(crate) enum Answer {
    Done,
    Opened(u64),
    Locked(u64),
    Bytes(Buffer),
    Number(u64),
    Entries(Vec<DirEntry>),
    Exists(bool),
}

impl Operation {
    /// What is decided when the operation begins: a sync covers what was complete by then, `sequence` being the last change.
    pub(super) fn begin(&mut self, sequence: u64, faults: &Faults) {
        match self {
            Self::SyncData { upto, .. } | Self::SyncDir { upto, .. } => {
                *upto = if faults.ignores_sync { 0 } else { sequence };
            }
            Self::Write { durable, .. } => *durable &= !faults.ignores_data_sync,
            _ => {}
        }
    }

    /// The power goes while this is in flight: what it does is durable only by luck.
    pub(super) fn interrupt(&mut self) {
        if let Self::Write { durable, .. } = self {
            *durable = false;
        }
    }

    pub(super) fn is_write(&self) -> bool {
        matches!(self, Self::Write { .. })
    }

    pub(super) fn is_sync(&self) -> bool {
        matches!(self, Self::SyncData { .. } | Self::SyncDir { .. })
    }

    /// Where it is counted.
    pub(super) fn counter<'a>(&self, counts: &'a mut IoCounts) -> &'a mut u64 {
        match self {
            Self::Read { .. } => &mut counts.reads,
            Self::Write { .. } => &mut counts.writes,
            Self::SyncData { .. } | Self::SyncDir { .. } => &mut counts.syncs,
            _ => &mut counts.others,
        }
    }

    /// Whether it may fail for want of space.
    pub(super) fn takes_space(&self, contents: &Contents) -> bool {
        match self {
            Self::Write { file, first, data, .. } => contents
                .names
                .file(*file)
                .is_ok_and(|file| file.blocks_to_write(*first, data.len() / BLOCK) > 0),
            Self::Open { path, create, create_new, .. } => {
                (*create || *create_new) && contents.names.find(path).is_err()
            }
            Self::Lock { path } => contents.names.find(path).is_err(),
            Self::Allocate { .. }
            | Self::CreateDirAll { .. }
            | Self::Rename { .. }
            | Self::HardLink { .. } => true,
            _ => false,
        }
    }

    /// What the trace takes of it: which operation, and a digest of its arguments.
    pub(super) fn trace(&self) -> [u64; 2] {
        let path = |path: &Path| digest(path.as_os_str().as_encoded_bytes());
        match self {
            Self::Open { path: at, create, create_new, truncate } => {
                [1, path(at) ^ u64::from(*create) ^ u64::from(*create_new) << 1 ^ u64::from(*truncate) << 2]
            }
            Self::Read { file, first, count } => [2, mix(mix(*file) ^ *first as u64) ^ *count as u64],
            Self::Write { file, first, data, durable } => {
                [3 | u64::from(*durable) << 8, mix(mix(*file) ^ *first as u64) ^ digest(data)]
            }
            Self::SyncData { file, upto } => [4, mix(*file) ^ *upto],
            Self::Length { file } => [5, *file],
            Self::SetLength { file, len } => [6, mix(*file) ^ *len],
            Self::Allocate { file, len } => [7, mix(*file) ^ *len],
            Self::ReadDir { path: at } => [8, path(at)],
            Self::CreateDirAll { path: at } => [9, path(at)],
            Self::Rename { from, to } => [10, mix(path(from)) ^ path(to)],
            Self::HardLink { from, to } => [11, mix(path(from)) ^ path(to)],
            Self::RemoveFile { path: at } => [12, path(at)],
            Self::RemoveDirAll { path: at } => [13, path(at)],
            Self::Exists { path: at } => [14, path(at)],
            Self::SyncDir { path: at, upto } => [15, mix(path(at)) ^ *upto],
            Self::Available => [16, 0],
            Self::Lock { path: at } => [17, path(at)],
        }
    }
}

/// For the trace's text: without the data.
impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open { path, create, create_new, truncate } => {
                write!(f, "open {} create={create} new={create_new} truncate={truncate}", path.display())
            }
            Self::Read { file, first, count } => write!(f, "read #{file} blocks {first}+{count}"),
            Self::Write { file, first, data, durable } => {
                write!(f, "write #{file} blocks {first}+{} durable={durable}", data.len() / BLOCK)
            }
            Self::SyncData { file, upto } => write!(f, "sync #{file} up to {upto}"),
            Self::Length { file } => write!(f, "length of #{file}"),
            Self::SetLength { file, len } => write!(f, "set length of #{file} to {len}"),
            Self::Allocate { file, len } => write!(f, "allocate {len} for #{file}"),
            Self::ReadDir { path } => write!(f, "list {}", path.display()),
            Self::CreateDirAll { path } => write!(f, "make {}", path.display()),
            Self::Rename { from, to } => write!(f, "rename {} to {}", from.display(), to.display()),
            Self::HardLink { from, to } => write!(f, "link {} as {}", from.display(), to.display()),
            Self::RemoveFile { path } => write!(f, "remove {}", path.display()),
            Self::RemoveDirAll { path } => write!(f, "remove all of {}", path.display()),
            Self::Exists { path } => write!(f, "look for {}", path.display()),
            Self::SyncDir { path, upto } => write!(f, "sync {} up to {upto}", path.display()),
            Self::Available => write!(f, "ask for room"),
            Self::Lock { path } => write!(f, "lock {}", path.display()),
        }
    }
}

impl Contents {
    /// Does an operation, or fails it.
    pub(super) fn apply(
        &mut self,
        operation: &Operation,
        fault: Option<DiskError>,
        chance: &Random,
    ) -> io::Result<Answer> {
        if let Some(error) = fault {
            self.fail(operation, error, chance)?;
            return Err(error.error());
        }
        match operation {
            Operation::Open { path, create, create_new, truncate } => {
                let inode = self.open(path, *create, *create_new)?;
                if *truncate && self.names.file(inode)?.len() > 0 {
                    let sequence = self.next_sequence();
                    self.names.file_mut(inode)?.set_len(sequence, 0);
                }
                self.names.open(inode);
                Ok(Answer::Opened(inode))
            }
            Operation::Read { file, first, count } => {
                let mut buffer = Buffer::with_room(*count * BLOCK);
                self.names.file(*file)?.read(*first, *count, buffer.tail());
                Ok(Answer::Bytes(buffer))
            }
            Operation::Write { file, first, data, durable } => self.write(*file, *first, data, *durable),
            Operation::SyncData { file, upto } => {
                self.names.file_mut(*file)?.sync(*upto);
                Ok(Answer::Done)
            }
            Operation::Length { file } => Ok(Answer::Number(self.names.file(*file)?.len())),
            Operation::SetLength { file, len } => {
                let sequence = self.next_sequence();
                self.names.file_mut(*file)?.set_len(sequence, *len);
                Ok(Answer::Done)
            }
            Operation::Allocate { file, len } => {
                let wanted = self.names.file(*file)?.blocks_to_reserve(*len);
                if self.room(wanted) < wanted {
                    return Err(DiskError::NoSpace.error());
                }
                let sequence = self.next_sequence();
                self.names.file_mut(*file)?.allocate(sequence, *len);
                Ok(Answer::Done)
            }
            Operation::Available => Ok(Answer::Number(self.available_bytes())),
            _ => self.apply_to_names(operation),
        }
    }

    fn apply_to_names(&mut self, operation: &Operation) -> io::Result<Answer> {
        match operation {
            Operation::ReadDir { path } => return self.list(path),
            Operation::CreateDirAll { path } => self.create_directories(path)?,
            Operation::Rename { from, to } => {
                let sequence = self.next_sequence();
                self.names.rename(sequence, from, to)?;
            }
            Operation::HardLink { from, to } => {
                let sequence = self.next_sequence();
                self.names.link(sequence, from, to)?;
            }
            Operation::RemoveFile { path } => {
                let sequence = self.next_sequence();
                self.names.unlink(sequence, path)?;
            }
            Operation::RemoveDirAll { path } => self.names.remove_tree(&mut self.sequence, path)?,
            Operation::Exists { path } => {
                return match self.names.find(path) {
                    Ok(_) => Ok(Answer::Exists(true)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Answer::Exists(false)),
                    Err(error) => Err(error),
                };
            }
            Operation::SyncDir { path, upto } => {
                let directory = self.names.find(path)?;
                self.names.entries(directory)?;
                self.names.sync(directory, *upto);
            }
            Operation::Lock { path } => {
                let inode = self.open(path, true, false)?;
                if !self.locks.insert(inode) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                self.names.open(inode);
                return Ok(Answer::Locked(inode));
            }
            _ => unreachable!("the operations on files were done before"),
        }
        Ok(Answer::Done)
    }

    fn open(&mut self, path: &Path, create: bool, create_new: bool) -> io::Result<u64> {
        let (directory, name) = self.names.parent(path)?;
        match self.names.entries(directory)?.get(name) {
            Some(_) if create_new => Err(io::ErrorKind::AlreadyExists.into()),
            Some(&inode) => self.names.file(inode).map(|_| inode),
            None if create || create_new => {
                let sequence = self.next_sequence();
                Ok(self.names.create(sequence, directory, name, false))
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn write(&mut self, inode: u64, first: usize, data: &Rc<[u8]>, durable: bool) -> io::Result<Answer> {
        let count = data.len() / BLOCK;
        let wanted = self.names.file(inode)?.blocks_to_write(first, count);
        let room = self.room(wanted);
        let sequence = self.next_sequence();
        if room < wanted {
            // As many blocks as there is certainly room for.
            let part = &data[..room.min(count) * BLOCK];
            if !part.is_empty() {
                self.names.file_mut(inode)?.write(sequence, first, Rc::from(part), false);
            }
            return Err(DiskError::NoSpace.error());
        }
        self.names.file_mut(inode)?.write(sequence, first, data.clone(), durable);
        Ok(Answer::Done)
    }

    /// What a failing operation does all the same.
    fn fail(&mut self, operation: &Operation, error: DiskError, chance: &Random) -> io::Result<()> {
        match operation {
            Operation::Write { file, first, data, .. } if error == DiskError::Io => {
                self.fail_write(*file, *first, data, chance)
            }
            Operation::SyncData { file, .. } => {
                self.names.file_mut(*file)?.lose_pending();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Answer> {
        let directory = self.names.find(path)?;
        let entries = self.names.entries(directory)?.iter().map(|(name, &inode)| {
            let (is_dir, len) = self.names.describe(inode);
            DirEntry { name: name.clone(), is_dir, len }
        });
        Ok(Answer::Entries(entries.collect()))
    }

    fn create_directories(&mut self, path: &Path) -> io::Result<()> {
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        for path in above {
            match self.names.find(path) {
                Ok(inode) => {
                    self.names.entries(inode)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let (directory, name) = self.names.parent(path)?;
                    let sequence = self.next_sequence();
                    self.names.create(sequence, directory, name, true);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The blocks that cover `len` bytes at `offset`: the first, how many, and how many bytes of the first come before `offset`.
pub(crate) fn cover(offset: u64, len: usize) -> io::Result<(usize, usize, usize)> {
    let first = usize::try_from(offset / BLOCK as u64).map_err(io::Error::other)?;
    let before = usize::try_from(offset % BLOCK as u64).map_err(io::Error::other)?;
    Ok((first, blocks((before + len) as u64), before))
}
