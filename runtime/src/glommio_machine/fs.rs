//! Files by direct input and output; metadata work on the executor's helper thread.

use crate::fs::{ALIGNMENT, DirEntry, OpenOptions};
use pinion_types::map::HashSet;
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// Bytes of a large file that are given back to the file system at a time, and the pause before the next.
const REMOVED_AT_ONCE_BYTES: u64 = 4 << 20;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

/// Memory from glommio's allocator.
pub(crate) type Buffer = glommio::io::DmaBuffer;

/// `len` bytes with arbitrary content.
pub(crate) fn buffer(len: usize) -> Buffer {
    glommio::allocate_dma_buffer_global(len)
}

/// What a read brought; `None` when it brought nothing.
pub(crate) type ReadBuffer = Option<glommio::io::ReadResult>;

/// Opens the file at `path` for direct input and output.
pub(crate) async fn open(options: OpenOptions, path: &Path) -> io::Result<File> {
    probe_polling(path).await?;
    let mut flags = glommio::io::OpenOptions::new();
    flags
        .read(options.read)
        .write(options.write)
        .create(options.create)
        .create_new(options.create_new)
        .truncate(options.truncate);
    if options.data_sync && !planted_no_data_sync() {
        flags.custom_flags(libc::O_DSYNC);
    }
    let file = flags.dma_open(path).await.map_err(io::Error::from)?;
    Ok(File(Rc::new(file)))
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
    let probe = directory.join(format!(".probe-{:x}", super::random::random_u64()));
    let made = probe.clone();
    let written = blocking(move || std::fs::write(made, [0; ALIGNMENT])).await;
    // A directory that cannot be written to holds files that are only read, and those have data.
    if written.is_ok() {
        let opened = glommio::io::DmaFile::open(&probe).await.map_err(io::Error::from);
        remove_file(probe).await?;
        opened?.close().await.map_err(io::Error::from)?;
    }
    PROBED.with_borrow_mut(|probed| probed.insert(directory));
    Ok(())
}

/// An open file.
#[derive(Clone)]
pub(crate) struct File(Rc<glommio::io::DmaFile>);

impl File {
    pub(crate) async fn read_at(&self, offset: u64, len: usize) -> io::Result<ReadBuffer> {
        // glommio's own unaligned read counts the bytes before `offset` as read when it meets the end of the file.
        let start = self.0.align_down(offset);
        let before = usize::try_from(offset - start).map_err(io::Error::other)?;
        let aligned = usize::try_from(self.0.align_up((before + len) as u64)).map_err(io::Error::other)?;
        let result = self.0.read_at_aligned(start, aligned).await.map_err(io::Error::from)?;
        let got = result.len().saturating_sub(before).min(len);
        Ok((got > 0).then(|| {
            glommio::io::ReadResult::slice(&result, before, got).expect("the slice lies within what was read")
        }))
    }

    pub(crate) async fn write_at(&self, buffer: Buffer, offset: u64) -> io::Result<Buffer> {
        let shared = Rc::new(buffer);
        let written = self.0.write_rc_at(shared.clone(), offset).await.map_err(io::Error::from)?;
        if written < shared.len() {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the file system took a part of a write"));
        }
        Ok(Rc::try_unwrap(shared).expect("a completed write gives its buffer back"))
    }

    pub(crate) async fn sync_data(&self) -> io::Result<()> {
        self.0.fdatasync().await.map_err(io::Error::from)
    }

    pub(crate) async fn len(&self) -> io::Result<u64> {
        self.0.file_size().await.map_err(io::Error::from)
    }

    pub(crate) async fn set_len(&self, len: u64) -> io::Result<()> {
        // SAFETY: the descriptor is open while `self` is, and is borrowed only until it has been duplicated. The duplicate is
        // what crosses to the helper thread: the number itself may name another file by then, when this future is dropped.
        let file = unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }.try_clone_to_owned()?;
        blocking(move || std::fs::File::from(file).set_len(len)).await
    }

    pub(crate) async fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.pre_allocate(len, false).await.map_err(io::Error::from)
    }
}

/// A lock file that is held.
#[derive(Debug)]
pub(crate) struct DirLock {
    #[expect(dead_code, reason = "held for its flock alone")]
    file: std::fs::File,
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    glommio::executor().spawn_blocking(work).await
}

pub(crate) async fn read_dir(path: PathBuf) -> io::Result<Vec<DirEntry>> {
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

pub(crate) async fn create_dir_all(path: PathBuf) -> io::Result<()> {
    blocking(move || std::fs::create_dir_all(path)).await
}

pub(crate) async fn rename(from: PathBuf, to: PathBuf) -> io::Result<()> {
    blocking(move || std::fs::rename(from, to)).await
}

pub(crate) async fn hard_link(from: PathBuf, to: PathBuf) -> io::Result<()> {
    blocking(move || std::fs::hard_link(from, to)).await
}

pub(crate) async fn remove_file(path: PathBuf) -> io::Result<()> {
    blocking(move || std::fs::remove_file(path)).await
}

pub(crate) async fn remove_large_file(path: PathBuf) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    loop {
        let path = path.clone();
        let gone = blocking(move || {
            let metadata = std::fs::symlink_metadata(&path)?;
            if metadata.nlink() > 1 || metadata.len() <= REMOVED_AT_ONCE_BYTES {
                return std::fs::remove_file(&path).map(|()| true);
            }
            let file = std::fs::OpenOptions::new().write(true).open(&path)?;
            file.set_len(metadata.len() - REMOVED_AT_ONCE_BYTES).map(|()| false)
        });
        if gone.await? {
            return Ok(());
        }
        super::time::sleep(REMOVE_PAUSE).await;
    }
}

pub(crate) async fn remove_dir_all(path: PathBuf) -> io::Result<()> {
    blocking(move || std::fs::remove_dir_all(path)).await
}

pub(crate) async fn exists(path: PathBuf) -> io::Result<bool> {
    blocking(move || std::fs::exists(path)).await
}

pub(crate) async fn sync_dir(path: PathBuf) -> io::Result<()> {
    blocking(move || std::fs::File::open(path)?.sync_all()).await
}

pub(crate) async fn available_bytes(path: &Path) -> io::Result<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
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

pub(crate) async fn lock(path: PathBuf) -> io::Result<DirLock> {
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
