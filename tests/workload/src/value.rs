//! Values that say which write made them.
//!
//! | offset | size | name | meaning |
//! | ---: | ---: | --- | --- |
//! | 0 | 8 | version | the key's version, little-endian |
//! | 8 | 4 | key_len | bytes of the key |
//! | 12 | 4 | body_len | bytes of the body |
//! | 16 | key_len | key | the key |
//! | | body_len | body | pseudo-random bytes that follow from key and version |
//!
//! So a value that belongs to another key, is cut short, or is mixed from two writes cannot pass for a right one.

use crate::random::Random;

const HEADER_LEN: usize = 16;

/// The value of `key` at `version`, with a body of `body_len` bytes.
pub fn encode(key: &[u8], version: u64, body_len: u32) -> Vec<u8> {
    let key_len = u32::try_from(key.len()).expect("keys are short here");
    let mut value =
        Vec::with_capacity(HEADER_LEN + key.len() + usize::try_from(body_len).expect("64-bit machine"));
    value.extend(version.to_le_bytes());
    value.extend(key_len.to_le_bytes());
    value.extend(body_len.to_le_bytes());
    value.extend(key);
    value.extend(body(key, version, body_len));
    value
}

/// The version of `key` that `value` is; an error says what is wrong with it.
pub fn decode(key: &[u8], value: &[u8]) -> Result<u64, String> {
    let (version, rest) = value.split_first_chunk().ok_or("a value shorter than its header")?;
    let (key_len, rest) = rest.split_first_chunk().ok_or("a value shorter than its header")?;
    let (body_len, rest) = rest.split_first_chunk().ok_or("a value shorter than its header")?;
    let version = u64::from_le_bytes(*version);
    let key_len = usize::try_from(u32::from_le_bytes(*key_len)).map_err(|e| e.to_string())?;
    let body_len = u32::from_le_bytes(*body_len);
    let Some((found_key, found_body)) = rest.split_at_checked(key_len) else {
        return Err(format!("a value of version {version} that is cut short"));
    };
    if found_key != key {
        return Err(format!("a value of another key: {}", String::from_utf8_lossy(found_key)));
    }
    if !found_body.iter().copied().eq(body(key, version, body_len)) {
        return Err(format!("a value of version {version} with a wrong body of {} bytes", found_body.len()));
    }
    Ok(version)
}

fn body(key: &[u8], version: u64, len: u32) -> impl Iterator<Item = u8> {
    let seed =
        key.iter().fold(version, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let mut random = Random::new(seed);
    let words = std::iter::repeat_with(move || random.number().to_le_bytes()).flatten();
    words.take(usize::try_from(len).expect("64-bit machine"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_its_version() {
        for len in [0, 1, 7, 8, 100, 5000] {
            assert_eq!(decode(b"key", &encode(b"key", 42, len)), Ok(42));
        }
    }

    #[test]
    fn every_damage_is_seen() {
        let value = encode(b"key", 42, 50);
        assert!(decode(b"kex", &value).is_err(), "another key");
        for len in 0..value.len() {
            assert!(decode(b"key", &value[..len]).is_err(), "cut to {len}");
        }
        for at in 0..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 1;
            assert!(decode(b"key", &damaged).is_err(), "byte {at}");
        }
        let mut mixed = encode(b"key", 43, 50);
        mixed.truncate(40);
        mixed.extend(&value[40..]);
        assert!(decode(b"key", &mixed).is_err(), "two writes mixed");
    }
}
