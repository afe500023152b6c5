//! Stored keys: a zone byte, then the caller's key.
//!
//! Raw keys, transactional keys and the system's own live in zones of their own, so that they cannot mix. Regions' bounds are
//! stored keys; calls and commands take and print the caller's keys.

use crate::memcomparable;
use std::fmt;
use std::ops::Range;

/// A part of the keyspace that one kind of data has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// The system's own: cluster state, timestamps.
    System,
    /// Raw keys.
    Raw,
    /// Transactional keys.
    Transactional,
}

impl Zone {
    /// The byte that every stored key of the zone begins with.
    pub const fn prefix(self) -> u8 {
        match self {
            Self::System => 0,
            Self::Raw => b'r',
            Self::Transactional => b'x',
        }
    }

    /// The stored form of a caller's key in this zone.
    pub fn stored(self, key: &[u8]) -> Vec<u8> {
        let mut stored = Vec::with_capacity(key.len() + 1);
        self.stored_in(key, &mut stored);
        stored
    }

    /// The same in `buffer`, whose content is replaced and whose memory is kept.
    pub fn stored_in<'a>(self, key: &[u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
        buffer.clear();
        buffer.push(self.prefix());
        buffer.extend_from_slice(key);
        buffer
    }

    /// The first stored key after the zone.
    pub fn end(self) -> [u8; 1] {
        [self.prefix() + 1]
    }

    /// The caller's key of a stored key, or `None` when the key is of another zone.
    pub fn caller_key(self, stored: &[u8]) -> Option<&[u8]> {
        stored.split_first().and_then(|(zone, key)| (*zone == self.prefix()).then_some(key))
    }
}

/// The stored keys, `[start, end)`, that are in the same region as this one whatever is split: itself, and of a transactional key all versions.
/// `None` where nothing is known of that: the system's own zone stays whole, and so does a key that is not written as its zone demands.
pub fn inseparable(stored: &[u8]) -> Option<Range<Vec<u8>>> {
    if Zone::Raw.caller_key(stored).is_some() {
        return Some(stored.to_vec()..[stored, &[0]].concat());
    }
    let versioned = Zone::Transactional.caller_key(stored)?;
    let start = stored[..=memcomparable::encoded_len(versioned)?].to_vec();
    let mut end = start.clone();
    // The marker at the end of the encoded key is never the highest byte.
    *end.last_mut()? += 1;
    Some(start..end)
}

/// Prints bytes as readable text: printable ASCII as it is, all else as `\xNN`, a backslash as `\\`.
#[derive(Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0 {
            match byte {
                b'\\' => f.write_str("\\\\")?,
                0x20..=0x7e => write!(f, "{}", char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_keep_order_and_do_not_mix() {
        let stored = Zone::Raw.stored(b"a");
        assert_eq!(stored, b"ra");
        assert!(stored.as_slice() < Zone::Raw.end().as_slice());
        assert_eq!(Zone::Raw.caller_key(&stored), Some(&b"a"[..]));
        assert_eq!(Zone::Transactional.caller_key(&stored), None);
    }

    #[test]
    fn versions_of_a_key_are_not_parted() {
        let version = |key: &[u8], time: u64| {
            let mut stored = Zone::Transactional.stored(&memcomparable::encode(key));
            stored.extend_from_slice(&(!time).to_be_bytes());
            stored
        };
        let range = inseparable(&version(b"k", 7)).unwrap();
        assert_eq!(
            range.start,
            Zone::Transactional.stored(&memcomparable::encode(b"k")),
            "a lock has no time"
        );
        for time in [0, 7, u64::MAX] {
            assert!(range.contains(&version(b"k", time)));
        }
        for other in [&b""[..], b"j", b"k\0", b"kk", b"l"] {
            assert!(!range.contains(&version(other, 7)), "{other:?}");
        }
        assert_eq!(inseparable(b"rkey").unwrap(), b"rkey".to_vec()..b"rkey\0".to_vec());
        assert_eq!(inseparable(b"xshort"), None);
        assert_eq!(inseparable(b"\0stores"), None);
        assert_eq!(inseparable(b""), None);
    }

    #[test]
    fn escaped_keys_are_printable() {
        assert_eq!(Escaped(b"a\\\x00\xff").to_string(), "a\\\\\\x00\\xff");
    }
}
