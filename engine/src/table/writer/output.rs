//! The file that a table is written to: chunks of whole pages, a few on their way at a time.

use crate::error::{Error, Result};
use pinion_runtime::fs::{ALIGNMENT, Buffer, File, OpenOptions};
use pinion_runtime::{JoinHandle, Lane, spawn_in};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

/// Length of a chunk.
const CHUNK_LEN: usize = 256 << 10;
/// Chunks on their way to the device.
const WRITES_MAX: usize = 2;

/// Appends to a file.
pub(super) struct Output {
    path: PathBuf,
    file: File,
    chunk: Buffer,
    filled: usize,
    /// Where the chunk that is being filled goes.
    offset: u64,
    full: VecDeque<(Buffer, u64)>,
    writes: VecDeque<JoinHandle<io::Result<Buffer>>>,
    spare: Vec<Buffer>,
}

impl Output {
    pub(super) async fn create(path: &Path) -> Result<Self> {
        let opened = OpenOptions::write().create_new().open(path).await;
        let file = opened.map_err(|source| Error::io(path, source))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            chunk: Buffer::new(CHUNK_LEN),
            filled: 0,
            offset: 0,
            full: VecDeque::new(),
            writes: VecDeque::new(),
            spare: Vec::new(),
        })
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.offset + self.filled as u64
    }

    /// Whether a chunk is full.
    pub(super) fn is_behind(&self) -> bool {
        !self.full.is_empty()
    }

    pub(super) fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_LEN - self.filled));
            self.chunk[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.advance(now.len());
            bytes = later;
        }
    }

    /// Appends zeros.
    pub(super) fn pad(&mut self, mut len: usize) {
        while len > 0 {
            let now = len.min(CHUNK_LEN - self.filled);
            self.chunk[self.filled..self.filled + now].fill(0);
            self.advance(now);
            len -= now;
        }
    }

    fn advance(&mut self, len: usize) {
        self.filled += len;
        if self.filled == CHUNK_LEN {
            let next = self.spare.pop().unwrap_or_else(|| Buffer::new(CHUNK_LEN));
            let full = std::mem::replace(&mut self.chunk, next);
            self.full.push_back((full, self.offset));
            self.offset += CHUNK_LEN as u64;
            self.filled = 0;
        }
    }

    /// Sends all full chunks on their way.
    pub(super) async fn drain(&mut self) -> Result<()> {
        while let Some((chunk, offset)) = self.full.pop_front() {
            while self.writes.len() >= WRITES_MAX {
                self.wait_for_one().await?;
            }
            self.start(chunk, offset);
        }
        Ok(())
    }

    fn start(&mut self, chunk: Buffer, offset: u64) {
        let file = self.file.clone();
        let write = spawn_in(Lane::Throughput, async move { file.write_at(chunk, offset).await });
        self.writes.push_back(write);
    }

    async fn wait_for_one(&mut self) -> Result<()> {
        if let Some(write) = self.writes.pop_front() {
            let chunk = write.await.map_err(|source| Error::io(&self.path, source))?;
            self.spare.push(chunk);
        }
        Ok(())
    }

    /// Writes the rest, cuts the file to its length and makes it durable.
    pub(super) async fn finish(mut self) -> Result<()> {
        let len = self.position();
        self.drain().await?;
        if self.filled > 0 {
            let mut last = Buffer::zeroed(self.filled.next_multiple_of(ALIGNMENT));
            last[..self.filled].copy_from_slice(&self.chunk[..self.filled]);
            self.start(last, self.offset);
        }
        while !self.writes.is_empty() {
            self.wait_for_one().await?;
        }
        self.file.set_len(len).await.map_err(|source| Error::io(&self.path, source))?;
        self.file.sync_data().await.map_err(|source| Error::io(&self.path, source))
    }
}
