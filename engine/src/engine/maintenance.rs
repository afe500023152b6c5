//! Which tree to flush or to compact next.
//!
//! Two tasks of the throughput lane: one flushes, one compacts. A tree is flushed when its memtable is full; when all memtables together are
//! over their budget (the largest goes); when the log that a start would replay is over its bound (the tree that holds the oldest
//! log goes). The tree with the most compaction debt is compacted.
//!
//! Writes are refused while the disk still has room for what the memtables hold: a flush that finds none would keep the log's segments from
//! being freed, and room that somebody makes might not be enough to go on.
//!
//! Writers feel debt as a delay that grows with it, long before anything would have to stop. What is committed already waits for room in the
//! memtables.

use super::Engine;
use super::region::OpenRegion;
use super::statistics::count;
use crate::Error;
use crate::compaction::CompactionStep;
use pinion_runtime::{Lane, fs, spawn_in};
use pinion_types::RegionId;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// How long a failed flush or compaction waits before it is tried again.
const RETRY_WAIT: Duration = Duration::from_millis(250);
/// How often the disk's free space is looked at.
const SPACE_LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a closing engine looks whether its tasks have ended.
const STOP_LOOK_EVERY: Duration = Duration::from_millis(1);
/// Bytes that a compaction reads before it looks whether the engine closes.
const COMPACTION_STEP_BYTES: u64 = 32 << 20;
/// The delay of a writer at twice the memtables' budget, and at the debt's bound.
const DELAY_MAX: Duration = Duration::from_millis(4);
/// Pressure at which writers are told that the core is busy. 1 is the budget.
const PRESSURE_MAX: f64 = 2.0;
/// Pressure of the memtables at which what other stores' writers wrote waits to be applied.
const OTHERS_PRESSURE_MAX: f64 = 1.5;

