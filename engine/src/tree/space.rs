//! Where a tree's bytes are, and sharing its files.

use super::{IterOptions, Tree};
use crate::Error;
use crate::manifest::TreeState;
use crate::memtable::prefix_at;
use pinion_runtime::fs;
use pinion_types::ColumnFamily;
use std::path::Path;

impl Tree {
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
        let candidate = self.key_at(start, end, wanted);
        for family in ColumnFamily::ALL {
            let mut iterator = self.iter(family, &candidate, end, IterOptions::default());
            let mut found = iterator.seek_to_first().await?;
            while found && iterator.key() <= start {
                found = iterator.next().await?;
            }
            if found {
                return Ok(Some(iterator.key().to_vec()));
            }
        }
        Ok(None)
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
