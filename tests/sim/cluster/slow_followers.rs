//! Stories about a follower whose disk is slower than its region is written.

use super::members::{SLOW_DISK, USUAL_DISK};
use super::stories::{FAMILY, LOOK_EVERY, Story, tell_of};
use futures_util::future::join_all;
use std::cell::Cell;
use std::time::Duration;

const SEEDS: std::ops::Range<u64> = 1..4;
/// What is written meanwhile: several times what the follower's memtables and its log may hold.
const CALLERS: usize = 16;
const VALUES: usize = 64;
const VALUE_BYTES: usize = 16 << 10;
/// Bytes that are applied before the memtables are looked at again, and an entry more.
const SLICE_BYTES: usize = (64 << 10) + 2 * CALLERS * VALUE_BYTES;
/// Bytes of log that a follower takes which has more to apply than its log's bound: what was on its way when it was that much.
const LOG_BYTES_ON_THEIR_WAY: u64 = 2 << 20;
const CAUGHT_UP_WITHIN: Duration = Duration::from_mins(1);

/// What a follower has held at most.
#[derive(Default)]
struct Held {
    memtable_bytes: Cell<usize>,
    log_bytes: Cell<u64>,
    times_held_back: Cell<u64>,
}

impl Story<'_> {
    async fn write_much(&self) {
        let client = self.cluster.client(self.leader().await).await.with_timeout(CAUGHT_UP_WITHIN);
        let value = vec![7; VALUE_BYTES];
        let write = async |caller: usize| {
            for number in 0..VALUES {
                let key = format!("k{caller}-{number}");
                client.put(FAMILY, key.as_bytes(), &value, None).await.unwrap();
            }
        };
        join_all((0..CALLERS).map(write)).await;
    }

    async fn watch(&self, place: usize, held: &Held, ends: &Cell<bool>) {
        while !ends.get() {
            for shard in self.cluster.stores[place].shards() {
                let engine = shard.engine();
                held.memtable_bytes.set(held.memtable_bytes.get().max(engine.memtable_bytes()));
                held.log_bytes.set(held.log_bytes.get().max(engine.log().live_bytes()));
                held.times_held_back.set(shard.times_held_back());
            }
            pinion_runtime::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[test]
fn a_follower_that_flushes_slowly_holds_no_more_than_its_bounds() {
    tell_of(SEEDS, 0, async |story| {
        let (slow, spare) = (2, 4);
        story.lead_from(0).await;
        // Four voters are left, of which three are fast.
        story.remove(spare).await;
        let store = &story.cluster.stores[slow];
        let shard = store.shards().remove(0);
        let (memtables, log) =
            (shard.engine().options().memtables_bytes_max, shard.engine().options().replay_bytes_max);
        store.host.set_io_latency(SLOW_DISK);
        let (held, ends) = (Held::default(), Cell::new(false));
        let work = async {
            story.write_much().await;
            assert!(shard.failure().is_none());
            ends.set(true);
        };
        futures_util::join!(work, story.watch(slow, &held, &ends));
        println!(
            "{} times held back; memtables {} KiB, log {} KiB",
            held.times_held_back.get(),
            held.memtable_bytes.get() >> 10,
            held.log_bytes.get() >> 10
        );
        assert!(held.times_held_back.get() > 0, "the follower was as fast as the others");
        assert!(held.memtable_bytes.get() <= 2 * memtables + SLICE_BYTES);
        assert!(held.log_bytes.get() <= 2 * log + LOG_BYTES_ON_THEIR_WAY);
        store.host.set_io_latency(USUAL_DISK);
        let begun = pinion_runtime::now();
        while (0..spare).any(|place| story.applied_on(place) != story.applied_on(0)) {
            assert!(begun.elapsed() < CAUGHT_UP_WITHIN, "the follower stays behind");
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
    });
}
