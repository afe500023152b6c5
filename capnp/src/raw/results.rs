//! A batch's results in one piece of memory.

use crate::WireError;
use std::fmt;

/// Bytes of a batch's values at most: far more than a batch should ask for, and far less than what the messages of Cap'n Proto's own
/// libraries may have. One value always fits.
pub const VALUES_BYTES_MAX: usize = 16 << 20;

/// What came of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationResult<'a> {
    /// The write is durable.
    Done,
    /// The key is not there.
    NotFound,
    /// The key's value.
    Value(&'a [u8]),
    /// The operation was not done.
    Error(&'a WireError),
}

/// A list of results, in the order of the operations that they belong to.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Results {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Clone, PartialEq, Eq)]
enum Item {
    Done,
    NotFound,
    Value { start: u32, end: u32 },
    Error(Box<WireError>),
}

impl Results {
    /// `count` results, each `NotFound` until it is set.
    pub fn new(count: usize) -> Self {
        Self { bytes: Vec::new(), items: vec![Item::NotFound; count] }
    }

    /// `count` results, each `Done` until it is set.
    pub fn done(count: usize) -> Self {
        Self { bytes: Vec::new(), items: vec![Item::Done; count] }
    }

    /// Makes room for `bytes` more bytes of values.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// The write at `index` is durable.
    pub fn set_done(&mut self, index: usize) {
        self.items[index] = Item::Done;
    }

    /// The key at `index` is not there.
    pub fn set_not_found(&mut self, index: usize) {
        self.items[index] = Item::NotFound;
    }

    /// The key at `index` has this value. Copies it. A value that does not fit beside the others is `TooLarge` instead.
    pub fn set_value(&mut self, index: usize, value: &[u8]) {
        let together = self.bytes.len() + value.len();
        if together > VALUES_BYTES_MAX && !self.bytes.is_empty() {
            let what = "the bytes of a batch's values, with this one,".into();
            let (limit, got) = (VALUES_BYTES_MAX as u64, together as u64);
            return self.set_error(index, WireError::TooLarge { what, limit, got });
        }
        let start = position(&self.bytes);
        self.bytes.extend_from_slice(value);
        self.items[index] = Item::Value { start, end: position(&self.bytes) };
    }

    /// The operation at `index` was not done.
    pub fn set_error(&mut self, index: usize, error: WireError) {
        self.items[index] = Item::Error(Box::new(error));
    }

    /// How many results there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of all values.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The result at `index`.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn at(&self, index: usize) -> OperationResult<'_> {
        self.result(&self.items[index])
    }

    /// The results, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = OperationResult<'_>> {
        self.items.iter().map(|item| self.result(item))
    }

    /// The first error among them.
    pub fn first_error(&self) -> Option<&WireError> {
        self.items.iter().find_map(|item| match item {
            Item::Error(error) => Some(&**error),
            _ => None,
        })
    }

    fn result<'a>(&'a self, item: &'a Item) -> OperationResult<'a> {
        match item {
            Item::Done => OperationResult::Done,
            Item::NotFound => OperationResult::NotFound,
            Item::Value { start, end } => OperationResult::Value(&self.bytes[*start as usize..*end as usize]),
            Item::Error(error) => OperationResult::Error(error),
        }
    }
}

fn position(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("an answer is far below 4 GiB")
}

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_do_not_fit_together_are_refused_one_by_one() {
        let mut results = Results::new(3);
        results.set_value(0, &vec![0; VALUES_BYTES_MAX - 1]);
        results.set_value(1, b"xy");
        results.set_value(2, b"z");
        assert!(matches!(results.at(1), OperationResult::Error(WireError::TooLarge { .. })));
        assert_eq!(results.at(2), OperationResult::Value(b"z"));
    }

    #[test]
    fn results_may_be_set_in_any_order() {
        let mut results = Results::new(4);
        results.set_value(3, b"three");
        results.set_value(0, b"");
        results.set_error(2, WireError::DiskFull);
        let listed: Vec<_> = results.iter().collect();
        assert_eq!(
            listed,
            [
                OperationResult::Value(b""),
                OperationResult::NotFound,
                OperationResult::Error(&WireError::DiskFull),
                OperationResult::Value(b"three"),
            ]
        );
        assert_eq!(results.first_error(), Some(&WireError::DiskFull));
    }
}
