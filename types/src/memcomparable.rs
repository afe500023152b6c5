//! Byte strings written so that their order is kept and none is the beginning of another: what a timestamp may follow.
//!
//! Groups of eight bytes, the last one filled up with zeros; behind each a marker, `0xff` less the number of zeros that fill it up. A string
//! whose length is a multiple of eight ends with a group of nothing but filling.

/// Bytes of a group without its marker.
const GROUP_LEN: usize = 8;
/// The marker of a full group, which another one follows.
const FULL: u8 = 0xff;

/// A byte string, encoded.
pub fn encode(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity((bytes.len() / GROUP_LEN + 1) * (GROUP_LEN + 1));
    let (groups, rest) = bytes.as_chunks::<GROUP_LEN>();
    for group in groups {
        encoded.extend_from_slice(group);
        encoded.push(FULL);
    }
    let mut last = [0; GROUP_LEN];
    last[..rest.len()].copy_from_slice(rest);
    encoded.extend_from_slice(&last);
    encoded.push(marker(rest.len()));
    encoded
}

/// How many bytes the encoded string takes that `bytes` begins with; `None` when it begins with none.
pub fn encoded_len(bytes: &[u8]) -> Option<usize> {
    for (number, group) in bytes.as_chunks::<{ GROUP_LEN + 1 }>().0.iter().enumerate() {
        let [content @ .., end] = group;
        if *end == FULL {
            continue;
        }
        let len = (0..GROUP_LEN).find(|len| marker(*len) == *end)?;
        let is_filled = content[len..].iter().all(|byte| *byte == 0);
        return is_filled.then_some((number + 1) * (GROUP_LEN + 1));
    }
    None
}

/// The marker of a last group with so many bytes of the string.
fn marker(len: usize) -> u8 {
    FULL - u8::try_from(GROUP_LEN - len).expect("a group is short")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_encoded_as_the_course_says() {
        assert_eq!(encode(&[]), [0, 0, 0, 0, 0, 0, 0, 0, 0xf7]);
        assert_eq!(encode(&[42, 0, 5]), [42, 0, 5, 0, 0, 0, 0, 0, 0xfa]);
        let eight = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(encode(&eight), [&eight[..], &[0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0xf7]].concat());
    }

    #[test]
    fn order_is_kept_and_no_encoded_string_begins_another() {
        let mut strings: Vec<Vec<u8>> = vec![vec![], vec![0], vec![0, 0], vec![42], vec![42, 0], vec![0xff]];
        strings.extend((0..20).map(|len| vec![7; len]));
        strings.sort();
        strings.dedup();
        let encoded: Vec<_> = strings.iter().map(|string| encode(string)).collect();
        for pair in encoded.windows(2) {
            assert!(pair[0] < pair[1] && !pair[1].starts_with(&pair[0]), "{pair:?}");
        }
    }

    #[test]
    fn the_length_of_what_is_encoded_is_found_before_whatever_follows() {
        for len in 0..20 {
            let encoded = encode(&vec![7; len]);
            assert_eq!(encoded_len(&[&encoded[..], &[0xff; 8]].concat()), Some(encoded.len()));
            assert_eq!(encoded_len(&encoded[..encoded.len() - 1]), None, "cut off");
        }
        assert_eq!(encoded_len(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), None, "no marker");
        assert_eq!(encoded_len(&[1, 2, 3, 4, 5, 6, 7, 8, 0xfa]), None, "filled up with something");
    }
}
