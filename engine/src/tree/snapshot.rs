//! A tree as it was at one moment.

use super::{IterOptions, Tree, TreeIterator};
use crate::Error;
use crate::table::Value;
use pinion_types::ColumnFamily;

/// A tree as it was when the snapshot was taken. It holds no memory and no files, but as long as it lives neither flush nor
/// compaction drops what it sees. A structural step takes keys from it that it takes from the tree.
pub struct TreeSnapshot {
    tree: Tree,
    at: u64,
}

impl TreeSnapshot {
    pub(super) fn new(tree: Tree, at: u64) -> Self {
        *tree.0.snapshots.borrow_mut().entry(at).or_default() += 1;
        Self { tree, at }
    }

    /// The sequence of the last write that the snapshot sees.
    pub fn sequence(&self) -> u64 {
        self.at
    }

    /// As [`Tree::get_cached`].
    pub fn get_cached(&self, family: ColumnFamily, key: &[u8]) -> Option<Option<Value>> {
        self.tree.get_cached_at(family, key, self.at)
    }

    /// As [`Tree::get`].
    pub async fn get(&self, family: ColumnFamily, key: &[u8]) -> Result<Option<Value>, Error> {
        self.tree.get_at(family, key, self.at).await
    }

    /// As [`Tree::iter`].
    #[expect(clippy::iter_not_returning_iterator, reason = "its steps may wait")]
    pub fn iter(&self, family: ColumnFamily, start: &[u8], end: &[u8], options: IterOptions) -> TreeIterator {
        TreeIterator::new(self.tree.view(), family, start, end, self.at, options)
    }
}

impl Clone for TreeSnapshot {
    fn clone(&self) -> Self {
        Self::new(self.tree.clone(), self.at)
    }
}

impl Drop for TreeSnapshot {
    fn drop(&mut self) {
        let mut snapshots = self.tree.0.snapshots.borrow_mut();
        if let Some(count) = snapshots.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                snapshots.remove(&self.at);
                // What the snapshot kept from being dropped may be due now.
                self.tree.0.view.borrow().version.debt.set(None);
            }
        }
    }
}
