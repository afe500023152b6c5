//! Lengths within records: seven bits a byte, the low ones first, the high bit set in all bytes but the last.
#![deny(clippy::indexing_slicing, clippy::expect_used)]

/// Bytes of the longest varint: 28 bits, more than any length that stands in a record.
const LEN_MAX: usize = 4;

/// Reads a number; gives what follows it.
#[inline]
pub(super) fn read(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 { Some((usize::from(first), rest)) } else { read_long(bytes) }
}

#[cold]
fn read_long(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0;
    for (index, &byte) in bytes.iter().take(LEN_MAX).enumerate() {
        number |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return bytes.get(index + 1..).map(|rest| (number, rest));
        }
    }
    None
}

/// Appends a number below 2^28.
#[inline]
pub(super) fn write(mut number: usize, out: &mut Vec<u8>) {
    debug_assert!(number < 1 << (7 * LEN_MAX), "no length in a record is as long as {number}");
    while number >= 0x80 {
        out.push(low_bits(number) | 0x80);
        number >>= 7;
    }
    out.push(low_bits(number));
}

/// How many bytes a number takes.
#[inline]
pub(super) fn len(number: usize) -> usize {
    match number {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => LEN_MAX,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the mask leaves seven bits")]
fn low_bits(number: usize) -> u8 {
    (number & 0x7f) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_with_what_follows_them() {
        for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 0x1f_ffff, 0x20_0000, 0xfff_ffff] {
            let mut bytes = Vec::new();
            write(number, &mut bytes);
            assert_eq!(bytes.len(), len(number));
            bytes.push(7);
            assert_eq!(read(&bytes), Some((number, &[7][..])));
        }
    }

    #[test]
    fn an_endless_number_is_refused() {
        assert_eq!(read(&[0xff; 9]), None);
        assert_eq!(read(&[0x80]), None);
        assert_eq!(read(&[]), None);
    }
}
