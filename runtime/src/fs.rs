//! Files and directories.
//!
//! Data goes directly between the device and aligned memory ([`Buffer`]); there is no page cache between. Metadata work (links,
//! listings, removals) runs on a helper thread, never on the core's own.

use crate::glommio_machine::fs as real;
use crate::sim::{self, fs as simulated};
use std::io;
use std::path::Path;

/// Offsets, lengths and addresses of direct writes are multiples of this many bytes.
pub const ALIGNMENT: usize = 4096;

/// Aligned memory for direct input and output.
pub struct Buffer(Memory);

enum Memory {
    Real(real::Buffer),
    Simulated(simulated::Buffer),
}

impl Buffer {
    /// `len` bytes with arbitrary content, `len` a multiple of [`ALIGNMENT`].
    pub fn new(len: usize) -> Self {
        assert!(len.is_multiple_of(ALIGNMENT) && len > 0, "direct buffers are whole blocks, not {len} bytes");
        if sim::is_simulated() {
            Self(Memory::Simulated(simulated::Buffer::garbage(len)))
        } else {
            Self(Memory::Real(real::buffer(len)))
        }
    }

    /// `len` zero bytes, `len` a multiple of [`ALIGNMENT`].
    pub fn zeroed(len: usize) -> Self {
        let mut buffer = Self::new(len);
        buffer.fill(0);
        buffer
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Real(buffer) => buffer.as_bytes(),
            Memory::Simulated(buffer) => buffer,
        }
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Real(buffer) => buffer.as_bytes_mut(),
            Memory::Simulated(buffer) => buffer,
        }
    }
}

/// What a read brought: at most as many bytes as were asked for, fewer at the end of the file.
pub struct ReadBuffer(Bytes);

enum Bytes {
    Real(real::ReadBuffer),
    Simulated(simulated::ReadBuffer),
}

impl std::ops::Deref for ReadBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Real(bytes) => bytes.as_deref().unwrap_or_default(),
            Bytes::Simulated(bytes) => bytes,
        }
    }
}

/// How to open a file.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one open(2) flag")]
pub struct OpenOptions {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) create: bool,
    pub(crate) create_new: bool,
    pub(crate) truncate: bool,
    pub(crate) data_sync: bool,
}

impl OpenOptions {
    /// For reading.
    pub fn read() -> Self {
        Self { read: true, ..Self::default() }
    }

    /// For reading and writing a file that exists.
    pub fn write() -> Self {
        Self { read: true, write: true, ..Self::default() }
    }

    /// Makes the file when it does not exist.
    #[must_use]
    pub fn create(mut self) -> Self {
        self.create = true;
        self
    }

    /// Makes the file; an error when it exists.
    #[must_use]
    pub fn create_new(mut self) -> Self {
        self.create_new = true;
        self
    }

    /// Cuts the file to nothing.
    #[must_use]
    pub fn truncate(mut self) -> Self {
        self.truncate = true;
        self
    }

    /// Every write is durable when it completes (O_DSYNC).
    #[must_use]
    pub fn data_sync(mut self) -> Self {
        self.data_sync = true;
        self
    }

    /// Opens the file at `path` for direct input and output.
    pub async fn open(self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        match sim::current() {
            Some(here) => Ok(File(Handle::Simulated(simulated::open(here, self, path).await?))),
            None => Ok(File(Handle::Real(real::open(self, path).await?))),
        }
    }
}

/// An open file. Clones share it; it is closed with the last of them.
#[derive(Clone)]
pub struct File(Handle);

#[derive(Clone)]
enum Handle {
    Real(real::File),
    Simulated(simulated::File),
}

