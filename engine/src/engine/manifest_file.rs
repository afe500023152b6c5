//! The manifest file of a tree: a checkpoint of the edits that the core's log holds.
//!
//! One file, `MANIFEST`, in the region's directory; replaced as a whole, so that after a crash it is the old one or the new one.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | magic `PNMF` |
//! | 4 | 4 | format version, 2 |
//! | 8 | 4 | crc32 of the bytes from 12 on |
//! | 12 | 4 | length of the meta |
//! | 16 | 8 | length of the state |
//! | 24 | 8 | generation of the region: how often it changed cores |
//! | 32 | 8 | the file has every edit record up to this sequence of the region's stream in that generation |
//! | 40 | meta | the owner's description of the region, opaque to the engine |
//! | | state | the tree's state (`manifest::TreeState`, rkyv) |
//!
//! Integers are little-endian. Edit records that the file has may be in the log still, and not all of them: one that was written again outlives
//! later ones. They are passed over, or an older description would take a newer one's place.

use crate::Error;
use crate::manifest::TreeState;
use bytes::Bytes;
use pinion_runtime::fs;
use std::path::Path;

const MAGIC: &[u8; 4] = b"PNMF";
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 40;
/// The file's name within the region's directory.
pub(crate) const FILE_NAME: &str = "MANIFEST";

/// What a manifest file holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct ManifestFile {
    /// How often the region had changed cores.
    pub(crate) generation: u64,
    /// The sequence of the last edit record that the file has, in that generation's stream.
    pub(crate) edits_through: u64,
    pub(crate) meta: Bytes,
    pub(crate) state: TreeState,
}

impl ManifestFile {
    /// Reads the manifest file of the region in `directory`; `None` when there is none.
    pub(crate) async fn read(directory: &Path) -> Result<Option<Self>, Error> {
        let path = directory.join(FILE_NAME);
        if !fs::exists(&path).await.map_err(|source| Error::io(&path, source))? {
            return Ok(None);
        }
        let bytes = fs::read(&path).await.map_err(|source| Error::io(&path, source))?;
        Self::decode(&path, &bytes).map(Some)
    }

    /// Replaces the manifest file of the region in `directory`; durable when it returns.
    pub(crate) async fn write(&self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(FILE_NAME);
        fs::write_atomically(&path, &self.encode()).await.map_err(|source| Error::io(&path, source))
    }

    fn encode(&self) -> Vec<u8> {
        let state = self.state.to_bytes();
        let mut body = Vec::with_capacity(HEADER_BYTES + self.meta.len() + state.len());
        let meta_len = u32::try_from(self.meta.len()).expect("a region's description is small");
        body.extend_from_slice(&meta_len.to_le_bytes());
        body.extend_from_slice(&(state.len() as u64).to_le_bytes());
        body.extend_from_slice(&self.generation.to_le_bytes());
        body.extend_from_slice(&self.edits_through.to_le_bytes());
        body.extend_from_slice(&self.meta);
        body.extend_from_slice(&state);
        let mut file = Vec::with_capacity(12 + body.len());
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&VERSION.to_le_bytes());
        file.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        file.extend_from_slice(&body);
        file
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |offset: u64, what: &'static str| Error::corrupt(path, offset, what);
        let header =
            bytes.first_chunk::<HEADER_BYTES>().ok_or_else(|| corrupt(0, "shorter than its header"))?;
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if &header[..4] != MAGIC {
            return Err(corrupt(0, "not a manifest"));
        }
        if word(4) != VERSION {
            return Err(Error::UnknownVersion {
                file: path.to_owned(),
                offset: 4,
                got: word(4),
                known: VERSION,
            });
        }
        let got = crc32fast::hash(bytes.get(12..).unwrap_or_default());
        if got != word(8) {
            return Err(Error::ChecksumMismatch {
                file: path.to_owned(),
                offset: 12,
                expected: word(8),
                got,
            });
        }
        let meta_len = usize::try_from(word(12)).map_err(|_| corrupt(12, "a length past memory"))?;
        let state = bytes
            .get(HEADER_BYTES + meta_len..)
            .ok_or_else(|| corrupt(12, "the meta is longer than the file"))?;
        let meta = Bytes::copy_from_slice(&bytes[HEADER_BYTES..HEADER_BYTES + meta_len]);
        let state = TreeState::from_bytes(state).map_err(|_| corrupt(40, "the state does not validate"))?;
        Ok(Self { generation: long(24), edits_through: long(32), meta, state })
    }
}
