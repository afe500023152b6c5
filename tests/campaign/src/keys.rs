//! Keys and values. Keys are in groups, which batches and scans keep to, and each round of a campaign has keys of its own in every group:
//! what is split between two groups stays so for all rounds.

use pinion_linearizability::{Key, ValueId};
use pinion_workload::Random;

/// Groups of keys. The first key of each is hot.
pub const GROUPS: usize = 10;
/// Keys of a group in a round.
pub(crate) const GROUP_KEYS: usize = 30;
/// Bytes of a value at most, besides its id.
const VALUE_BYTES_MAX: u64 = 900;

/// A key of a round.
pub(crate) fn key(round: u64, group: usize, place: usize) -> Key {
    format!("g{group}/{round:06}/{place:02}").into_bytes()
}

/// What is after all keys of a group in a round.
pub(crate) fn end(round: u64, group: usize) -> Key {
    format!("g{group}/{round:06}0").into_bytes()
}

/// Where a group begins.
pub fn border(group: usize) -> Key {
    format!("g{group}/").into_bytes()
}

/// A key that is written to see whether the group can be written; no round has it.
pub(crate) fn probe(group: usize) -> Key {
    format!("g{group}/probe").into_bytes()
}

/// The bytes of a value: its id, and filling whose length and letter follow from it.
pub(crate) fn encode(value: ValueId) -> Vec<u8> {
    let mut bytes = format!("{:010} ", value.0).into_bytes();
    let length = usize::try_from(Random::new(value.0).below(VALUE_BYTES_MAX)).unwrap_or_default();
    let letter = b"abcdefghijklmnopqrstuvwxyz"[usize::try_from(value.0 % 26).unwrap_or_default()];
    bytes.resize(bytes.len() + length, letter);
    bytes
}

/// The value that these are the bytes of; the error shows bytes that nobody wrote.
pub(crate) fn decode(bytes: &[u8]) -> Result<ValueId, String> {
    let text = String::from_utf8_lossy(bytes);
    let id = text.split(' ').next().and_then(|number| number.parse().ok()).map(ValueId);
    match id.filter(|id| encode(*id) == bytes) {
        Some(id) => Ok(id),
        None => Err(format!("{} bytes that nobody wrote: {text}", bytes.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_of_a_value_is_no_value() {
        let value = ValueId(1_234_567);
        let bytes = encode(value);
        assert_eq!(decode(&bytes), Ok(value));
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode(b"nonsense").is_err());
    }

    #[test]
    fn a_round_of_a_group_is_a_range_and_the_probe_is_in_none() {
        let (first, last) = (key(7, 3, 0), key(7, 3, GROUP_KEYS - 1));
        assert!(border(3) < first && first < last && last < end(7, 3) && end(7, 3) < key(8, 3, 0));
        assert!(end(999_999, 3) < probe(3) && probe(3) < border(4));
    }
}
