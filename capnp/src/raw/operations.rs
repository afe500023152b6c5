//! A batch's operations in one piece of memory: two allocations for the whole list.

use pinion_types::ColumnFamily;
use std::fmt;
use std::time::Duration;

/// One operation of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    /// The namespace.
    pub family: ColumnFamily,
    /// The key.
    pub key: &'a [u8],
    /// What to do with the key.
    pub kind: OperationKind<'a>,
}

/// What an operation does with its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind<'a> {
    /// Reads it. Result: `Value` or `NotFound`.
    Get,
    /// Writes it. Result: `Done`.
    Put {
        /// The value.
        value: &'a [u8],
        /// How long the key lives; `None` is for ever.
        ttl: Option<Duration>,
    },
    /// Removes it. Result: `Done`.
    Delete,
}

/// A list of operations.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Operations {
    /// Key and value of each, one after the other.
    bytes: Vec<u8>,
    items: Vec<Item>,
}

/// Where an operation's bytes end; they begin where the one before it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Item {
    key_end: u32,
    end: u32,
    family: ColumnFamily,
    kind: Kind,
    /// 0 for none.
    ttl_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Get,
    Put,
    Delete,
}

impl Operations {
    /// An empty list with room for `count` operations with `bytes` bytes of keys and values.
    pub fn with_capacity(count: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), items: Vec::with_capacity(count) }
    }

    /// Appends a read.
    pub fn get(&mut self, family: ColumnFamily, key: &[u8]) {
        self.push(Operation { family, key, kind: OperationKind::Get });
    }

    /// Appends a write.
    pub fn put(&mut self, family: ColumnFamily, key: &[u8], value: &[u8], ttl: Option<Duration>) {
        self.push(Operation { family, key, kind: OperationKind::Put { value, ttl } });
    }

    /// Appends a removal.
    pub fn delete(&mut self, family: ColumnFamily, key: &[u8]) {
        self.push(Operation { family, key, kind: OperationKind::Delete });
    }

    /// Appends an operation. A time to live counts whole milliseconds, one at least.
    ///
    /// # Panics
    /// When the list's keys and values come to 4 GiB; what came by wire is far below.
    pub fn push(&mut self, operation: Operation<'_>) {
        let Operation { family, key, kind } = operation;
        self.bytes.extend_from_slice(key);
        let key_end = self.position();
        let (kind, ttl_ms) = match kind {
            OperationKind::Get => (Kind::Get, 0),
            OperationKind::Delete => (Kind::Delete, 0),
            OperationKind::Put { value, ttl } => {
                self.bytes.extend_from_slice(value);
                (Kind::Put, ttl.map_or(0, ttl_ms))
            }
        };
        self.items.push(Item { key_end, end: self.position(), family, kind, ttl_ms });
    }

    fn position(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("a batch is far below 4 GiB")
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The operation at `index`.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn at(&self, index: usize) -> Operation<'_> {
        let start = if index == 0 { 0 } else { self.items[index - 1].end };
        self.operation(start, self.items[index])
    }

    /// The operations, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Operation<'_>> {
        let mut start = 0;
        self.items.iter().map(move |&item| {
            let operation = self.operation(start, item);
            start = item.end;
            operation
        })
    }

    fn operation(&self, start: u32, item: Item) -> Operation<'_> {
        let key = &self.bytes[start as usize..item.key_end as usize];
        let kind = match item.kind {
            Kind::Get => OperationKind::Get,
            Kind::Delete => OperationKind::Delete,
            Kind::Put => OperationKind::Put {
                value: &self.bytes[item.key_end as usize..item.end as usize],
                ttl: (item.ttl_ms > 0).then(|| Duration::from_millis(item.ttl_ms)),
            },
        };
        Operation { family: item.family, key, kind }
    }
}

/// A time to live in whole milliseconds, one at least: 0 would be for ever.
pub(crate) fn ttl_ms(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_come_back_as_they_went_in() {
        let mut operations = Operations::with_capacity(4, 16);
        operations.put(ColumnFamily::Default, b"a", b"1", Some(Duration::from_millis(7)));
        operations.get(ColumnFamily::Lock, b"bb");
        operations.delete(ColumnFamily::Write, b"ccc");
        operations.put(ColumnFamily::Default, b"d", b"", None);
        let listed: Vec<_> = operations.iter().collect();
        assert_eq!(listed[0].kind, OperationKind::Put { value: b"1", ttl: Some(Duration::from_millis(7)) });
        assert_eq!((listed[1].family, listed[1].key), (ColumnFamily::Lock, &b"bb"[..]));
        assert_eq!(listed[2].kind, OperationKind::Delete);
        assert_eq!(listed[3].kind, OperationKind::Put { value: b"", ttl: None });
        for (index, operation) in listed.iter().enumerate() {
            assert_eq!(operations.at(index), *operation);
        }
        assert_eq!(operations.size_bytes(), 8);
    }
}
