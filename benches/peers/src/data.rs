//! Keys, values and the choice among them, the same for every engine and every run.

/// Bytes of a key: `k` and 15 decimal digits, so that the order of bytes is the order of indexes.
pub(crate) const KEY_LEN: usize = 16;
/// Values are cut from a pool of this size, which is larger than the processor's caches and smaller than memory.
const POOL_LEN: usize = 1 << 20;

/// SplitMix64: small, seedable, and good enough to choose keys.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, by multiplication: a division would cost as much as a lookup in a filter.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the upper half of 128 bits")
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The present key at `index`: an even number.
pub(crate) fn key(index: u64) -> [u8; KEY_LEN] {
    digits(index * 2)
}

/// An absent key between the present ones at `index` and the next, so that no table's key range can rule it out.
pub(crate) fn absent_key(index: u64) -> [u8; KEY_LEN] {
    digits(index * 2 + 1)
}

fn digits(mut number: u64) -> [u8; KEY_LEN] {
    const DIGITS: [u8; 10] = *b"0123456789";
    let mut out = [b'0'; KEY_LEN];
    out[0] = b'k';
    for byte in out[1..].iter_mut().rev() {
        *byte = DIGITS[usize::try_from(number % 10).expect("one digit")];
        number /= 10;
    }
    out
}

/// A fixed pseudo-random permutation of `0..n`: a Feistel network, walked until it falls within.
#[derive(Clone)]
pub(crate) struct Permutation {
    n: u64,
    half_bits: u32,
    seed: u64,
}

impl Permutation {
    pub(crate) fn new(n: u64, seed: u64) -> Self {
        let bits = 64 - n.saturating_sub(1).leading_zeros();
        Self { n, half_bits: bits.div_ceil(2).max(1), seed }
    }

    pub(crate) fn at(&self, index: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let mut x = index;
        loop {
            let (mut left, mut right) = (x >> self.half_bits, x & mask);
            for round in 0..4u64 {
                let mixed = mix(right ^ self.seed.wrapping_add(round << 56)) & mask;
                (left, right) = (right, left ^ mixed);
            }
            x = (left << self.half_bits) | right;
            if x < self.n {
                return x;
            }
        }
    }
}

/// Values of one length, half of their bytes random and half zero.
pub(crate) struct Values {
    pool: Vec<u8>,
    len: usize,
}

impl Values {
    pub(crate) fn new(len: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut pool = Vec::with_capacity(POOL_LEN + len);
        while pool.len() < POOL_LEN + len {
            for index in 0..len.max(1) {
                pool.push(if index < len / 2 { random.next().to_le_bytes()[0] } else { 0 });
            }
        }
        Self { pool, len }
    }

    pub(crate) fn pick(&self, random: &mut Random) -> &[u8] {
        let places = u64::try_from(self.pool.len() - self.len).expect("64-bit machine");
        let at = usize::try_from(random.below(places)).expect("within the pool");
        &self.pool[at..at + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_takes_every_index_once() {
        for n in [1u64, 2, 3, 1000, 4097] {
            let permutation = Permutation::new(n, 7);
            let mut seen: Vec<_> = (0..n).map(|index| permutation.at(index)).collect();
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(0..n));
        }
    }

    #[test]
    fn keys_sort_by_index_and_absent_ones_lie_between() {
        assert!(key(9) < absent_key(9) && absent_key(9) < key(10));
        assert_eq!(&key(21), b"k000000000000042");
    }
}
