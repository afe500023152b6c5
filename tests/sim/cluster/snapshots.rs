//! Stories about what members are sent that the leader's log no longer reaches.

use super::members::{SLOW_DISK, USUAL_DISK};
use super::stories::{LOOK_EVERY, Story, tell_with};
use crate::store::limits;
use pinion_capnp::PeerChangeKind;
use pinion_shard::{ShardLimits, testing};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

const SEEDS: std::ops::Range<u64> = 1..4;
/// Within which the files of a snapshot must be gone that nobody needs: they are kept for half a minute.
const REMOVED_WITHIN: Duration = Duration::from_secs(45);
/// So slow that a snapshot is on its way for seconds.
const SLOW_BYTES_PER_SECOND: u64 = 100 << 10;

/// Bytes that the log keeps, where it is to be short; a fourth of what it may keep for a slow follower.
const SHORT_LOG_BYTES: u64 = 16 << 10;

fn tell(story: impl AsyncFn(Story<'_>) + Send + Sync) {
    let limits = ShardLimits { replicas: 0, snapshot_bytes_per_second: SLOW_BYTES_PER_SECOND, ..limits() };
    tell_with(SEEDS, limits, story);
}

/// The same with a log that is bounded by its bytes.
fn tell_of_short_log(story: impl AsyncFn(Story<'_>) + Send + Sync) {
    let limits = ShardLimits {
        replicas: 0,
        snapshot_bytes_per_second: SLOW_BYTES_PER_SECOND,
        log_bytes_max: SHORT_LOG_BYTES,
        log_entries_max: 10_000,
        ..limits()
    };
    tell_with(SEEDS, limits, story);
}

/// Bytes that can't be compressed.
fn noise(len: usize) -> Vec<u8> {
    let words = (0..len.div_ceil(8)).flat_map(|_| pinion_runtime::random_u64().to_le_bytes());
    words.take(len).collect()
}

impl Story<'_> {
    /// Writes so many kilobytes, each under a key of its own.
    async fn fill(&self, kilobytes: usize) {
        for number in 0..kilobytes {
            self.put(format!("k{number}").as_bytes(), &noise(1 << 10)).await;
        }
    }

    /// Snapshots that a store has on its disk.
    fn snapshots_on(&self, place: usize) -> usize {
        let files = self.cluster.stores[place].host.files();
        let names =
            files.iter().filter_map(|(path, _)| path.strip_prefix("/store/snapshots/")?.split('/').next());
        names.collect::<BTreeSet<_>>().len()
    }

    /// Bytes of the snapshots that a store has on its disk.
    fn snapshot_bytes_on(&self, place: usize) -> u64 {
        let files = self.cluster.stores[place].host.files();
        files.iter().filter(|(path, _)| path.starts_with("/store/snapshots/")).map(|(_, bytes)| bytes).sum()
    }

    /// Bytes of applied entries that a store's log keeps of the region.
    fn log_bytes_on(&self, place: usize) -> u64 {
        let bytes = |shard: &pinion_shard::Shard| {
            let peer = testing::peers(shard).into_iter().find(|peer| peer.region.id == self.region)?;
            let log = shard.engine().log();
            Some(log.entry_bytes(self.region, log.first_index(self.region), peer.applied.next()))
        };
        self.cluster.stores[place].shards().iter().filter_map(bytes).sum()
    }

    async fn demand_no_snapshots_on(&self, place: usize) {
        let begun = pinion_runtime::now();
        while self.snapshots_on(place) > 0 {
            assert!(
                begun.elapsed() < REMOVED_WITHIN,
                "{} snapshots stay on the disk",
                self.snapshots_on(place)
            );
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
    }
}

#[test]
fn a_snapshot_that_is_superseded_while_it_is_sent_is_removed() {
    tell(async |story| {
        let (lone, new) = (3, 4);
        story.lead_from(0).await;
        story.remove(new).await;
        story.part(|place| place == lone);
        story.fill(300).await;
        story.cluster.simulation.heal_all();
        story.wait_for("a snapshot", || (story.snapshots_on(0) == 1).then_some(())).await;
        // The one that is on its way does not know the new member.
        story.change(new, PeerChangeKind::AddLearner).await;
        story.wait_for("another", || (story.snapshots_on(0) == 2).then_some(())).await;
        story.demand_no_snapshots_on(0).await;
    });
}

#[test]
fn a_snapshot_is_removed_when_the_peer_that_made_it_is() {
    tell(async |story| {
        story.lead_from(0).await;
        story.fill(20).await;
        story.remove(4).await;
        story.change(4, PeerChangeKind::AddVoter).await;
        assert_eq!(story.snapshots_on(0), 1);
        story.lead_from(1).await;
        story.remove(0).await;
        story.demand_nothing_on(0).await;
        story.demand_no_snapshots_on(0).await;
    });
}

#[test]
fn a_new_peer_is_filled_while_more_is_written_than_the_log_may_keep_for_it() {
    tell_of_short_log(async |story| {
        let new = 4;
        story.lead_from(0).await;
        story.remove(new).await;
        story.fill(300).await;
        let (is_filled, written, most) = (Cell::new(false), Cell::new(0), Cell::new(0));
        let traffic = async {
            while !is_filled.get() {
                let key = format!("k{}", written.get() % 20);
                story.put(key.as_bytes(), &noise(2 << 10)).await;
                written.set(written.get() + 1);
                most.set(most.get().max(story.log_bytes_on(0)));
                pinion_runtime::sleep(LOOK_EVERY).await;
            }
        };
        let add = async {
            story.change(new, PeerChangeKind::AddVoter).await;
            is_filled.set(true);
        };
        futures_util::join!(traffic, add);
        assert!(most.get() > 6 * SHORT_LOG_BYTES, "the log was to grow past what it keeps for a slow peer");
        // Then the log is as short as before.
        story.demand_no_snapshots_on(0).await;
        for _ in 0..20 {
            story.put(b"k1", &noise(2 << 10)).await;
        }
        assert!(story.log_bytes_on(0) < 2 * SHORT_LOG_BYTES, "{} bytes of log", story.log_bytes_on(0));
    });
}

#[test]
fn a_log_stays_within_four_times_its_bytes_for_a_slow_peer() {
    tell_of_short_log(async |story| {
        let slow = 4;
        story.lead_from(0).await;
        story.cluster.stores[slow].host.set_io_latency(SLOW_DISK);
        let (mut most, mut snapshot_bytes) = (0, 0);
        for number in 0..300 {
            story.put(format!("k{}", number % 10).as_bytes(), &noise(4 << 10)).await;
            let kept = story.log_bytes_on(0);
            // One entry may pass the bound, some more come before the compaction is applied. Once it is so slow that it is sent a snapshot, the log is
            // longer by what may be written meanwhile.
            snapshot_bytes = snapshot_bytes.max(story.snapshot_bytes_on(0));
            let most_allowed = 5 * SHORT_LOG_BYTES + 2 * snapshot_bytes;
            assert!(kept < most_allowed, "{kept} bytes of log after {number} writes");
            most = most.max(kept);
        }
        assert!(most > 3 * SHORT_LOG_BYTES, "the peer was to be slow: {most} bytes of log");
        story.cluster.stores[slow].host.set_io_latency(USUAL_DISK);
    });
}
