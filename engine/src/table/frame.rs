//! Frames: how any part of a table stands in its file.
//!
//! ```text
//! offset   bytes   what
//! 0        n       the part, as the next byte says
//! n        1       compression: 0 none; 1 LZ4, which begins with the part's length (4 bytes)
//! n + 1    4       CRC-32 of the n + 1 bytes before, begun with the file's salt and the frame's place
//! ```
//! The CRC's initial value depends on salt and place, so that a frame of another file or from another place never passes.
#![deny(clippy::indexing_slicing, clippy::expect_used)]

use crate::error::{Error, Result};
use std::borrow::Cow;
use std::path::Path;

/// Bytes behind the part.
pub(super) const TRAILER_LEN: usize = 5;
/// No part is longer than this, compressed or not.
pub(super) const FRAME_LEN_MAX: usize = super::VALUE_LEN_MAX + (1 << 20);
/// LZ4 makes nothing shorter than this part of it.
const LZ4_RATIO_MAX: usize = 256;
/// A block stays as it is when compression saves less than one part in so many.
const SAVING_LEAST: usize = 8;
const LZ4_LEN_BYTES: usize = 4;

/// How a table's data blocks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: no time spent, and blocks keep to the pages of the file.
    #[default]
    None,
    /// LZ4 blocks: about half the bytes of text, for some microseconds a block.
    Lz4,
}

/// What the checksums of a file's frames begin with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Salt(pub(super) u32);

impl Salt {
    /// The checksum of a frame's bytes before the checksum.
    fn checksum(self, offset: u64, bytes: &[u8]) -> u32 {
        let place = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0 ^ u32::try_from(place).unwrap_or(0));
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// Makes a frame for `offset` of what stands in `out`.
pub(super) fn seal(out: &mut Vec<u8>, compression: Compression, salt: Salt, offset: u64) {
    let compressed = match compression {
        Compression::None => None,
        Compression::Lz4 => compress(out),
    };
    match compressed {
        Some(compressed) => {
            *out = compressed;
            out.push(1);
        }
        None => out.push(0),
    }
    out.extend_from_slice(&salt.checksum(offset, out).to_le_bytes());
}

fn compress(part: &[u8]) -> Option<Vec<u8>> {
    let len = u32::try_from(part.len()).ok()?;
    let mut compressed = vec![0; LZ4_LEN_BYTES + lz4_flex::block::get_maximum_output_size(part.len())];
    let (front, body) = compressed.split_at_mut_checked(LZ4_LEN_BYTES)?;
    front.copy_from_slice(&len.to_le_bytes());
    let written = lz4_flex::block::compress_into(part, body).ok()?;
    compressed.truncate(LZ4_LEN_BYTES + written);
    (compressed.len() < part.len() - part.len() / SAVING_LEAST).then_some(compressed)
}

/// The part in a frame that was read from `offset` of `file`.
///
/// # Errors
/// When it is not what was written there.
pub(super) fn unseal<'a>(frame: &'a [u8], salt: Salt, offset: u64, file: &Path) -> Result<Cow<'a, [u8]>> {
    let corrupt = |what| Error::Corrupt { file: file.to_owned(), offset, what };
    let (covered, expected) =
        frame.split_last_chunk::<4>().ok_or(corrupt("a block is shorter than its trailer"))?;
    let expected = u32::from_le_bytes(*expected);
    let got = salt.checksum(offset, covered);
    if got != expected {
        return Err(Error::ChecksumMismatch { file: file.to_owned(), offset, expected, got });
    }
    match covered.split_last() {
        Some((0, part)) => Ok(Cow::Borrowed(part)),
        Some((1, part)) => decompress(part).map(Cow::Owned).map_err(corrupt),
        _ => Err(corrupt("a block has a compression that this version does not know")),
    }
}

fn decompress(part: &[u8]) -> std::result::Result<Vec<u8>, &'static str> {
    let (len, body) = part.split_first_chunk::<LZ4_LEN_BYTES>().ok_or("a compressed block has no length")?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > FRAME_LEN_MAX || len / LZ4_RATIO_MAX > body.len() {
        return Err("a compressed block claims a length that cannot be");
    }
    let mut part = vec![0; len];
    match lz4_flex::block::decompress_into(body, &mut part) {
        Ok(written) if written == len => Ok(part),
        Ok(_) => Err("a compressed block has another length than it says"),
        Err(_) => Err("a compressed block cannot be decompressed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(part: &[u8], compression: Compression) -> Vec<u8> {
        let mut frame = part.to_vec();
        seal(&mut frame, compression, Salt(7), 4096);
        frame
    }

    #[test]
    fn parts_come_back_compressed_or_not() {
        let text = b"the same words, ".repeat(100);
        for compression in [Compression::None, Compression::Lz4] {
            let frame = sealed(&text, compression);
            assert_eq!(unseal(&frame, Salt(7), 4096, Path::new("t")).unwrap(), text);
        }
        assert!(sealed(&text, Compression::Lz4).len() < 200);
        assert_eq!(sealed(b"incompressible", Compression::Lz4).len(), 14 + TRAILER_LEN);
    }

    #[test]
    fn a_frame_of_another_place_or_file_does_not_pass() {
        let frame = sealed(b"part", Compression::None);
        for (salt, offset) in [(Salt(8), 4096), (Salt(7), 8192)] {
            let error = unseal(&frame, salt, offset, Path::new("t")).unwrap_err();
            assert!(matches!(error, Error::ChecksumMismatch { .. }), "{error}");
        }
    }

    #[test]
    fn a_length_that_cannot_be_allocates_nothing() {
        let mut part = u32::MAX.to_le_bytes().to_vec();
        part.extend_from_slice(&[0; 32]);
        assert_eq!(decompress(&part), Err("a compressed block claims a length that cannot be"));
        let small = [&10_000_u32.to_le_bytes()[..], &[0; 8]].concat();
        assert_eq!(decompress(&small), Err("a compressed block claims a length that cannot be"));
    }
}
