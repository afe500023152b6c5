//! Reads: answered by a leader within its lease, from the tree.

use super::Peer;
use crate::error::ShardError;
use crate::value;
use pinion_engine::table::Value;
use pinion_engine::tree::{IterOptions, Tree, TreeSnapshot};
use pinion_types::ColumnFamily;

/// A caller's value as the tree keeps it; dereferences to the caller's bytes.
pub(crate) struct ReadValue {
    stored: Value,
    opened: value::Opened,
}

impl ReadValue {
    /// Opens a stored value's envelope.
    pub(crate) fn new(stored: Value) -> Result<Self, ShardError> {
        let opened = value::open(&stored).ok_or(ShardError::MalformedValue)?;
        Ok(Self { stored, opened })
    }

    /// Whether the value is gone for a reader at `stamp_ms`.
    pub(crate) fn is_expired(&self, stamp_ms: u64) -> bool {
        self.opened.is_expired(stamp_ms)
    }

    /// When the value expires, in milliseconds since the Unix epoch.
    pub(crate) fn expiry_ms(&self) -> Option<u64> {
        self.opened.expiry_ms
    }
}

impl std::ops::Deref for ReadValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.stored[self.opened.value_offset..]
    }
}

/// How much a scan may bring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanLimits {
    /// Pairs.
    pub(crate) pairs: usize,
    /// Bytes of keys and values.
    pub(crate) bytes: usize,
    /// Leave the values out.
    pub(crate) keys_only: bool,
    /// From the end of the range to its start.
    pub(crate) reverse: bool,
}

/// What a scan of one region brought.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    /// Stored keys with the callers' values.
    pub(crate) pairs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of the pairs.
    pub(crate) bytes: usize,
    /// Whether a limit ended the scan rather than the end of the range.
    pub(crate) limited: bool,
}

impl Peer {
    /// A caller's value, unless the key is absent or expired. Resolves without waiting when the tree's blocks are in memory.
    pub(crate) async fn get(
        &self,
        family: ColumnFamily,
        key: &[u8],
    ) -> Result<Option<ReadValue>, ShardError> {
        match self.get_cached(family, key) {
            Some(found) => found,
            None => self.opened(self.tree().get(family, key).await?),
        }
    }

    /// The same where no block must be read from disk; `None` where one must.
    pub(crate) fn get_cached(
        &self,
        family: ColumnFamily,
        key: &[u8],
    ) -> Option<Result<Option<ReadValue>, ShardError>> {
        self.tree.borrow().get_cached(family, key).map(|stored| self.opened(stored))
    }

    /// The same as of a snapshot of this peer's tree.
    pub(crate) async fn get_in(
        &self,
        snapshot: &TreeSnapshot,
        family: ColumnFamily,
        key: &[u8],
    ) -> Result<Option<ReadValue>, ShardError> {
        self.opened(snapshot.get(family, key).await?)
    }

    fn opened(&self, stored: Option<Value>) -> Result<Option<ReadValue>, ShardError> {
        let value = stored.map(ReadValue::new).transpose()?;
        // The clock is asked only where the answer depends on it.
        Ok(value.filter(|value| value.expiry_ms().is_none() || !value.is_expired(self.stamp.tick())))
    }

    /// The pairs of `[start, end)` within the region, as one snapshot.
    pub(crate) async fn scan(
        &self,
        family: ColumnFamily,
        start: &[u8],
        end: &[u8],
        limits: ScanLimits,
    ) -> Result<Scanned, ShardError> {
        scan(&self.tree(), family, start, end, limits, self.stamp.tick()).await
    }
}

async fn scan(
    tree: &Tree,
    family: ColumnFamily,
    start: &[u8],
    end: &[u8],
    limits: ScanLimits,
    stamp_ms: u64,
) -> Result<Scanned, ShardError> {
    let mut scanned = Scanned::default();
    let mut iterator = tree.iter(family, start, end, IterOptions::default());
    match limits.reverse {
        true => iterator.seek_to_last().await?,
        false => iterator.seek_to_first().await?,
    };
    while iterator.is_valid() {
        let opened = value::open(iterator.value()).ok_or(ShardError::MalformedValue)?;
        if !opened.is_expired(stamp_ms) {
            let value = if limits.keys_only { &[] } else { &iterator.value()[opened.value_offset..] };
            let bytes = iterator.key().len() + value.len();
            let full = scanned.pairs.len() >= limits.pairs
                || (scanned.bytes + bytes > limits.bytes && !scanned.pairs.is_empty());
            if full {
                scanned.limited = true;
                return Ok(scanned);
            }
            scanned.bytes += bytes;
            scanned.pairs.push((iterator.key().to_vec(), value.to_vec()));
        }
        match limits.reverse {
            true => iterator.prev().await?,
            false => iterator.next().await?,
        };
    }
    Ok(scanned)
}
