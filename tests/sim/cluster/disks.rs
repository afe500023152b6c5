//! What befalls the disks of a cluster's stores: operations that fail, a disk that is full, a bit that is read wrong.
//!
//! A store may stop then, or not start; what it must not do is lie. When its disk is whole again, it has everything that it ever acknowledged:
//! its power is cut then, so that what it only had in memory is gone, too.

use super::trouble::{CUT_WITHIN_IOS, Fault, Trouble};
use pinion_runtime::sim::{DiskError, Failing, Host};
use std::path::Path;
use std::time::Duration;

/// Room on a disk that is about to be full.
const ROOM_BYTES_MAX: u64 = 96 << 10;
/// How long a disk stays full, at most, and a bit wrong.
const LASTS_MAX: Duration = Duration::from_secs(6);
/// Syncs within which one fails.
const FAIL_WITHIN_SYNCS: u64 = 8;
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// After this no operation that met a full disk is on its way any more.
const SETTLES_WITHIN: Duration = Duration::from_millis(100);
/// Where regions have their tables.
const TABLES: &str = "/store/regions/";

impl Trouble<'_> {
    /// An operation of a store's disk fails, or all from it on, while the store serves or while it starts.
    pub(super) async fn fail_disk(&mut self, place: usize) {
        let (cluster, store) = (self.cluster, &self.cluster.stores[place]);
        let in_start = self.random.below(3) == 0;
        if in_start {
            cluster.cut_power(place);
            self.lasts().await;
        }
        store.is_sick.set(true);
        let counts = store.host.io_counts();
        let met: Box<dyn Fn() -> bool + '_> = match self.random.below(4) {
            0 => {
                let at = counts.syncs + self.random.below(FAIL_WITHIN_SYNCS);
                store.host.fail_sync(Failing::Once(at));
                Box::new(move || store.host.io_counts().syncs > at)
            }
            kind => {
                let at = counts.total() + 1 + self.random.below(CUT_WITHIN_IOS);
                let failing = if kind == 1 { Failing::From(at) } else { Failing::Once(at) };
                store.host.fail_io(failing, DiskError::Io);
                Box::new(move || store.host.io_count() > at)
            }
        };
        if in_start {
            cluster.restart(place, store.cores.get()).await;
        }
        if self.wait_for(&*met).await {
            self.counts.meet(Fault::DiskFails);
        }
        self.lasts().await;
        self.mend(place).await;
    }

    /// A store's disk has little room, and then none. When it has room again the store goes on, unless a core of it has stopped.
    pub(super) async fn fill_disk(&mut self, place: usize) {
        let store = &self.cluster.stores[place];
        store.is_sick.set(true);
        let room = self.random.below(ROOM_BYTES_MAX);
        store.host.set_disk_size(Some(store.host.disk_used() + room));
        let is_full =
            || store.has_failed() || store.shards().iter().any(|shard| !shard.engine().accepts_writes());
        if self.wait_for(&is_full).await {
            self.counts.meet(Fault::DiskFull);
            self.lasts().await;
        }
        store.host.set_disk_size(None);
        pinion_runtime::sleep(SETTLES_WITHIN).await;
        match store.has_failed() {
            true => self.mend(place).await,
            false => store.is_sick.set(false),
        }
    }

    /// A bit of one of a store's tables is wrong for a while. Whoever reads it must find out.
    pub(super) async fn flip_bit(&mut self, place: usize) {
        let store = &self.cluster.stores[place];
        let tables = store.host.files().into_iter().filter(|(path, bytes)| is_table(path) && *bytes > 0);
        let tables: Vec<_> = tables.collect();
        if tables.is_empty() {
            return;
        }
        let (path, bytes) = tables[self.random.index(tables.len())].clone();
        let (offset, bit) =
            (self.random.below(bytes), u8::try_from(self.random.below(8)).expect("it is below 8"));
        store.is_sick.set(true);
        store.host.flip_bit(&path, offset, bit).expect("the table has this byte");
        let wrong = store.host.file_content(&path).expect("the table is there");
        self.counts.meet(Fault::BitFlip);
        let begun = pinion_runtime::now();
        let lasts = self.random.below(u64::try_from(LASTS_MAX.as_micros()).expect("it is short"));
        while !store.has_failed() && begun.elapsed() < Duration::from_micros(lasts) {
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
        self.cluster.cut_power(place);
        put_right(&store.host, &wrong, offset, bit);
        self.mend(place).await;
    }

    /// Waits until something is so, and says whether it is.
    async fn wait_for(&self, is_so: &dyn Fn() -> bool) -> bool {
        let begun = pinion_runtime::now();
        while !is_so() && begun.elapsed() < LASTS_MAX {
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
        is_so()
    }

    /// The disk is whole again, the power was gone, and the store starts.
    async fn mend(&mut self, place: usize) {
        let store = &self.cluster.stores[place];
        self.cluster.cut_power(place);
        store.host.clear_disk_faults();
        store.is_sick.set(false);
        self.lasts().await;
        self.cluster.restart(place, store.cores.get()).await;
    }
}

fn is_table(path: &str) -> bool {
    path.starts_with(TABLES) && Path::new(path).extension().is_some_and(|extension| extension == "sst")
}

/// Flips the bit back, wherever the table is by now: it may have been linked elsewhere, or be gone.
fn put_right(host: &Host, wrong: &[u8], offset: u64, bit: u8) {
    for (path, bytes) in host.files() {
        // A link of a file that is right again is right, too.
        if bytes == wrong.len() as u64 && host.file_content(&path).is_ok_and(|content| content == wrong) {
            host.flip_bit(&path, offset, bit).expect("it has as many bytes");
        }
    }
}
