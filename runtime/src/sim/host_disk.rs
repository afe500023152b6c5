//! A host's disk in the hands of a test.

use super::disk::{DiskError, Failing, IoCounts};
use super::host::Host;
use super::trace::Kind;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

impl Host {
    /// How many operations its disk was asked for so far: the number of the next one.
    pub fn io_count(&self) -> u64 {
        self.node.disk.counts().total()
    }

    /// The same by kind.
    pub fn io_counts(&self) -> IoCounts {
        self.node.disk.counts()
    }

    /// Makes operations of its disk fail, in addition to those that are to fail already.
    pub fn fail_io(&self, failing: Failing, error: DiskError) {
        self.node.disk.plan(failing, error);
    }

    /// Makes syncs of files and directories fail with EIO, by their number among the syncs. What a failed sync was to make durable never
    /// becomes so, and a later sync that succeeds does not help.
    pub fn fail_sync(&self, failing: Failing) {
        self.node.disk.plan_sync(failing);
    }

    /// Cuts its power when it begins operation number `at`, or at the next when that one is past.
    pub fn crash_at_io(&self, at: u64) {
        self.node.disk.plan_power_cut(at);
    }

    /// Takes back all failures that were planned, and the power cut. Sizes, latencies and lies stay.
    pub fn clear_disk_faults(&self) {
        self.node.disk.heal();
    }

    /// How long an operation of its disk takes from now on.
    pub fn set_io_latency(&self, latency: Range<Duration>) {
        self.node.disk.set_latency(latency);
    }

    /// The size of its disk in bytes: what needs more gives ENOSPC. Removed files give their room back once they are closed.
    pub fn set_disk_size(&self, bytes: Option<u64>) {
        self.node.disk.set_budget(bytes);
    }

    /// Bytes that its files take of the disk.
    pub fn disk_used(&self) -> u64 {
        self.node.disk.used_bytes()
    }

    /// A planted bug: synchronous writes (O_DSYNC) complete before they are durable.
    pub fn ignore_data_sync(&self, ignore: bool) {
        self.node.disk.set_lies(Some(ignore), None);
    }

    /// A planted bug: syncs of files and directories do nothing.
    pub fn ignore_sync(&self, ignore: bool) {
        self.node.disk.set_lies(None, Some(ignore));
    }

    /// Its files with their lengths, sorted by path.
    pub fn files(&self) -> Vec<(String, u64)> {
        self.node.disk.files()
    }

    /// A file's content as a reader sees it now, without an operation of the disk.
    pub fn file_content(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        self.node.disk.content(path.as_ref())
    }

    /// Flips bit `bit` of the byte at `offset`: on the medium, and for whoever reads it.
    ///
    /// # Errors
    /// When there is no such file, or no byte there.
    pub fn flip_bit(&self, path: impl AsRef<Path>, offset: u64, bit: u8) -> io::Result<()> {
        self.world.event(Kind::Fault, [self.node.id as u64, offset, u64::from(bit)]);
        self.node.disk.flip(path.as_ref(), offset, bit)
    }
}
