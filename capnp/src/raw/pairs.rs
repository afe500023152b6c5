//! A scan's keys and values in one piece of memory.

use pinion_types::key::Escaped;
use std::fmt;

/// A list of keys with their values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pairs {
    bytes: Vec<u8>,
    /// Where each pair's key ends, and where the pair ends.
    ends: Vec<(u32, u32)>,
}

impl Pairs {
    /// An empty list with room for `count` pairs of `bytes` bytes.
    pub fn with_capacity(count: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(count) }
    }

    /// Appends a pair. Copies both.
    ///
    /// # Panics
    /// When the list comes to 4 GiB; answers are bounded far below.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = position(&self.bytes);
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, position(&self.bytes)));
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Keys with their values, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(key_end, end)| {
            let key = &self.bytes[start as usize..key_end as usize];
            start = end;
            (key, &self.bytes[key_end as usize..end as usize])
        })
    }
}

fn position(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("an answer is far below 4 GiB")
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, value)| (Escaped(key), Escaped(value)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_as_they_went_in() {
        let mut pairs = Pairs::default();
        pairs.push(b"a", b"1");
        pairs.push(b"bb", b"");
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [(&b"a"[..], &b"1"[..]), (b"bb", b"")]);
        assert_eq!(pairs.size_bytes(), 4);
    }
}
