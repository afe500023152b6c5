//! Where a tree's bytes are, and sharing its files.

use super::{IterOptions, Tree};
use crate::Error;
use crate::manifest::TreeState;
use crate::memtable::prefix_at;
use pinion_runtime::fs;
use pinion_types::ColumnFamily;
use std::path::Path;

/// About how much a tree holds, as far as that is known without reading anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeSize {
    /// Bytes of tables, of shared ones those within the tree's bounds.
    pub table_bytes: u64,
    /// Bytes of memtables.
    pub memtable_bytes: u64,
    /// Entries of tables and memtables less the deleted ones: keys, if each was written once.
    pub keys: u64,
    /// Bytes that would be left if memtables were flushed and compaction had done all it can. What memtables hold counts as new keys,
    /// what upper levels hold as newer versions of what is below.
    pub lasting_bytes: u64,
    /// The same of keys.
    pub lasting_keys: u64,
}

impl TreeSize {
    /// Bytes of tables and memtables.
    pub fn bytes(self) -> u64 {
        self.table_bytes + self.memtable_bytes
    }
}

impl Tree {
    /// About how much the tree holds. A sum over its tables.
    pub fn size(&self) -> TreeSize {
        let version = self.version();
        let lasting = version.lasting();
        let written = self.last_sequence().saturating_sub(self.0.state.borrow().last_sequence);
        let memtable_bytes = self.memtable_bytes() as u64;
        TreeSize {
            table_bytes: version.tables().map(|table| table.bytes).sum(),
            memtable_bytes,
            keys: version.tables().map(|table| table.keys()).sum::<u64>() + written,
            lasting_bytes: lasting.bytes + memtable_bytes,
            lasting_keys: lasting.keys + written,
        }
    }

    /// About how many bytes of tables lie in `[start, end)`, stored keys, over all families; an empty `end` means no end. What shared tables hold
    /// outside of their bounds does not count.
    pub fn approximate_size(&self, start: &[u8], end: &[u8]) -> u64 {
        let version = self.version();
        let mut bytes = 0;
        for family in ColumnFamily::ALL {
            let (lower, upper) = range_of(family, start, end);
            for table in version.family(family).tables().filter(|table| table.overlaps(&lower, &upper)) {
                let is_whole = lower <= table.first && table.end <= upper;
                bytes += match is_whole {
                    true => table.bytes,
                    false => {
                        let (from, to) =
                            (table.first.as_slice().max(&lower), table.end.as_slice().min(&upper));
                        table.table.approximate_size(from, Some(to))
                    }
                };
            }
        }
        bytes
    }

    /// A stored key within `(start, end)` before which about `percent` of the range's bytes in tables lie; `None` when the tables hold no
    /// key to choose. It is an existing key of one of the families.
    ///
    /// # Errors
    /// When a block cannot be read or is damaged.
    pub async fn split_key(&self, start: &[u8], end: &[u8], percent: u8) -> Result<Option<Vec<u8>>, Error> {
        let total = self.approximate_size(start, end);
        let wanted = total / 100 * u64::from(percent.min(100));
        let behind_start = [start, &[0]].concat();
        let candidate = self.key_at(start, end, wanted).max(behind_start);
        self.first_key(&candidate, end).await
    }

    /// The first stored key of any family in `[start, end)`; an empty `end` means no end.
    ///
    /// # Errors
    /// When a block cannot be read or is damaged.
    pub async fn first_key(&self, start: &[u8], end: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let mut first: Option<Vec<u8>> = None;
        for family in ColumnFamily::ALL {
            let mut iterator = self.iter(family, start, end, IterOptions::default());
            if iterator.seek_to_first().await? && first.as_deref().is_none_or(|first| iterator.key() < first)
            {
                first = Some(iterator.key().to_vec());
            }
        }
        Ok(first)
    }

    /// The last stored key of any family in `[start, end)`; an empty `end` means no end.
    ///
    /// # Errors
    /// When a block cannot be read or is damaged.
    pub async fn last_key(&self, start: &[u8], end: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let mut last: Option<Vec<u8>> = None;
        for family in ColumnFamily::ALL {
            let mut iterator = self.iter(family, start, end, IterOptions::default());
            if iterator.seek_to_last().await? && last.as_deref().is_none_or(|last| iterator.key() > last) {
                last = Some(iterator.key().to_vec());
            }
        }
        Ok(last)
    }

    /// A string of bytes before which about `wanted` bytes of tables lie, by bisection of the eight bytes in which the tables' keys begin to differ.
    fn key_at(&self, start: &[u8], end: &[u8], wanted: u64) -> Vec<u8> {
        let version = self.version();
        let ranges =
            version.tables().map(|table| (&table.first[1..], table.end.get(1..).unwrap_or_default()));
        let (mut low, mut high): (Vec<u8>, Option<Vec<u8>>) =
            (start.to_vec(), (!end.is_empty()).then(|| end.to_vec()));
        let (mut first, mut last) = (None::<&[u8]>, Some(&[][..]));
        for (table_first, table_end) in ranges {
            first = Some(first.map_or(table_first, |first| first.min(table_first)));
            // An empty end is the end of the family.
            last = last.filter(|_| !table_end.is_empty()).map(|last| last.max(table_end));
        }
        low = first.map_or(low.clone(), |first| low.clone().max(first.to_vec()));
        high = match (high, last) {
            (Some(high), Some(last)) => Some(high.min(last.to_vec())),
            (high, last) => high.or(last.map(<[u8]>::to_vec)),
        };
        let shared = match &high {
            Some(high) => low.iter().zip(high).take_while(|(a, b)| a == b).count(),
            None => 0,
        };
        let common = low[..shared].to_vec();
        let (mut from, mut to) =
            (prefix_at(&low, shared), high.map_or(u64::MAX, |high| prefix_at(&high, shared)).max(1));
        while from < to {
            let middle = from + (to - from) / 2;
            let key = [common.as_slice(), &middle.to_be_bytes()].concat();
            if self.approximate_size(start, &key) < wanted {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        [common.as_slice(), &from.to_be_bytes()].concat()
    }

    /// Gives every table a second name in `directory`, which exists, and says what a tree there would be. Memtables are left out: who wants
    /// everything flushes before.
    ///
    /// # Errors
    /// When a link fails.
    pub async fn checkpoint(&self, directory: &Path) -> Result<TreeState, Error> {
        self.checkpoint_counted(directory).await.map(|(state, _)| state)
    }

    /// The same; says too about how many bytes of the tables count.
    pub(crate) async fn checkpoint_counted(&self, directory: &Path) -> Result<(TreeState, u64), Error> {
        // The state and the tables are of one moment, and the tables cannot go as long as the version is held.
        let (state, version, from) = (self.state(), self.version(), self.0.files.directory());
        for table in version.tables() {
            let name = table.reference.file_name();
            let (old, new) = (from.join(&name), directory.join(&name));
            fs::hard_link(&old, &new).await.map_err(|error| Error::io(&new, error))?;
        }
        fs::sync_dir(directory).await.map_err(|error| Error::io(directory, error))?;
        Ok((state, version.tables().map(|table| table.bytes).sum()))
    }
}

/// The tree keys of a range of stored keys.
fn range_of(family: ColumnFamily, start: &[u8], end: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let byte = family.as_byte();
    let upper = if end.is_empty() { vec![byte + 1] } else { [&[byte], end].concat() };
    ([&[byte], start].concat(), upper)
}
