//! The filter: a blocked Bloom filter, one cache line a key.
//!
//! A line is eight words of 64 bits, and a key sets one bit in each: a lookup touches one line and takes no branch. At 10 bits a
//! key about 1 % of absent keys pass. On disk the lines stand as they are in memory, each word little-endian.
#![deny(clippy::indexing_slicing, clippy::expect_used)]

/// Words of 64 bits in a line.
const WORDS: usize = 8;
/// Bytes of a line.
pub(super) const LINE_LEN: usize = WORDS * 8;
/// Bits of the hash that choose a bit within a word.
const BITS_PER_WORD: u32 = 6;
/// Spreads the hash again, so that the bits within the line don't follow from the line.
const SPREAD: u64 = 0xd6e8_feb8_6659_fd93;

/// A line of the filter, one cache line of memory.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u64; WORDS]);

/// Says of a key's hash that the table has no such key, or that it may have.
pub(super) struct Filter {
    lines: Box<[Line]>,
}

impl Filter {
    /// An empty filter for `keys` keys.
    pub(super) fn with_capacity(keys: usize, bits_per_key: usize) -> Self {
        let lines = (keys.saturating_mul(bits_per_key)).div_ceil(LINE_LEN * 8).max(1);
        Self { lines: vec![Line([0; WORDS]); lines].into() }
    }

    /// Adds a key's hash.
    pub(super) fn insert(&mut self, hash: u64) {
        let index = line_of(hash, self.lines.len());
        if let Some(line) = self.lines.get_mut(index) {
            let mask = mask_of(hash);
            for (word, bit) in line.0.iter_mut().zip(mask) {
                *word |= bit;
            }
        }
    }

    /// `false` when the table has no key with this hash.
    #[inline]
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        let index = line_of(hash, self.lines.len());
        self.lines.get(index).is_none_or(|line| {
            let mask = mask_of(hash);
            line.0.iter().zip(mask).fold(0, |missing, (word, bit)| missing | (!word & bit)) == 0
        })
    }

    /// Bytes in memory and on disk.
    pub(super) fn byte_len(&self) -> usize {
        self.lines.len() * LINE_LEN
    }

    /// The filter as it stands on disk.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.byte_len());
        for word in self.lines.iter().flat_map(|line| line.0) {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// The filter from its bytes; `None` when they are no whole number of lines.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (lines, rest) = bytes.as_chunks::<LINE_LEN>();
        if lines.is_empty() || !rest.is_empty() {
            return None;
        }
        let decode = |line: &[u8; LINE_LEN]| {
            let mut words = [0; WORDS];
            for (word, bytes) in words.iter_mut().zip(line.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            Line(words)
        };
        Some(Self { lines: lines.iter().map(decode).collect() })
    }
}

/// The line of a hash, by its high bits.
#[inline]
fn line_of(hash: u64, lines: usize) -> usize {
    let product = u128::from(hash) * lines as u128;
    usize::try_from(product >> 64).unwrap_or(0)
}

/// One bit in each word of the line.
#[inline]
fn mask_of(hash: u64) -> [u64; WORDS] {
    let mut bits = hash.wrapping_mul(SPREAD) >> 16;
    std::array::from_fn(|_| {
        let bit = 1 << (bits & 63);
        bits >>= BITS_PER_WORD;
        bit
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::hash_key;

    #[test]
    fn every_key_passes_and_about_one_in_a_hundred_others() {
        let keys = 100_000_u64;
        let mut filter = Filter::with_capacity(100_000, 10);
        for key in 0..keys {
            filter.insert(hash_key(format!("\0rk{key:015}").as_bytes()));
        }
        let mut bytes = Vec::new();
        filter.encode(&mut bytes);
        let filter = Filter::decode(&bytes).unwrap();
        assert!((0..keys).all(|key| filter.may_contain(hash_key(format!("\0rk{key:015}").as_bytes()))));
        let passed = (0..keys)
            .filter(|key| filter.may_contain(hash_key(format!("\0rk{key:014}+").as_bytes())))
            .count();
        assert!((500..1_600).contains(&passed), "{passed} of {keys} absent keys passed");
    }

    #[test]
    fn a_part_of_a_line_is_refused() {
        assert!(Filter::decode(&[0; LINE_LEN + 1]).is_none());
        assert!(Filter::decode(&[]).is_none());
    }
}
