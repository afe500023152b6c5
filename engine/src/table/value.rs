//! Values as they are handed out: without a copy where they lie in a cached block.

use super::Block;
use bytes::Bytes;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

/// A value's bytes. As long as it lives it keeps the memory that holds them, a block of the cache for instance.
#[derive(Clone)]
pub struct Value(Repr);

#[derive(Clone)]
enum Repr {
    /// Bytes `start..end` of a block.
    Block { block: Block, start: u32, end: u32 },
    /// Bytes `start..end` of other shared memory.
    Shared { memory: Rc<[u8]>, start: u32, end: u32 },
    /// Bytes of their own.
    Owned(Bytes),
}

impl Value {
    /// The value `start..end` of a block.
    pub(crate) fn in_block(block: Block, start: usize, end: usize) -> Self {
        match (u32::try_from(start), u32::try_from(end)) {
            (Ok(start), Ok(end)) => Self(Repr::Block { block, start, end }),
            _ => Self::copied(block.bytes().get(start..end).unwrap_or_default()),
        }
    }

    /// Bytes `start..end` of shared memory, which the value keeps.
    pub fn shared(memory: Rc<[u8]>, start: u32, end: u32) -> Self {
        Self(Repr::Shared { memory, start, end })
    }

    /// A copy of `bytes`.
    pub fn copied(bytes: &[u8]) -> Self {
        Self(Repr::Owned(Bytes::copy_from_slice(bytes)))
    }

    /// The bytes, shared when they are on their own already and copied when they are a part of a block.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Repr::Owned(bytes) => bytes,
            _ => Bytes::copy_from_slice(&self),
        }
    }
}

impl Default for Value {
    fn default() -> Self {
        Self(Repr::Owned(Bytes::new()))
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Self(Repr::Owned(bytes))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Repr::Owned(bytes.into()))
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let (bytes, start, end) = match &self.0 {
            Repr::Block { block, start, end } => (block.bytes(), start, end),
            Repr::Shared { memory, start, end } => (&memory[..], start, end),
            Repr::Owned(bytes) => return bytes,
        };
        bytes.get(*start as usize..*end as usize).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} B)", self.len())
    }
}
