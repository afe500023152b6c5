//! Files and directories.
//!
//! Data goes directly between the device and aligned memory ([`Buffer`]); there is no page cache between. Metadata work (links,
//! listings, removals) runs on a helper thread, never on the core's own.

use pinion_types::map::HashSet;
use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Offsets, lengths and addresses of direct writes are multiples of this many bytes.
pub const ALIGNMENT: usize = 4096;

/// Aligned memory for direct input and output.
pub struct Buffer(glommio::io::DmaBuffer);

impl Buffer {
    /// `len` bytes with arbitrary content, `len` a multiple of [`ALIGNMENT`].
    pub fn new(len: usize) -> Self {
        assert!(len.is_multiple_of(ALIGNMENT) && len > 0, "direct buffers are whole blocks, not {len} bytes");
        Self(glommio::allocate_dma_buffer_global(len))
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
        self.0.as_bytes()
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }
}

/// What a read brought: at most as many bytes as were asked for, fewer at the end of the file.
pub struct ReadBuffer(Option<glommio::io::ReadResult>);

impl std::ops::Deref for ReadBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// How to open a file.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one open(2) flag")]
pub struct OpenOptions {
    read: bool,
    write: bool,
    create: bool,
    create_new: bool,
    truncate: bool,
    data_sync: bool,
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
        probe_polling(path.as_ref()).await?;
        let mut options = glommio::io::OpenOptions::new();
        options
            .read(self.read)
            .write(self.write)
            .create(self.create)
            .create_new(self.create_new)
            .truncate(self.truncate);
        if self.data_sync && !planted_no_data_sync() {
            options.custom_flags(libc::O_DSYNC);
        }
        let file = options.dma_open(path.as_ref()).await.map_err(io::Error::from)?;
        Ok(File(Rc::new(file)))
    }
}

/// Whether synchronous writes are left out on purpose: a test that cuts the power must find it.
fn planted_no_data_sync() -> bool {
    cfg!(feature = "planted") && std::env::var_os("PINION_PLANT_NO_DSYNC").is_some()
}

/// Lets glommio find out, on a file with data, whether the device that holds `path` can be polled for completions.
///
/// glommio asks by reading from the first file that is opened on each device, and an empty file always answers yes: every later read
/// would then fail with EOPNOTSUPP.
async fn probe_polling(path: &Path) -> io::Result<()> {
    thread_local! {
        static PROBED: RefCell<HashSet<PathBuf>> = RefCell::default();
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    if PROBED.with_borrow(|probed| probed.contains(&directory)) {
        return Ok(());
    }
    let probe = directory.join(format!(".probe-{:x}", crate::random_u64()));
    let made = probe.clone();
    let written = blocking(move || std::fs::write(made, [0; ALIGNMENT])).await;
    // A directory that cannot be written to holds files that are only read, and those have data.
    if written.is_ok() {
        let opened = glommio::io::DmaFile::open(&probe).await.map_err(io::Error::from);
        remove_file(&probe).await?;
        opened?.close().await.map_err(io::Error::from)?;
    }
    PROBED.with_borrow_mut(|probed| probed.insert(directory));
    Ok(())
}

/// An open file. Clones share it; it is closed with the last of them.
#[derive(Clone)]
pub struct File(Rc<glommio::io::DmaFile>);

impl File {
    /// Reads up to `len` bytes at `offset`, neither of which need be aligned (aligned ones cost less). Fewer come back only at the
    /// end of the file.
    pub async fn read_at(&self, offset: u64, len: usize) -> io::Result<ReadBuffer> {
        // glommio's own unaligned read counts the bytes before `offset` as read when it meets the end of the file.
        let start = self.0.align_down(offset);
        let before = usize::try_from(offset - start).map_err(io::Error::other)?;
        let aligned = usize::try_from(self.0.align_up((before + len) as u64)).map_err(io::Error::other)?;
        let result = self.0.read_at_aligned(start, aligned).await.map_err(io::Error::from)?;
        let got = result.len().saturating_sub(before).min(len);
        Ok(ReadBuffer((got > 0).then(|| {
            glommio::io::ReadResult::slice(&result, before, got).expect("the slice lies within what was read")
        })))
    }

    /// Writes the whole buffer at `offset`, a multiple of [`ALIGNMENT`]; gives the buffer back for another use. The write goes on
    /// when this future is dropped.
    ///
    /// # Errors
    /// A short write is an error of kind `StorageFull`.
    pub async fn write_at(&self, buffer: Buffer, offset: u64) -> io::Result<Buffer> {
        assert!(offset.is_multiple_of(ALIGNMENT as u64), "direct writes begin on a block, not at {offset}");
        let shared = Rc::new(buffer.0);
        let written = self.0.write_rc_at(shared.clone(), offset).await.map_err(io::Error::from)?;
        if written < shared.len() {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the file system took a part of a write"));
        }
        let buffer = Rc::try_unwrap(shared).expect("a completed write gives its buffer back");
        Ok(Buffer(buffer))
    }

    /// Makes the file's data and length durable.
    pub async fn sync_data(&self) -> io::Result<()> {
        self.0.fdatasync().await.map_err(io::Error::from)
    }

    /// The file's length in bytes.
    pub async fn len(&self) -> io::Result<u64> {
        self.0.file_size().await.map_err(io::Error::from)
    }

    /// Whether the file has no bytes.
    pub async fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// Cuts or extends the file to `len` bytes.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len).await.map_err(io::Error::from)
    }

    /// Reserves space for `len` bytes from the beginning, and makes the file that long.
    pub async fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.pre_allocate(len, false).await.map_err(io::Error::from)
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
    #[expect(dead_code, reason = "held for its flock alone")]
    file: std::fs::File,
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    glommio::executor().spawn_blocking(work).await
}

