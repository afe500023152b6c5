//! The one error of the crate.

use pinion_types::{LogIndex, RegionId};
use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong in a core's storage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// Bytes on disk are not those that were written.
    #[error(
        "{} is damaged at byte {offset}: its checksum is {got:08x} where {expected:08x} was written; \
         restore the file, or let the store fetch the region anew",
        .file.display()
    )]
    ChecksumMismatch {
        /// The file.
        file: PathBuf,
        /// Where the checked bytes begin.
        offset: u64,
        /// The checksum on disk.
        expected: u32,
        /// The checksum of what was read.
        got: u32,
    },
    /// Bytes on disk have a right checksum, or need none, and make no sense.
    #[error("{} is damaged at byte {offset}: {what}", .file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A file was written by another version of the program.
    #[error(
        "{} has format version {got} where this program knows {known}; use the version that wrote it",
        .file.display()
    )]
    UnknownVersion {
        /// The file.
        file: PathBuf,
        /// Where the version stands.
        offset: u64,
        /// The version there.
        got: u32,
        /// The version that is known.
        known: u32,
    },
    /// A write or a sync of the log failed: what the medium holds is unknown, so this core's log takes nothing any more.
    #[error("the log in {} has stopped for good: {cause}; restart the store once its disk is well", .directory.display())]
    LogFailed {
        /// The log's directory.
        directory: PathBuf,
        /// The first failure.
        cause: String,
    },
    /// There is no prepared segment, and the file system has no room for another.
    #[error("the log in {} has no room: a segment takes {segment_size_bytes} bytes; free some space", .directory.display())]
    DiskFull {
        /// The log's directory.
        directory: PathBuf,
        /// What a new segment takes.
        segment_size_bytes: u64,
    },
    /// Records that were appended together do not fit a segment.
    #[error("records of {len} bytes do not fit a log segment, which takes {max}; raise log.segment_size")]
    RecordTooLarge {
        /// Bytes of the encoded records.
        len: u64,
        /// The most that a segment takes at once.
        max: u64,
    },
    /// What the log says was durable is not there, or not whole.
    #[error(
        "{} is damaged from byte {offset} on: group {group} is missing, and group {durable_through} was durable; nothing was cut \
         away: restore the disk, or take the store out of its cluster",
        .file.display()
    )]
    LogDamaged {
        /// The file.
        file: PathBuf,
        /// Where the missing group should begin.
        offset: u64,
        /// The missing group.
        group: u64,
        /// The highest group that is known to have been durable.
        durable_through: u64,
    },
    /// A segment of the log is missing.
    #[error("the log in {} has no segment {number}, which it still needs; restore the file", .directory.display())]
    SegmentMissing {
        /// The log's directory.
        directory: PathBuf,
        /// The segment.
        number: u64,
    },
    /// A log was made with another segment size.
    #[error("{} is a segment of {found} bytes; set log.segment_size to that, not to {configured}", .file.display())]
    SegmentSize {
        /// The file.
        file: PathBuf,
        /// The size that it was made with.
        found: u64,
        /// The size that is configured.
        configured: u64,
    },
    /// The region is not on this core.
    #[error("region {region} is not on this core")]
    NoSuchRegion {
        /// The region.
        region: RegionId,
    },
    /// The region is on this core, and was to be made.
    #[error("region {region} is on this core already")]
    RegionExists {
        /// The region.
        region: RegionId,
    },
    /// Entries that were asked for are not in the log.
    #[error("stream {stream} has entries {first} to {last}, and {wanted} was asked for")]
    NoSuchEntry {
        /// The stream.
        stream: RegionId,
        /// The index that was asked for.
        wanted: LogIndex,
        /// The first index there is.
        first: LogIndex,
        /// The last index there is; before `first` when there is none.
        last: LogIndex,
    },
    /// A setting makes no sense.
    #[error("{setting} is {got}: {advice}")]
    InvalidSetting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        got: u64,
        /// What would be right.
        advice: &'static str,
    },
    /// A write batch from the log is damaged.
    #[error("a write batch is damaged at byte {offset}: {what}")]
    BatchDamaged {
        /// Where in the batch.
        offset: usize,
        /// What was found.
        what: &'static str,
    },
    /// A write batch is of another version of the program.
    #[error(
        "a write batch has format version {got} where this program knows {known}; use the version that wrote it"
    )]
    BatchVersion {
        /// The batch's version.
        got: u8,
        /// The version that is known.
        known: u8,
    },
    /// A manifest's state or edit is damaged or contradicts itself.
    #[error("a tree's manifest is damaged: {what}; restore it, or let the store fetch the region anew")]
    ManifestDamaged {
        /// What was found.
        what: &'static str,
    },
    /// A manifest's state or edit is of another version of the program.
    #[error(
        "a tree's manifest has format version {got} where this program knows {known}; use the version that wrote it"
    )]
    ManifestVersion {
        /// The record's version.
        got: u16,
        /// The version that is known.
        known: u16,
    },
    /// An edit is missing between the manifest's state and the edits after it.
    #[error("a tree's manifest goes on with edit {got} where edit {expected} is due")]
    ManifestEditMissing {
        /// The edit that is there.
        got: u64,
        /// The edit that should be.
        expected: u64,
    },
    /// An edit of a tree's manifest failed, so that it is not known whether it will be there after a start.
    #[error(
        "an edit of a tree's manifest failed before; the tree neither flushes nor compacts until the store is started anew"
    )]
    ManifestUncertain,
    /// The region has another tree by now, or none.
    #[error("the tree was replaced or removed: it is neither flushed nor compacted any more")]
    TreeRetired,
    /// The description of a region snapshot is damaged or contradicts itself.
    #[error("a region snapshot is not one: {what}; have it sent anew")]
    SnapshotDamaged {
        /// What was found.
        what: &'static str,
    },
    /// The description of a region snapshot is of another version of the program.
    #[error(
        "a region snapshot has format version {got} where this program knows {known}; use one version on all stores"
    )]
    SnapshotVersion {
        /// The description's version.
        got: u32,
        /// The version that is known.
        known: u32,
    },
    /// Something was asked of a region snapshot that does not fit it.
    #[error("a snapshot of region {region} was refused: {what}")]
    SnapshotRefused {
        /// The region.
        region: RegionId,
        /// Why.
        what: &'static str,
    },
    /// Something that cannot fail failed.
    #[error("{what}; this is a bug")]
    Internal {
        /// What failed.
        what: &'static str,
    },
}

impl Error {
    /// An operation on `file` failed.
    pub fn io(file: &Path, source: io::Error) -> Self {
        Self::Io { file: file.to_owned(), source }
    }

    /// Bytes of `file` make no sense.
    pub fn corrupt(file: &Path, offset: u64, what: &'static str) -> Self {
        Self::Corrupt { file: file.to_owned(), offset, what }
    }

    /// Whether there was no room on the disk.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::DiskFull { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    /// The file and the offset that are damaged, if that is what is wrong.
    pub fn damage(&self) -> Option<(&Path, u64)> {
        match self {
            Self::ChecksumMismatch { file, offset, .. }
            | Self::Corrupt { file, offset, .. }
            | Self::LogDamaged { file, offset, .. } => Some((file, *offset)),
            _ => None,
        }
    }
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
