//! Trees against a model in memory, and what a tree promises one by one.

mod faults;
mod model;
mod promises;

use super::{EditSink, IterOptions, Tree, TreeEnv, TreeIterator, TreeOptions};
use crate::Error;
use crate::batch::WriteBatch;
use crate::cache::BlockCache;
use crate::manifest::{ManifestEdit, TreeState};
use futures_util::future::LocalBoxFuture;
use pinion_runtime::sim::Config;
use pinion_types::ColumnFamily::{self, Default as Values};
use pinion_types::{LogIndex, Term};
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A manifest in memory.
#[derive(Default)]
struct Sink {
    state: RefCell<TreeState>,
    fails: Cell<bool>,
}

impl EditSink for Sink {
    fn commit(&self, edit: ManifestEdit) -> LocalBoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            pinion_runtime::yield_now().await;
            if self.fails.get() {
                return Err(Error::Internal { what: "the sink was told to fail" });
            }
            let edit = ManifestEdit::from_bytes(&edit.to_bytes())?;
            assert!(self.state.borrow_mut().apply(&edit)?, "edits are new");
            Ok(())
        })
    }
}

/// A tree with what it needs.
struct Fixture {
    tree: Tree,
    sink: Rc<Sink>,
    env: Rc<TreeEnv>,
    directory: PathBuf,
    index: u64,
}

/// Sizes so small that a few hundred keys fill several levels.
fn tiny() -> TreeOptions {
    TreeOptions {
        memtable_bytes: 1 << 10,
        level0_tables: 2,
        level_ratio: 3,
        table_bytes: 2 << 10,
        block_size_bytes: 256,
        ..TreeOptions::default()
    }
}

impl Fixture {
    async fn new(directory: PathBuf, options: TreeOptions) -> Self {
        let env = Rc::new(TreeEnv::new(options, BlockCache::new(1 << 20)));
        Self::open(directory, env, TreeState::default()).await
    }

    async fn open(directory: PathBuf, env: Rc<TreeEnv>, state: TreeState) -> Self {
        let sink = Rc::new(Sink { state: RefCell::new(state.clone()), fails: Cell::new(false) });
        let index = state.applied_index;
        let tree = Tree::open(env.clone(), sink.clone(), directory.clone(), state).await.unwrap();
        Self { tree, sink, env, directory, index }
    }

    /// The same directory opened again as the manifest says; what was not flushed is gone.
    async fn reopen(self) -> Self {
        let Self { tree, sink, env, directory, .. } = self;
        drop(tree);
        let state = TreeState::from_bytes(&sink.state.borrow().to_bytes()).unwrap();
        Self::open(directory, env, state).await
    }

    fn write(&mut self, batch: &WriteBatch) {
        self.index += 1;
        self.tree.write(batch, (LogIndex(self.index), Term(1)));
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        let mut batch = WriteBatch::new();
        batch.put(Values, key, value);
        self.write(&batch);
    }

    fn delete_range(&mut self, start: &[u8], end: &[u8]) {
        let mut batch = WriteBatch::new();
        batch.delete_range(Values, start, end);
        self.write(&batch);
    }

    async fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.tree.get(Values, key).await.unwrap().map(|value| value.to_vec())
    }

    async fn content(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        collect(self.tree.iter(Values, b"", b"", IterOptions::default())).await
    }

    async fn flush(&self) {
        self.tree.flush().await.unwrap();
    }

    async fn compact_all(&self) {
        while self.tree.compact_once().await.unwrap() {}
        assert_eq!(self.tree.compaction_debt(), 0);
    }

    /// Tables of each level.
    fn shape(&self) -> Vec<usize> {
        let state = self.tree.state();
        let mut shape = vec![0; usize::from(crate::manifest::LEVELS_MAX)];
        state.tables.iter().for_each(|table| shape[usize::from(table.level)] += 1);
        shape
    }
}

async fn collect(mut iterator: TreeIterator) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut content = Vec::new();
    let mut found = iterator.seek_to_first().await.unwrap();
    while found {
        content.push((iterator.key().to_vec(), iterator.value().to_vec()));
        found = iterator.next().await.unwrap();
    }
    content
}

/// The names of the tables in a directory.
async fn tables_in(directory: &Path) -> Vec<String> {
    let entries = pinion_runtime::fs::read_dir(directory).await.unwrap();
    entries
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| crate::manifest::table_file_number(name).is_some())
        .collect()
}

/// Runs a test in the simulator, with a directory; the same seed gives the same run.
fn simulated<T: Send, F: Future<Output = T>>(seed: u64, test: impl FnOnce(PathBuf) -> F + Send) -> T {
    pinion_runtime::sim::run(Config::new(seed), |simulation| {
        simulation.block_on(async {
            let directory = PathBuf::from("/tree");
            pinion_runtime::fs::create_dir_all(&directory).await.unwrap();
            test(directory).await
        })
    })
}

fn key(number: u64) -> Vec<u8> {
    format!("rk{number:06}").into_bytes()
}
