//! Header, properties and footer: how a file says that it is a table, of which version, and where its parts are.
//!
//! Header, the file's first bytes:
//! ```text
//! offset   bytes   what
//! 0        8       magic "PINTABLE"
//! 8        4       version
//! 12       4       salt, the same as in the footer
//! ```
//! Footer, the file's last bytes:
//! ```text
//! offset   bytes   what
//! 0        8       magic "PINTABLE"
//! 8        4       version
//! 12       4       salt: a random number that begins this file's checksums
//! 16       8       length of the whole file
//! 24       8       where the frame of the properties begins
//! 32       4       length of that frame
//! 36       4       0
//! 40       4       0
//! 44       4       CRC-32 of the 44 bytes before
//! ```
//! The properties are an archive of rkyv, validated before it is read.
#![deny(clippy::indexing_slicing, clippy::expect_used)]

use super::TableMeta;
use super::frame::Salt;
use crate::error::{Error, Result};
use std::path::Path;

/// What a table begins and ends with.
const MAGIC: [u8; 8] = *b"PINTABLE";
/// The version that is written, and the only one that is read.
pub(super) const VERSION: u32 = 1;
/// Bytes before the first block.
pub(super) const HEADER_LEN: usize = 16;
/// Bytes of the footer.
pub(super) const FOOTER_LEN: usize = 48;

/// Where a frame is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Section {
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// Its length with trailer; 0 when there is none.
    pub(super) len: u32,
}

/// What is known of the file beside its entries.
#[derive(Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Properties {
    /// What the manifest knows, too.
    pub(super) meta: TableMeta,
    /// Where the data blocks end.
    pub(super) data_end: u64,
    /// The index partitions, one after the other; `len` is that of all of them.
    pub(super) partitions: Section,
    /// The top index.
    pub(super) top: Section,
    /// The filter.
    pub(super) filter: Section,
    /// Range tombstones.
    pub(super) tombstones: Section,
}

impl Properties {
    /// The archive's bytes.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(self)
            .map_err(|_| Error::Internal { what: "a table's properties could not be archived" })?;
        Ok(bytes.to_vec())
    }

    /// The properties in an archive; `None` when it is not valid.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        rkyv::from_bytes::<Self, rkyv::rancor::Failure>(&aligned).ok()
    }
}

/// The last bytes of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footer {
    /// Begins the file's checksums.
    pub(super) salt: Salt,
    /// Length of the whole file.
    pub(super) file_len: u64,
    /// The frame of the properties.
    pub(super) properties: Section,
}

impl Footer {
    /// The footer's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = header(self.salt);
        out.extend_from_slice(&self.file_len.to_le_bytes());
        out.extend_from_slice(&self.properties.offset.to_le_bytes());
        out.extend_from_slice(&self.properties.len.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out
    }

    /// The footer in the last bytes of a file of `file_len` bytes.
    ///
    /// # Errors
    /// When they are no footer, or one of another version, or not this file's.
    pub(super) fn decode(bytes: &[u8], file_len: u64, file: &Path) -> Result<Self> {
        let offset = file_len.saturating_sub(FOOTER_LEN as u64);
        let corrupt = |what| Error::Corrupt { file: file.to_owned(), offset, what };
        let bytes: &[u8; FOOTER_LEN] =
            bytes.try_into().map_err(|_| corrupt("the file is too short for a table"))?;
        let mut fields = Fields(bytes);
        if fields.take() != MAGIC {
            return Err(corrupt("the file does not end as a table does"));
        }
        let version = u32::from_le_bytes(fields.take());
        if version != VERSION {
            return Err(Error::UnknownVersion {
                file: file.to_owned(),
                offset,
                got: version,
                known: VERSION,
            });
        }
        let salt = Salt(u32::from_le_bytes(fields.take()));
        let len_written = u64::from_le_bytes(fields.take());
        let properties =
            Section { offset: u64::from_le_bytes(fields.take()), len: u32::from_le_bytes(fields.take()) };
        let zeros: [u8; 8] = fields.take();
        let expected = u32::from_le_bytes(fields.take());
        let got = bytes.first_chunk::<{ FOOTER_LEN - 4 }>().map_or(0, |covered| crc32fast::hash(covered));
        if got != expected {
            return Err(Error::ChecksumMismatch { file: file.to_owned(), offset, expected, got });
        }
        if len_written != file_len || zeros != [0; 8] {
            return Err(corrupt("the file does not have the length that its footer says"));
        }
        Ok(Self { salt, file_len, properties })
    }
}

/// The file's first bytes.
pub(super) fn header(salt: Salt) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&salt.0.to_le_bytes());
    out
}

/// Fields of fixed width, one after the other; zeros after the last.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }
}