impl File {
    /// Reads up to `len` bytes at `offset`, neither of which need be aligned (aligned ones cost less). Fewer come back only at the
    /// end of the file.
    pub async fn read_at(&self, offset: u64, len: usize) -> io::Result<ReadBuffer> {
        match &self.0 {
            Handle::Real(file) => Ok(ReadBuffer(Bytes::Real(file.read_at(offset, len).await?))),
            Handle::Simulated(file) => Ok(ReadBuffer(Bytes::Simulated(file.read_at(offset, len).await?))),
        }
    }

    /// Writes the whole buffer at `offset`, a multiple of [`ALIGNMENT`]; gives the buffer back for another use. The write goes on
    /// when this future is dropped.
    ///
    /// # Errors
    /// A short write is an error of kind `StorageFull`.
    pub async fn write_at(&self, buffer: Buffer, offset: u64) -> io::Result<Buffer> {
        assert!(offset.is_multiple_of(ALIGNMENT as u64), "direct writes begin on a block, not at {offset}");
        match (&self.0, buffer.0) {
            (Handle::Real(file), Memory::Real(memory)) => {
                Ok(Buffer(Memory::Real(file.write_at(memory, offset).await?)))
            }
            (Handle::Simulated(file), Memory::Simulated(memory)) => {
                file.write_at(&memory, offset).await?;
                Ok(Buffer(Memory::Simulated(memory)))
            }
            _ => panic!("a buffer belongs to the machine on which it was made"),
        }
    }

    /// Makes the file's data and length durable.
    pub async fn sync_data(&self) -> io::Result<()> {
        match &self.0 {
            Handle::Real(file) => file.sync_data().await,
            Handle::Simulated(file) => file.sync_data().await,
        }
    }

    /// The file's length in bytes.
    pub async fn len(&self) -> io::Result<u64> {
        match &self.0 {
            Handle::Real(file) => file.len().await,
            Handle::Simulated(file) => file.len().await,
        }
    }

    /// Whether the file has no bytes.
    pub async fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// Cuts or extends the file to `len` bytes.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        match &self.0 {
            Handle::Real(file) => file.set_len(len).await,
            Handle::Simulated(file) => file.set_len(len).await,
        }
    }

    /// Reserves space for `len` bytes from the beginning, and makes the file that long.
    pub async fn allocate(&self, len: u64) -> io::Result<()> {
        match &self.0 {
            Handle::Real(file) => file.allocate(len).await,
            Handle::Simulated(file) => file.allocate(len).await,
        }
    }
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name, without its directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes.
    pub len: u64,
}

/// Holds a directory for this process alone until it is dropped.
#[derive(Debug)]
pub struct DirLock {
    #[expect(dead_code, reason = "held until it is dropped")]
    held: Lock,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held until it is dropped")]
enum Lock {
    Real(real::DirLock),
    Simulated(simulated::DirLock),
}

/// The names in a directory, sorted. Names that are not UTF-8 are an error.
pub async fn read_dir(path: impl AsRef<Path>) -> io::Result<Vec<DirEntry>> {
    match sim::current() {
        Some(here) => simulated::read_dir(here, path.as_ref()).await,
        None => real::read_dir(path.as_ref().to_owned()).await,
    }
}

/// Makes a directory and those above it that do not exist.
pub async fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    match sim::current() {
        Some(here) => simulated::create_dir_all(here, path.as_ref()).await,
        None => real::create_dir_all(path.as_ref().to_owned()).await,
    }
}

/// Makes the directory `base`/`path` and those between, and makes all their names durable. Those that exist already are synced as well: whoever
/// made them may have been killed before.
pub async fn create_dir_durably(base: impl AsRef<Path>, path: impl AsRef<Path>) -> io::Result<()> {
    let mut directory = base.as_ref().to_owned();
    create_dir_all(directory.join(path.as_ref())).await?;
    for part in path.as_ref() {
        sync_dir(&directory).await?;
        directory.push(part);
    }
    Ok(())
}

/// Gives a file another name; replaces what had that name. Durable after [`sync_dir`].
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    match sim::current() {
        Some(here) => simulated::rename(here, from.as_ref(), to.as_ref()).await,
        None => real::rename(from.as_ref().to_owned(), to.as_ref().to_owned()).await,
    }
}

