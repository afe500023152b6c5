//! The envelope of a raw value: what a tree keeps for a raw key is one or nine bytes, then the caller's value.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 1 | 0: the value never expires; 1: it does |
//! | 1 | 8, only after a 1 | expiry: milliseconds since the Unix epoch, little-endian |
//! | 1 or 9 | rest | the caller's value |
//!
//! Expiry is judged by the region's stamp, a time that never goes back (`stamp.rs`), and by nothing else.

use pinion_engine::tree::CompactionFilter;
use pinion_types::ColumnFamily;
use pinion_types::key::Zone;

const LASTING: u8 = 0;
const EXPIRING: u8 = 1;

/// Bytes that the envelope adds at most.
pub const ENVELOPE_BYTES_MAX: usize = 9;

/// An envelope opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// When the value expires, in milliseconds since the Unix epoch; `None` for never.
    pub expiry_ms: Option<u64>,
    /// Where the caller's value begins.
    pub value_offset: usize,
}

impl Opened {
    /// Whether the value is gone for a reader at `stamp_ms`.
    pub fn is_expired(self, stamp_ms: u64) -> bool {
        self.expiry_ms.is_some_and(|expiry| expiry <= stamp_ms)
    }
}

/// What stands before a value that expires then, or never.
pub fn envelope(expiry_ms: Option<u64>) -> Envelope {
    let mut bytes = [LASTING; ENVELOPE_BYTES_MAX];
    if let Some(expiry) = expiry_ms {
        bytes[0] = EXPIRING;
        bytes[1..].copy_from_slice(&expiry.to_le_bytes());
        return Envelope { bytes, len: ENVELOPE_BYTES_MAX };
    }
    Envelope { bytes, len: 1 }
}

/// The bytes before a value.
pub struct Envelope {
    bytes: [u8; ENVELOPE_BYTES_MAX],
    len: usize,
}

impl std::ops::Deref for Envelope {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Opens an envelope; `None` when these bytes are not one.
pub fn open(stored: &[u8]) -> Option<Opened> {
    match stored.split_first()? {
        (&LASTING, _) => Some(Opened { expiry_ms: None, value_offset: 1 }),
        (&EXPIRING, rest) => {
            let expiry = rest.first_chunk::<8>()?;
            Some(Opened { expiry_ms: Some(u64::from_le_bytes(*expiry)), value_offset: 9 })
        }
        _ => None,
    }
}

/// Drops raw values in compaction that every entry still to be applied finds expired: their expiry is not after the stamp, which is the mark
/// of a region's tree, of what is flushed.
pub struct ExpiryFilter;

impl CompactionFilter for ExpiryFilter {
    fn keep(&self, _: ColumnFamily, key: &[u8], value: &[u8], mark: u64) -> bool {
        let is_raw = key.first() == Some(&Zone::Raw.prefix());
        // What is no envelope is for a reader to report.
        !is_raw || open(value).is_none_or(|opened| !opened.is_expired(mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_opens_to_what_was_sealed() {
        for expiry in [None, Some(0), Some(u64::MAX)] {
            let stored = [&envelope(expiry)[..], b"value"].concat();
            let opened = open(&stored).unwrap();
            assert_eq!(opened.expiry_ms, expiry);
            assert_eq!(&stored[opened.value_offset..], b"value");
        }
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        assert_eq!(open(b""), None);
        assert_eq!(open(&[2, 0]), None);
        assert_eq!(open(&[EXPIRING, 1, 2, 3]), None);
    }

    #[test]
    fn a_value_is_gone_from_its_expiry_on() {
        let opened = Opened { expiry_ms: Some(10), value_offset: 9 };
        assert!(!opened.is_expired(9) && opened.is_expired(10));
    }
}
