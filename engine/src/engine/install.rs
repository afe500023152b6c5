//! Installing a region snapshot: in one append the region has another tree, and its log begins anew behind the snapshot's position.
//!
//! The tables get second names in the region's directory, under numbers that none there has, and are opened before the append, so that nothing
//! can fail behind it. A crash before it leaves names that the region's state does not know, and what was received; a crash behind it leaves
//! the old tables as names that the state does not know: the next start removes either.

use super::edits::{LogSink, ManifestLog};
use super::incoming::IncomingSnapshot;
use super::region::OpenRegion;
use super::statistics::count;
use super::structure::Made;
use super::{Engine, NewTree, RecoveredRegion, removal};
use crate::Error;
use crate::log::Durability;
use crate::manifest::{TreeState, table_file_name};
use crate::tree::Tree;
use pinion_runtime::fs;
use pinion_types::{LogIndex, Term};
use std::rc::Rc;

impl Engine {
    /// Gives a region the state of a snapshot that was received and verified: its tree, the description `new.meta`, Raft's hard state (term,
    /// vote, commit index), and a log without entries that begins behind the snapshot's position. The region may be on this core, with
    /// whatever it has, or not be. Bounds of tables stay as they were described, or get narrower where they reach beyond `new`'s range. The
    /// generation of a region that is there stays.
    ///
    /// The caller has stopped appending to the region's stream. Who has the old tree reads on; what is written to it goes nowhere.
    ///
    /// # Errors
    /// When the snapshot is not verified, is another region's, or not newer than what the region has; when the tables cannot be linked or opened,
    /// or the append fails. The region is then as it was, and what was received is there for another try.
    pub async fn install_snapshot(
        &self,
        incoming: IncomingSnapshot,
        new: NewTree,
        hard_state: (Term, u64, LogIndex),
    ) -> Result<RecoveredRegion, Error> {
        let (region, description) = (new.id, incoming.description());
        let refused = |what| Err(Error::SnapshotRefused { region, what });
        if description.region != region {
            return refused("it is of another region");
        }
        if !incoming.is_verified() {
            return refused("it is not verified");
        }
        let old = self.region(region);
        let _held = match &old {
            Some(old) => Some(self.hold(old).await?),
            None => None,
        };
        if old.as_ref().is_some_and(|old| description.position().0 <= old.tree.applied().0) {
            return refused("the region is as new already");
        }
        let installed = self.install_held(&incoming, old.as_deref(), new, hard_state).await?;
        count(&self.0.counters.snapshots_installed);
        if let Some(old) = old {
            let files = old.tree.retire().await;
            self.clear_in_background(files, None);
        }
        if let Err(error) = removal::remove_directory(&incoming.directory).await {
            log::warn!(
                "{}: it is installed, and will go with a later start: {error}",
                incoming.directory.display()
            );
        }
        Ok(installed)
    }

    async fn install_held(
        &self,
        incoming: &IncomingSnapshot,
        old: Option<&OpenRegion>,
        new: NewTree,
        hard_state: (Term, u64, LogIndex),
    ) -> Result<RecoveredRegion, Error> {
        let id = new.id;
        let generation = old.map_or(new.generation, |old| old.generation);
        let new = NewTree { generation, ..new };
        if old.is_none() {
            self.make_directory(id).await?;
        }
        let described = incoming.description.state.bounded(&new.start, &new.end);
        let (state, froms) = renumbered(described, old.map(|old| &old.tree));
        let opened = self.open_installed(incoming, &state, &froms, &new).await;
        let files: Vec<u64> = state.tables.iter().map(|table| table.file).collect();
        let (tree, manifest) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                give_back(old, &files);
                return Err(error);
            }
        };
        let position = state.applied();
        let made = Made::new(new, state, position, hard_state);
        let mut records = Vec::new();
        made.records(&mut records);
        let append = self.0.log.append(&records, Durability::Sync);
        let sequence = self.0.log.last_sequence(id);
        if let Err(error) = append.await {
            // What a log that failed holds is not known: after a start the tables may be the region's.
            if !matches!(error, Error::LogFailed { .. }) {
                give_back(old, &files);
            }
            return Err(error);
        }
        manifest.installed(sequence);
        self.0.log.applied(id, position.0);
        self.0.log.reclaim();
        let region = OpenRegion::new(id, generation, tree.clone(), manifest, position);
        self.0.regions.borrow_mut().insert(id, Rc::new(region));
        let meta = made.new.meta;
        Ok(RecoveredRegion { id, generation, tree, meta, hard_state })
    }

    /// Links the received tables, `froms` by their numbers there, to where `state` wants them, and opens the tree that they make.
    async fn open_installed(
        &self,
        incoming: &IncomingSnapshot,
        state: &TreeState,
        froms: &[u64],
        new: &NewTree,
    ) -> Result<(Tree, Rc<ManifestLog>), Error> {
        let directory = self.region_directory(new.id);
        for (table, from) in state.tables.iter().zip(froms) {
            let (from, to) =
                (incoming.directory.join(table_file_name(*from)), directory.join(table.file_name()));
            fs::hard_link(&from, &to).await.map_err(|error| Error::io(&to, error))?;
        }
        fs::sync_dir(&directory).await.map_err(|error| Error::io(&directory, error))?;
        let manifest = Rc::new(self.manifest_log(new.id, new.meta.clone()));
        let sink = Rc::new(LogSink(manifest.clone()));
        let tree = Tree::open_beside(self.0.tree_env.clone(), sink, directory, state.clone()).await?;
        Ok((tree, manifest))
    }
}

/// The state with numbers for its tables that none in the old tree's directory has or had, and the numbers that they had. It comes behind
/// every edit of the old tree.
fn renumbered(mut state: TreeState, old: Option<&Tree>) -> (TreeState, Vec<u64>) {
    let edit = old.map_or(0, |old| old.state().edit);
    state.edit = state.edit.max(edit) + 1;
    let mut froms = Vec::with_capacity(state.tables.len());
    let mut next = old.map_or(0, Tree::next_file);
    for table in &mut state.tables {
        froms.push(std::mem::replace(&mut table.file, next));
        next += 1;
    }
    state.next_file = next;
    if let Some(old) = old {
        old.skip_files(next);
    }
    (state, froms)
}

/// Lets names go that were linked and are nobody's. Those of a region that was not there go when it is made.
fn give_back(old: Option<&OpenRegion>, files: &[u64]) {
    if let Some(old) = old {
        old.tree.give_back_files(files);
    }
}
