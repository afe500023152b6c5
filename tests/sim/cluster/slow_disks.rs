//! Stories about stores whose disks are slower than their regions are written.

use super::members::{SLOW_DISK, USUAL_DISK};
use super::stores::Cluster;
use super::stories::{FAMILY, LOOK_EVERY, Story, tell_of};
use futures_util::future::join_all;
use pinion_runtime::sim::{Config, run};
use std::cell::Cell;
use std::time::Duration;

const SEEDS: std::ops::Range<u64> = 1..4;
/// What is written meanwhile: several times what the follower's memtables and its log may hold.
const CALLERS: usize = 16;
const VALUES: usize = 192;
const VALUE_BYTES: usize = 16 << 10;
/// Bytes that are applied before the memtables are looked at again, and an entry more.
const SLICE_BYTES: usize = (64 << 10) + 2 * CALLERS * VALUE_BYTES;
/// Bytes that a leader sends ahead of what its follower has said that it has.
const BYTES_ON_THEIR_WAY: usize = 8 << 20;
/// Values that are several times as much as Raft hands out for applying before it hears that something was applied.
const LARGE_VALUES: usize = 96;
const LARGE_BYTES: usize = 100 << 10;
const CAUGHT_UP_WITHIN: Duration = Duration::from_mins(1);

/// What a follower has held at most.
#[derive(Default)]
struct Held {
    memtable_bytes: Cell<usize>,
    entry_bytes: Cell<usize>,
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
                held.entry_bytes.set(held.entry_bytes.get().max(engine.log().cached_bytes()));
                held.log_bytes.set(held.log_bytes.get().max(engine.log().live_bytes()));
                held.times_held_back.set(shard.times_held_back());
            }
            pinion_runtime::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[test]
fn more_than_raft_hands_out_at_once_is_applied_whenever_there_is_room() {
    for seed in SEEDS {
        run(Config::new(seed), |simulation| {
            let cluster = Cluster::start(simulation, &[1]);
            simulation.block_on(async {
                let store = &cluster.stores[0];
                store.host.set_io_latency(SLOW_DISK);
                let client = cluster.client(0).await.with_timeout(CAUGHT_UP_WITHIN);
                // All at once, so that none waits for room before it is proposed; and nothing else happens in the region.
                let value = vec![7; LARGE_BYTES];
                let put = async |number: usize| {
                    client.put(FAMILY, format!("k{number}").as_bytes(), &value, None).await
                };
                let written = join_all((0..LARGE_VALUES).map(put)).await;
                let refused = written.into_iter().find_map(Result::err);
                assert_eq!(refused, None);
                assert!(store.shards()[0].times_held_back() > 0, "there was room for all of it");
            });
        });
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
        let options = shard.engine().options();
        let (memtables, entries, log) =
            (options.memtables_bytes_max, options.log.cache_bytes, options.replay_bytes_max);
        // Both halves are written, and wait.
        story.ask("a split", async |client| client.split(&[b"k5".to_vec()]).await).await;
        story.half_with(b"k9").await.lead_from(0).await;
        store.host.set_io_latency(SLOW_DISK);
        let (held, ends) = (Held::default(), Cell::new(false));
        let work = async {
            story.write_much().await;
            assert!(shard.failure().is_none());
            ends.set(true);
        };
        futures_util::join!(work, story.watch(slow, &held, &ends));
        println!(
            "{} times held back; memtables {} KiB, entries {} KiB, log {} KiB",
            held.times_held_back.get(),
            held.memtable_bytes.get() >> 10,
            held.entry_bytes.get() >> 10,
            held.log_bytes.get() >> 10
        );
        assert!(held.times_held_back.get() > 0, "the follower was as fast as the others");
        assert!(held.memtable_bytes.get() <= memtables + memtables / 2 + SLICE_BYTES);
        assert!(held.entry_bytes.get() <= 2 * entries + BYTES_ON_THEIR_WAY);
        assert!(held.log_bytes.get() <= log + (2 * entries + BYTES_ON_THEIR_WAY) as u64);
        store.host.set_io_latency(USUAL_DISK);
        let begun = pinion_runtime::now();
        let half = story.half_with(b"k9").await;
        let differs =
            |story: &Story<'_>| (0..spare).any(|place| story.applied_on(place) != story.applied_on(0));
        while differs(&story) || differs(&half) {
            assert!(begun.elapsed() < CAUGHT_UP_WITHIN, "the follower stays behind");
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
    });
}
