//! A region whose tree is open on this core, and who has it.
//!
//! Two kinds of work exclude each other: structural steps, which hold a region, one at a time; and what reads or writes its files beside
//! writers, flushes, compactions and the making of region snapshots, which occupy it, any number of them.

use super::Engine;
use super::edits::ManifestLog;
use crate::Error;
use crate::tree::Tree;
use pinion_types::{LogIndex, RegionId, Term};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// How long who waits for a region waits between two looks.
const IDLE_WAIT: Duration = Duration::from_millis(1);

/// A region whose tree is open on this core.
pub(crate) struct OpenRegion {
    pub(crate) id: RegionId,
    pub(crate) generation: u64,
    pub(crate) tree: Tree,
    pub(crate) manifest: Rc<ManifestLog>,
    /// The log is logically compacted through this position.
    pub(crate) compacted: Cell<(LogIndex, Term)>,
    /// How many occupy it.
    busy: Cell<u32>,
    /// A structural step has it: nothing else flushes or compacts it.
    held: Cell<bool>,
}

impl OpenRegion {
    pub(crate) fn new(
        id: RegionId,
        generation: u64,
        tree: Tree,
        manifest: Rc<ManifestLog>,
        compacted: (LogIndex, Term),
    ) -> Self {
        let compacted = Cell::new(compacted);
        Self { id, generation, tree, manifest, compacted, busy: Cell::new(0), held: Cell::new(false) }
    }

    /// Whether a structural step has it.
    pub(crate) fn is_held(&self) -> bool {
        self.held.get()
    }

    /// Whether something occupies it.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.get() > 0
    }

    /// Occupies it, which no structural step has.
    pub(crate) fn occupy(self: &Rc<Self>) -> Busy {
        assert!(!self.held.get(), "a structural step has the region");
        self.busy.set(self.busy.get() + 1);
        Busy(self.clone())
    }

    /// The structural step that kept it has come to nothing.
    pub(crate) fn let_go(&self) {
        self.held.set(false);
    }
}

/// Something occupies a region, until this is dropped.
pub(crate) struct Busy(Rc<OpenRegion>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
    }
}

/// A structural step has a region, until this is dropped.
pub(crate) struct Held {
    engine: Engine,
    region: Rc<OpenRegion>,
    is_kept: bool,
}

impl Held {
    /// The region.
    pub(crate) fn region(&self) -> &OpenRegion {
        &self.region
    }

    /// The region stays with the step after its end.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_kept {
            self.region.let_go();
            self.engine.0.maintenance.ring();
        }
    }
}

impl Engine {
    /// Waits until no other step has the region and nothing occupies it, and keeps it so.
    ///
    /// # Errors
    /// When the region left this core meanwhile, or came back as another.
    pub(crate) async fn hold(&self, region: &Rc<OpenRegion>) -> Result<Held, Error> {
        self.wait_until_free(region).await?;
        region.held.set(true);
        let held = Held { engine: self.clone(), region: region.clone(), is_kept: false };
        while region.is_busy() {
            pinion_runtime::sleep(IDLE_WAIT).await;
        }
        Ok(held)
    }

    /// Waits until no structural step has the region, and occupies it.
    ///
    /// # Errors
    /// As [`hold`](Self::hold).
    pub(crate) async fn occupy(&self, region: &Rc<OpenRegion>) -> Result<Busy, Error> {
        self.wait_until_free(region).await?;
        Ok(region.occupy())
    }

    /// When it returns, the region is open on this core and no step has it; that stays so until the caller waits.
    async fn wait_until_free(&self, region: &Rc<OpenRegion>) -> Result<(), Error> {
        loop {
            if !self.region(region.id).is_some_and(|there| Rc::ptr_eq(&there, region)) {
                return Err(Error::NoSuchRegion { region: region.id });
            }
            if !region.is_held() {
                return Ok(());
            }
            pinion_runtime::sleep(IDLE_WAIT).await;
        }
    }
}
