//! Files and directories of the host on which the running code is.

use super::disk::{Answer, Operation, cover};
use super::world::{Here, current};
use crate::fs::{ALIGNMENT, DirEntry, OpenOptions};
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::rc::Rc;

/// Memory whose first byte lies on a block's boundary.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// Room for `len` bytes, to be appended to [`Buffer::tail`].
    pub(super) fn with_room(len: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(len + ALIGNMENT - 1);
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        bytes.resize(start, 0);
        Self { bytes, start }
    }

    /// `len` bytes of seeded garbage, for memory that is used before it is written.
    pub(crate) fn garbage(len: usize) -> Self {
        let garbage = current().map_or(0, |here| here.world.numbers.below(256));
        let mut buffer = Self::with_room(len);
        buffer.bytes.resize(buffer.start + len, u8::try_from(garbage).expect("below 256"));
        buffer
    }

    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

/// The part of the blocks read that was asked for.
pub(crate) struct ReadBuffer {
    buffer: Buffer,
    start: usize,
    end: usize,
}

impl Deref for ReadBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }
}

/// An open file.
#[derive(Clone)]
pub(crate) struct File {
    handle: Rc<Handle>,
    can_read: bool,
    can_write: bool,
    data_sync: bool,
}

/// Keeps a file's content as long as it is open, its name gone or not.
#[derive(Debug)]
struct Handle {
    here: Here,
    inode: u64,
    locked: bool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let host = self.here.world.host(self.here.place.host);
        // A host that went down has closed its files already.
        if host.is_life(self.here.place.life) {
            host.disk.close(self.inode, self.locked);
        }
    }
}

/// A lock file that is held.
#[derive(Debug)]
pub(crate) struct DirLock {
    #[expect(dead_code, reason = "held until it is dropped")]
    handle: Handle,
}

/// Opens a file.
pub(crate) async fn open(here: Here, options: OpenOptions, path: &Path) -> io::Result<File> {
    if (options.create || options.create_new || options.truncate) && !options.write {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let operation = Operation::Open {
        path: path.to_owned(),
        create: options.create,
        create_new: options.create_new,
        truncate: options.truncate,
    };
    match here.clone().submit(operation).await? {
        Answer::Opened(inode) => Ok(File {
            handle: Rc::new(Handle { here, inode, locked: false }),
            can_read: options.read,
            can_write: options.write,
            data_sync: options.data_sync,
        }),
        _ => Err(wrong_answer()),
    }
}

impl File {
    pub(crate) async fn read_at(&self, offset: u64, len: usize) -> io::Result<ReadBuffer> {
        if !self.can_read {
            return Err(bad_descriptor());
        }
        let (first, count, before) = cover(offset, len)?;
        match self.submit(Operation::Read { file: self.handle.inode, first, count }).await? {
            Answer::Bytes(buffer) => {
                let end = buffer.len().min(before + len);
                Ok(ReadBuffer { buffer, start: before.min(end), end })
            }
            _ => Err(wrong_answer()),
        }
    }

    pub(crate) async fn write_at(&self, buffer: &Buffer, offset: u64) -> io::Result<()> {
        if !self.can_write {
            return Err(bad_descriptor());
        }
        let (first, _, _) = cover(offset, buffer.len())?;
        let data = Rc::from(&buffer[..]);
        let file = self.handle.inode;
        self.done(Operation::Write { file, first, data, durable: self.data_sync }).await
    }

    pub(crate) async fn sync_data(&self) -> io::Result<()> {
        self.done(Operation::SyncData { file: self.handle.inode, upto: 0 }).await
    }

    pub(crate) async fn len(&self) -> io::Result<u64> {
        match self.submit(Operation::Length { file: self.handle.inode }).await? {
            Answer::Number(len) => Ok(len),
            _ => Err(wrong_answer()),
        }
    }

    pub(crate) async fn set_len(&self, len: u64) -> io::Result<()> {
        if !self.can_write {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.done(Operation::SetLength { file: self.handle.inode, len }).await
    }

    pub(crate) async fn allocate(&self, len: u64) -> io::Result<()> {
        if !self.can_write {
            return Err(bad_descriptor());
        }
        self.done(Operation::Allocate { file: self.handle.inode, len }).await
    }

    async fn done(&self, operation: Operation) -> io::Result<()> {
        self.submit(operation).await.map(|_| ())
    }

    fn submit(&self, operation: Operation) -> super::disk::Submitted {
        self.handle.here.clone().submit(operation)
    }
}

pub(crate) async fn read_dir(here: Here, path: &Path) -> io::Result<Vec<DirEntry>> {
    match here.submit(Operation::ReadDir { path: path.to_owned() }).await? {
        Answer::Entries(entries) => Ok(entries),
        _ => Err(wrong_answer()),
    }
}

pub(crate) async fn create_dir_all(here: Here, path: &Path) -> io::Result<()> {
    done(here, Operation::CreateDirAll { path: path.to_owned() }).await
}

pub(crate) async fn rename(here: Here, from: &Path, to: &Path) -> io::Result<()> {
    done(here, Operation::Rename { from: from.to_owned(), to: to.to_owned() }).await
}

pub(crate) async fn hard_link(here: Here, from: &Path, to: &Path) -> io::Result<()> {
    done(here, Operation::HardLink { from: from.to_owned(), to: to.to_owned() }).await
}

pub(crate) async fn remove_file(here: Here, path: &Path) -> io::Result<()> {
    done(here, Operation::RemoveFile { path: path.to_owned() }).await
}

pub(crate) async fn remove_dir_all(here: Here, path: &Path) -> io::Result<()> {
    done(here, Operation::RemoveDirAll { path: path.to_owned() }).await
}

pub(crate) async fn exists(here: Here, path: &Path) -> io::Result<bool> {
    match here.submit(Operation::Exists { path: path.to_owned() }).await? {
        Answer::Exists(exists) => Ok(exists),
        _ => Err(wrong_answer()),
    }
}

pub(crate) async fn sync_dir(here: Here, path: &Path) -> io::Result<()> {
    done(here, Operation::SyncDir { path: path.to_owned(), upto: 0 }).await
}

pub(crate) async fn available_bytes(here: Here) -> io::Result<u64> {
    match here.submit(Operation::Available).await? {
        Answer::Number(bytes) => Ok(bytes),
        _ => Err(wrong_answer()),
    }
}

pub(crate) async fn lock(here: Here, path: &Path) -> io::Result<DirLock> {
    match here.clone().submit(Operation::Lock { path: path.to_owned() }).await? {
        Answer::Locked(inode) => Ok(DirLock { handle: Handle { here, inode, locked: true } }),
        _ => Err(wrong_answer()),
    }
}

async fn done(here: Here, operation: Operation) -> io::Result<()> {
    here.submit(operation).await.map(|_| ())
}

fn bad_descriptor() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

/// Never seen: the disk answers each operation in kind.
fn wrong_answer() -> io::Error {
    io::Error::other("the simulated disk answered another question")
}
