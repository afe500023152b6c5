//! Stories about members that are behind and are sent what the leader's log has on disk only.

use super::stories::{FAMILY, LOOK_EVERY, Story, tell_with};
use crate::store::limits;
use futures_util::future::join_all;
use pinion_shard::ShardLimits;
use pinion_types::LogIndex;
use std::cell::Cell;
use std::time::Duration;

const SEEDS: std::ops::Range<u64> = 1..4;
/// What one member lacks, and the other twice: several times what the log keeps in memory, and less than it keeps on disk. Each is a block of the log.
const BEHIND: usize = 40;
const BEHIND_BYTES: usize = 3 << 10;
/// Bounds on the log that are not met: what a member lacks is there.
const LOG_ENTRIES: u64 = 100_000;
const LOG_BYTES: u64 = 64 << 20;
/// Who writes meanwhile, so that the leader has turns all the time in which it finds that it lacks entries; and how long a read of those takes.
const CALLERS: usize = 4;
const READ_TAKES: std::ops::Range<Duration> = Duration::from_millis(5)..Duration::from_millis(6);
/// A few are enough for what the story leaves on disk.
const READS_MAX: u64 = 4;
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(20);

impl Story<'_> {
    fn reads_on(&self, place: usize) -> u64 {
        self.cluster.stores[place].host.io_counts().reads
    }

    async fn write_until(&self, caller: usize, is_over: &Cell<bool>) {
        let client = self.cluster.client(self.leader().await).await.with_timeout(CAUGHT_UP_WITHIN);
        while !is_over.get() {
            client.put(FAMILY, format!("k-{caller}").as_bytes(), b"meanwhile", None).await.unwrap();
        }
    }

    async fn wait_until_applied(&self, place: usize, index: LogIndex) {
        let begun = pinion_runtime::now();
        while self.applied_on(place) < index {
            assert!(begun.elapsed() < CAUGHT_UP_WITHIN, "the member stays behind");
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
    }
}

#[test]
fn what_members_lack_is_read_once_and_in_large_pieces() {
    let limits =
        ShardLimits { replicas: 0, log_entries_max: LOG_ENTRIES, log_bytes_max: LOG_BYTES, ..limits() };
    tell_with(SEEDS, limits, async |story| {
        let (leader, lone) = (0, [3, 4]);
        story.lead_from(leader).await;
        // Each is behind at a place of its own.
        for (number, place) in lone.into_iter().enumerate() {
            story.cluster.cut_power(place);
            for key in number * BEHIND..(number + 1) * BEHIND {
                story.put(format!("k{key}").as_bytes(), &[7; BEHIND_BYTES]).await;
            }
        }
        let lacks = story.applied_on(leader);
        let (reads, snapshots) = (story.reads_on(leader), story.cluster.snapshots_installed());
        story.cluster.stores[leader].host.set_io_latency(READ_TAKES);
        for place in lone {
            story.cluster.restart(place, 1).await;
        }
        let begun = pinion_runtime::now();
        while story.reads_on(leader) == reads {
            assert!(begun.elapsed() < CAUGHT_UP_WITHIN, "nothing is read");
            pinion_runtime::sleep(Duration::from_millis(1)).await;
        }
        let is_over = Cell::new(false);
        let catching_up = async {
            for place in lone {
                story.wait_until_applied(place, lacks).await;
            }
            is_over.set(true);
        };
        let writing = join_all((0..CALLERS).map(|caller| story.write_until(caller, &is_over)));
        futures_util::join!(catching_up, writing);
        assert_eq!(story.cluster.snapshots_installed(), snapshots, "one was sent a snapshot");
        let reads = story.reads_on(leader) - reads;
        assert!(reads <= READS_MAX, "{reads} reads for {BEHIND} entries and twice as many");
    });
}