/// The names in a directory, sorted. Names that are not UTF-8 are an error.
pub async fn read_dir(path: impl AsRef<Path>) -> io::Result<Vec<DirEntry>> {
    let path = path.as_ref().to_owned();
    blocking(move || {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|name| {
                io::Error::new(io::ErrorKind::InvalidData, format!("not a name of ours: {}", name.display()))
            })?;
            let metadata = entry.metadata()?;
            entries.push(DirEntry { name, is_dir: metadata.is_dir(), len: metadata.len() });
        }
        entries.sort();
        Ok(entries)
    })
    .await
}

/// Makes a directory and those above it that do not exist.
pub async fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    blocking(move || std::fs::create_dir_all(path)).await
}

/// Gives a file another name; replaces what had that name. Durable after [`sync_dir`].
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref().to_owned(), to.as_ref().to_owned());
    blocking(move || std::fs::rename(from, to)).await
}

/// Gives a file a second name. Durable after [`sync_dir`].
pub async fn hard_link(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref().to_owned(), to.as_ref().to_owned());
    blocking(move || std::fs::hard_link(from, to)).await
}

/// Removes a file's name.
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    blocking(move || std::fs::remove_file(path)).await
}

/// Removes a directory and all in it.
pub async fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    blocking(move || std::fs::remove_dir_all(path)).await
}

/// Whether there is something of that name.
pub async fn exists(path: impl AsRef<Path>) -> io::Result<bool> {
    let path = path.as_ref().to_owned();
    blocking(move || std::fs::exists(path)).await
}

/// Makes the names in a directory durable.
pub async fn sync_dir(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    blocking(move || std::fs::File::open(path)?.sync_all()).await
}

/// Bytes that may still be written to the file system that holds `path`.
pub async fn available_bytes(path: impl AsRef<Path>) -> io::Result<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_ref().as_os_str().as_bytes())?;
    blocking(move || {
        // SAFETY: the path ends in a zero byte and the result is valid through the call.
        unsafe {
            let mut stat: libc::statvfs = std::mem::zeroed();
            match libc::statvfs(path.as_ptr(), &raw mut stat) {
                0 => Ok(stat.f_bavail.saturating_mul(stat.f_frsize)),
                _ => Err(io::Error::last_os_error()),
            }
        }
    })
    .await
}

/// Takes the lock file `path` for this process; an error of kind `WouldBlock` when another process holds it.
pub async fn lock(path: impl AsRef<Path>) -> io::Result<DirLock> {
    let path = path.as_ref().to_owned();
    blocking(move || {
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(DirLock { file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    })
    .await
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