/// A bell that several tasks of the core wait for.
#[derive(Default)]
struct Bell {
    rings: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Bell {
    fn ring(&self) {
        self.rings.set(self.rings.get() + 1);
        let waiting = self.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }

    async fn wait_past(&self, seen: u64) {
        std::future::poll_fn(|cx| {
            if self.rings.get() != seen {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// What the tasks share.
#[derive(Default)]
pub(crate) struct Maintenance {
    work: Bell,
    disk_full: Cell<bool>,
    /// The disk has room for little more than what is to be flushed.
    short_of_space: Cell<bool>,
    /// Tasks that flush, compact or remove and have not ended.
    running: Cell<usize>,
    failures: Cell<u64>,
}

impl Maintenance {
    pub(crate) fn ring(&self) {
        self.work.ring();
    }

    /// A task begins whose end a closing engine waits for.
    pub(crate) fn begin_task(&self) {
        self.running.update(|running| running + 1);
    }

    pub(crate) fn end_task(&self) {
        self.running.update(|running| running - 1);
    }

    /// Whether the last flush found no room on the disk, or the next might find none.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.disk_full.get() || self.short_of_space.get()
    }
}

impl Engine {
    /// Starts the tasks that flush and compact.
    pub(crate) fn start_maintenance(&self) {
        self.0.maintenance.begin_task();
        self.0.maintenance.begin_task();
        spawn_in(Lane::Throughput, self.clone().flush_loop());
        spawn_in(Lane::Throughput, self.clone().compact_loop());
        spawn_in(Lane::Throughput, self.clone().space_loop());
    }

    /// Lets the tasks that flush, compact and remove end what they are at, and waits until they have: from here on nothing touches the trees' files.
    pub(crate) async fn stop_maintenance(&self) {
        self.0.closing.set(true);
        self.0.maintenance.ring();
        while self.0.maintenance.running.get() > 0 {
            pinion_runtime::sleep(STOP_LOOK_EVERY).await;
        }
    }

    /// To be called after writes: wakes the tasks when there is something to do for them.
    pub fn after_writes(&self) {
        if self.flush_wanted().is_some() {
            self.0.maintenance.ring();
        }
    }

    /// How far memtables and compaction are behind: 1 is what the settings allow.
    pub fn pressure(&self) -> f64 {
        let memtables = ratio(self.memtable_bytes(), self.0.options.memtables_bytes_max);
        let regions = self.0.regions.borrow();
        let debt = regions.values().map(|region| region.tree.write_pressure()).fold(0.0, f64::max);
        memtables.max(debt)
    }

    /// How long a writer should wait before its write is taken; `None` when the core is too far behind to take any.
    pub fn write_delay(&self) -> Option<Duration> {
        let pressure = self.pressure();
        if pressure <= 1.0 {
            return Some(Duration::ZERO);
        }
        (pressure < PRESSURE_MAX).then(|| DELAY_MAX.mul_f64((pressure - 1.0).min(1.0)))
    }

    /// Whether the memtables may take more of what is committed: they hold less than twice their budget, which is where writers are refused;
    /// less than one and a half times, of what another store's writers wrote, so that it leaves this one's some room. A closing engine takes
    /// all, since nobody waits for it to flush.
    pub fn has_room(&self, is_others: bool) -> bool {
        let limit = if is_others { OTHERS_PRESSURE_MAX } else { PRESSURE_MAX };
        self.0.closing.get() || ratio(self.memtable_bytes(), self.0.options.memtables_bytes_max) < limit
    }

    /// Waits until [`has_room`](Self::has_room), or the engine closes.
    pub async fn wait_for_room(&self, is_others: bool) {
        self.after_writes();
        loop {
            let seen = self.0.maintenance.work.rings.get();
            if self.has_room(is_others) {
                return;
            }
            self.0.maintenance.work.wait_past(seen).await;
        }
    }

    /// Waits until there is room in the memtables for more of what is replayed at a start.
    pub async fn make_room(&self) -> Result<(), Error> {
        while let Some(region) = self.flush_wanted() {
            self.flush(&region).await?;
        }
        Ok(())
    }

    /// Flushes a region's memtable, all of it, and makes the log's space free again.
    pub async fn flush_region(&self, id: RegionId) -> Result<(), Error> {
        match self.region(id) {
            Some(region) => self.flush(&region).await,
            None => Ok(()),
        }
    }

    /// Whether no flush and no compaction is under way or due.
    pub fn is_settled(&self) -> bool {
        let busy = self.0.regions.borrow().values().any(|region| region.is_busy());
        !busy && self.flush_wanted().is_none() && self.compaction_wanted().is_none()
    }

    /// The region that should be flushed now, if any should.
    fn flush_wanted(&self) -> Option<Rc<OpenRegion>> {
        let regions = self.0.regions.borrow();
        let free = || regions.values().filter(|region| !region.is_held());
        if let Some(full) = free().find(|region| region.tree.wants_flush()) {
            return Some(full.clone());
        }
        let total: usize = free().map(|region| region.tree.memtable_bytes()).sum();
        if total > self.0.options.memtables_bytes_max {
            return free().max_by_key(|region| region.tree.memtable_bytes()).cloned();
        }
        let (oldest, is_flushed) = self.holds_log_past_bound()?;
        let oldest = regions.get(&oldest).filter(|region| !region.is_held())?;
        // What is flushed already waits for its log to be compacted, what is not applied yet can't be flushed.
        let wanted = !is_flushed && oldest.tree.flushed() < oldest.tree.applied();
        wanted.then(|| oldest.clone())
    }

    /// The region whose entries hold the oldest log, and whether the first of them is flushed, when the log is over its bound.
    fn holds_log_past_bound(&self) -> Option<(RegionId, bool)> {
        if self.0.log.live_bytes() <= self.0.options.replay_bytes_max {
            return None;
        }
        let (oldest, _) = self.0.log.oldest_unreleased()?;
        let region = self.region(oldest)?;
        Some((oldest, region.tree.flushed().0 >= self.0.log.first_index(oldest)))
    }

    /// Waits until the log is over its bound because of entries that are flushed; gives the region whose log is to be compacted. `None` when
    /// the engine closes.
    pub async fn log_past_bound(&self) -> Option<RegionId> {
        while !self.0.closing.get() {
            let seen = self.0.maintenance.work.rings.get();
            if let Some((region, true)) = self.holds_log_past_bound() {
                return Some(region);
            }
            self.0.maintenance.work.wait_past(seen).await;
        }
        None
    }

    async fn flush(&self, region: &Rc<OpenRegion>) -> Result<(), Error> {
        let _busy = self.occupy(region).await?;
        self.flush_now(region).await
    }

    /// Flushes a region that the caller holds or occupies.
    pub(crate) async fn flush_now(&self, region: &OpenRegion) -> Result<(), Error> {
        // What the memtable holds is durable in the log before a table may hold it.
        self.0.log.sync().await?;
        region.tree.flush().await?;
        // Whoever waits for room need not wait for what follows.
        self.0.maintenance.ring();
        count(&self.0.counters.flushes);
        if region.manifest.wants_checkpoint() {
            region.manifest.checkpoint(|| region.tree.state()).await?;
            count(&self.0.counters.checkpoints);
        }
        self.release(region);
        self.0.maintenance.ring();
        Ok(())
    }

    async fn flush_loop(self) {
        while !self.0.closing.get() {
            let seen = self.0.maintenance.work.rings.get();
            let Some(region) = self.flush_wanted() else {
                self.0.maintenance.work.wait_past(seen).await;
                continue;
            };
            let flushed = self.flush(&region).await;
            self.note(&flushed, "flush", &region).await;
        }
        self.0.maintenance.end_task();
    }

    async fn compact_loop(self) {
        while !self.0.closing.get() {
            let seen = self.0.maintenance.work.rings.get();
            let Some(region) = self.compaction_wanted() else {
                self.0.maintenance.work.wait_past(seen).await;
                continue;
            };
            let busy = region.occupy();
            let compacted = self.compact(&region).await;
            drop(busy);
            self.note(&compacted, "compaction", &region).await;
        }
        self.0.maintenance.end_task();
    }

    /// One compaction, to its end unless the engine closes or a structural step wants the region: then it goes on later, or is given up.
    async fn compact(&self, region: &OpenRegion) -> Result<(), Error> {
        while !self.0.closing.get() && !region.is_held() {
            match region.tree.compact_step(COMPACTION_STEP_BYTES).await? {
                CompactionStep::Progress(_) => {}
                CompactionStep::Done(_) => {
                    count(&self.0.counters.compactions);
                    return Ok(());
                }
                CompactionStep::Idle => return Ok(()),
            }
        }
        Ok(())
    }

    async fn space_loop(self) {
        while !self.0.closing.get() {
            // Where the file system does not tell, a failed flush does.
            if let Ok(available) = fs::available_bytes(&self.0.options.data_dir).await {
                let reserve = self.memtable_bytes() as u64 + self.0.options.log.segment_bytes;
                let is_short = available < reserve;
                if self.0.maintenance.short_of_space.replace(is_short) != is_short {
                    let taken = if is_short { "refused" } else { "taken again" };
                    log::warn!(
                        "the disk has {available} bytes left and {reserve} are kept for flushes: writes are {taken}"
                    );
                }
            }
            pinion_runtime::sleep(SPACE_LOOK_EVERY).await;
        }
    }

    fn compaction_wanted(&self) -> Option<Rc<OpenRegion>> {
        let regions = self.0.regions.borrow();
        let most = regions
            .values()
            .filter(|region| !region.is_held())
            .max_by_key(|region| region.tree.compaction_debt())?;
        (most.tree.compaction_debt() > 0).then(|| most.clone())
    }

    /// Notes how a flush or a compaction ended; waits a little after a failure.
    async fn note(&self, ended: &Result<(), Error>, what: &str, region: &OpenRegion) {
        match ended {
            Ok(()) => {
                self.0.maintenance.disk_full.set(false);
                self.0.maintenance.failures.set(0);
            }
            Err(error) => {
                let failures = self.0.maintenance.failures.get() + 1;
                self.0.maintenance.failures.set(failures);
                self.0.maintenance.disk_full.set(error.is_disk_full());
                if failures.is_power_of_two() {
                    log::warn!("region {}: {what} failed and will be tried again: {error}", region.id);
                }
                pinion_runtime::sleep(RETRY_WAIT).await;
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a pressure needs three digits")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}
