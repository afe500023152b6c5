//! The ghost: which blocks left the cache not long ago.
//!
//! A table of fingerprints, each at the one place that its key gives; a newer one takes the place of an older. So old ones fade
//! without a queue, and memory is fixed. A false memory costs one block a place in the wrong queue.

use super::BlockKey;

/// Remembers evicted blocks.
pub(super) struct Ghost {
    fingerprints: Box<[u32]>,
}

impl Ghost {
    /// Remembers about `blocks` blocks.
    pub(super) fn new(blocks: usize) -> Self {
        Self { fingerprints: vec![0; blocks.next_power_of_two()].into() }
    }

    /// Remembers a block.
    pub(super) fn insert(&mut self, key: BlockKey) {
        let (index, fingerprint) = self.place(key);
        self.fingerprints[index] = fingerprint;
    }

    /// Whether the block left not long ago; forgets it.
    pub(super) fn take(&mut self, key: BlockKey) -> bool {
        let (index, fingerprint) = self.place(key);
        let found = self.fingerprints[index] == fingerprint;
        if found {
            self.fingerprints[index] = 0;
        }
        found
    }

    /// Bytes in memory.
    pub(super) fn byte_len(&self) -> usize {
        size_of_val(&*self.fingerprints)
    }

    fn place(&self, key: BlockKey) -> (usize, u32) {
        let mixed =
            (key.table.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ key.offset).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let spread = mixed ^ mixed >> 32;
        let [a, b, c, d, high @ ..] = spread.to_le_bytes();
        let index = u32::from_le_bytes(high) as usize & (self.fingerprints.len() - 1);
        (index, u32::from_le_bytes([a, b, c, d]) | 1)
    }
}