/// Gives a file a second name. Durable after [`sync_dir`].
pub async fn hard_link(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    match sim::current() {
        Some(here) => simulated::hard_link(here, from.as_ref(), to.as_ref()).await,
        None => real::hard_link(from.as_ref().to_owned(), to.as_ref().to_owned()).await,
    }
}

/// Removes a file's name.
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    match sim::current() {
        Some(here) => simulated::remove_file(here, path.as_ref()).await,
        None => real::remove_file(path.as_ref().to_owned()).await,
    }
}

/// Removes a file that nobody has open, the large one a part at a time: a file system that tells the device of every freed block lets
/// synced writes wait for it, some milliseconds for 64 MiB at once. A crash on the way leaves a shorter file. A file with other names loses
/// this one only.
pub async fn remove_large_file(path: impl AsRef<Path>) -> io::Result<()> {
    match sim::current() {
        Some(here) => simulated::remove_file(here, path.as_ref()).await,
        None => real::remove_large_file(path.as_ref().to_owned()).await,
    }
}

/// Removes a directory and all in it.
pub async fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    match sim::current() {
        Some(here) => simulated::remove_dir_all(here, path.as_ref()).await,
        None => real::remove_dir_all(path.as_ref().to_owned()).await,
    }
}

/// Whether there is something of that name.
pub async fn exists(path: impl AsRef<Path>) -> io::Result<bool> {
    match sim::current() {
        Some(here) => simulated::exists(here, path.as_ref()).await,
        None => real::exists(path.as_ref().to_owned()).await,
    }
}

/// Makes the names in a directory durable.
pub async fn sync_dir(path: impl AsRef<Path>) -> io::Result<()> {
    match sim::current() {
        Some(here) => simulated::sync_dir(here, path.as_ref()).await,
        None => real::sync_dir(path.as_ref().to_owned()).await,
    }
}

/// Bytes that may still be written to the file system that holds `path`.
pub async fn available_bytes(path: impl AsRef<Path>) -> io::Result<u64> {
    match sim::current() {
        Some(here) => simulated::available_bytes(here).await,
        None => real::available_bytes(path.as_ref()).await,
    }
}

/// Takes the lock file `path` for this process; an error of kind `WouldBlock` when another process holds it.
pub async fn lock(path: impl AsRef<Path>) -> io::Result<DirLock> {
    let held = match sim::current() {
        Some(here) => Lock::Simulated(simulated::lock(here, path.as_ref()).await?),
        None => Lock::Real(real::lock(path.as_ref().to_owned()).await?),
    };
    Ok(DirLock { held })
}

/// Reads a whole small file.
pub async fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let file = OpenOptions::read().open(path).await?;
    let len = usize::try_from(file.len().await?).map_err(io::Error::other)?;
    if len == 0 {
        return Ok(Vec::new());
    }
    Ok(file.read_at(0, len).await?.to_vec())
}

/// Writes a whole small file so that after a crash the name holds the old bytes or the new, never a part: to `path` with `.new`
/// appended, synced, renamed, the directory synced.
pub async fn write_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
    let path = path.as_ref();
    let mut provisional = path.as_os_str().to_owned();
    provisional.push(".new");
    let file = OpenOptions::write().create().truncate().open(&provisional).await?;
    if !bytes.is_empty() {
        let mut buffer = Buffer::zeroed(bytes.len().next_multiple_of(ALIGNMENT));
        buffer[..bytes.len()].copy_from_slice(bytes);
        file.write_at(buffer, 0).await?;
        file.set_len(bytes.len() as u64).await?;
    }
    file.sync_data().await?;
    rename(&provisional, path).await?;
    match path.parent() {
        Some(parent) => sync_dir(parent).await,
        None => Ok(()),
    }
}
