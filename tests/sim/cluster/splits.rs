//! Stories about splits: writes on their way, and a store that gets the region meanwhile.

use super::members::{SLOW_DISK, USUAL_DISK};
use super::stories::{FAMILY, Story, WITHIN, tell_of};
use futures_util::future::join_all;
use pinion_capnp::{
    Atomicity, Context, OperationResult, Operations, PeerChangeKind, RawCall, RawReply, RawRequest, ReadFrom,
};
use std::cell::Cell;
use std::time::Duration;

const SEEDS: std::ops::Range<u64> = 1..4;
/// Who fills another region of the store, faster than a slow disk takes it.
const FILLERS: usize = 40;
/// Writes to the region while it is being split, one after the other.
const WRITES: u32 = 100;
const WRITE_EVERY: Duration = Duration::from_millis(20);
/// Who writes while a region is split again and again.
const WRITERS: usize = 40;
/// Who reads while a region is split.
const READERS: usize = 20;
/// How long after a peer is made its region is split.
const SPLIT_AFTER_MS_MAX: u64 = 1500;
/// How long after a split the store hears of it that installs a snapshot meanwhile.
const HEARD_AFTER_MS_MAX: u64 = 600;

fn tell(story: impl AsyncFn(Story<'_>) + Send + Sync) {
    tell_of(SEEDS, 0, story);
}

#[test]
fn a_write_that_waited_for_room_while_its_region_was_split_is_not_lost() {
    tell(async |story| {
        let leader = 1;
        story.lead_from(leader).await;
        story.ask("a split", async |client| client.split(&[b"m".to_vec()]).await).await;
        let host = &story.cluster.stores[leader].host;
        host.set_io_latency(SLOW_DISK);
        let client = story.cluster.client(leader).await.with_timeout(4 * WITHIN);
        let is_split = Cell::new(false);
        let split = async {
            story.ask("a split", async |client| client.split(&[b"k5".to_vec()]).await).await;
            is_split.set(true);
        };
        let meanwhile = async {
            story.meet(leader, |peer| peer.is_applying).await;
            let fill = async |filler| {
                while !is_split.get() {
                    // It may be refused: there is no room.
                    drop(client.put(FAMILY, format!("m{filler}").as_bytes(), &[b'v'; 4000], None).await);
                }
            };
            // These are behind the key at which the region is split.
            let write = async |number| {
                pinion_runtime::sleep(WRITE_EVERY * number).await;
                let key = format!("k9{number}");
                let written = client.put(FAMILY, key.as_bytes(), b"v", None).await;
                written.is_ok().then_some(key)
            };
            let (_, written) =
                futures_util::join!(join_all((0..FILLERS).map(fill)), join_all((0..WRITES).map(write)));
            written
        };
        let ((), written) = futures_util::join!(split, meanwhile);
        host.set_io_latency(USUAL_DISK);
        let half = story.half_with(b"k9").await;
        for key in written.into_iter().flatten() {
            assert!(half.get(key.as_bytes()).await.is_some(), "{key} was acknowledged");
        }
    });
}

#[test]
fn a_batch_that_is_read_while_its_region_is_split_misses_nothing() {
    tell_of(1..9, 0, async |story| {
        let slow = 0;
        story.lead_from(1).await;
        for number in 0..300 {
            story.put(format!("k{number}").as_bytes(), &[b'v'; 1000]).await;
        }
        let host = &story.cluster.stores[slow].host;
        host.set_io_latency(SLOW_DISK);
        let client = story.cluster.client(slow).await.with_timeout(4 * WITHIN);
        let is_over = Cell::new(false);
        let read = async |reader: usize| {
            let read_from = ReadFrom::Stale(4 * WITHIN);
            for round in 0.. {
                if is_over.get() {
                    break;
                }
                let mut operations = Operations::default();
                for number in 0..8 {
                    operations
                        .get(FAMILY, format!("k{}", (reader * 7 + round + number * 37) % 300).as_bytes());
                }
                let call = RawCall::Batch { operations, atomicity: Atomicity::Whole };
                let context = Context { region: story.region, read_from, ..Context::default() };
                let request = RawRequest { context: Some(Box::new(context)), ..RawRequest::new(call) };
                match client.call(&request).await {
                    Ok(RawReply::Results(results)) => {
                        let is_there = |result| matches!(result, OperationResult::Value(_));
                        assert!(results.iter().all(is_there), "a key was not found");
                    }
                    // The region is another by now.
                    _ => pinion_runtime::sleep(WRITE_EVERY).await,
                }
            }
        };
        let split = async {
            story.ask("a split", async |client| client.split(&[b"k2".to_vec()]).await).await;
            story.meet(slow, |peer| peer.region.epoch.version > 1 && !peer.is_applying).await;
            is_over.set(true);
        };
        futures_util::join!(join_all((0..READERS).map(read)), split);
        host.set_io_latency(USUAL_DISK);
    });
}

#[test]
fn writes_to_keys_that_a_split_gives_away_are_not_lost() {
    tell(async |story| {
        let leader = 1;
        story.lead_from(leader).await;
        let client = story.cluster.client(leader).await.with_timeout(WITHIN);
        let is_over = Cell::new(false);
        // Each writes to a key of its own, and says what was acknowledged last.
        let write = async |writer| {
            let key = format!("k9{writer}");
            let mut acknowledged = 0;
            for number in 1u32.. {
                if is_over.get() {
                    break;
                }
                match client.put(FAMILY, key.as_bytes(), &number.to_le_bytes(), None).await {
                    Ok(()) => acknowledged = number,
                    Err(_) => pinion_runtime::sleep(WRITE_EVERY).await,
                }
            }
            (key, acknowledged)
        };
        let splits = async {
            for number in 1..6 {
                let half = story.half_with(b"k9").await;
                half.lead_from(leader).await;
                half.ask("a split", async |client| client.split(&[format!("k{number}").into()]).await).await;
            }
            is_over.set(true);
        };
        let (written, ()) = futures_util::join!(join_all((0..WRITERS).map(write)), splits);
        let half = story.half_with(b"k9").await;
        for (key, acknowledged) in written {
            let found = half
                .get(key.as_bytes())
                .await
                .map_or(0, |value| u32::from_le_bytes(value.try_into().expect("a value is a number")));
            assert!(found >= acknowledged, "{key}: {acknowledged} was acknowledged, and {found} is there");
        }
    });
}

#[test]
fn a_store_that_gets_a_region_while_it_is_split_gets_both_halves() {
    tell_of(1..13, 0, async |story| {
        let (leader, late, cluster) = (1, 4, story.cluster);
        story.lead_from(leader).await;
        story.remove(late).await;
        story.demand_nothing_on(late).await;
        for number in 0..300 {
            story.put(format!("k{number}").as_bytes(), &[b'v'; 1000]).await;
        }
        let store = &cluster.stores[late];
        store.host.set_io_latency(SLOW_DISK);
        let split = async {
            // It waits for a snapshot, which is from before the split where that comes late.
            story.meet(late, |peer| peer.is_blank).await;
            let after_ms = cluster.simulation.random_u64() % SPLIT_AFTER_MS_MAX;
            pinion_runtime::sleep(Duration::from_millis(after_ms)).await;
            story.ask("a split", async |client| client.split(&[b"k2".to_vec()]).await).await;
        };
        futures_util::join!(story.change(late, PeerChangeKind::AddVoter), split);
        store.host.set_io_latency(USUAL_DISK);
        story.demand_on(late, &[(b"k1", &[b'v'; 1000])]).await;
        let half = story.half_with(b"k299").await;
        assert_ne!(half.region, story.region);
        half.demand_on(late, &[(b"k299", &[b'v'; 1000])]).await;
        assert_eq!(store.failure(), None);
    });
}

#[test]
fn a_store_that_is_split_while_it_installs_gets_both_halves() {
    tell_of(1..25, 0, async |story| {
        let (leader, late, cluster) = (1, 4, story.cluster);
        story.lead_from(leader).await;
        story.remove(late).await;
        story.demand_nothing_on(late).await;
        for number in 0..300 {
            story.put(format!("k{number}").as_bytes(), &[b'v'; 1000]).await;
        }
        let store = &cluster.stores[late];
        store.host.set_io_latency(SLOW_DISK);
        let split = async {
            // It has a snapshot from before the split, and hears of the new half when that is about to count.
            story.meet(late, |peer| peer.is_installing).await;
            story.part(|place| place == late);
            story.ask("a split", async |client| client.split(&[b"k2".to_vec()]).await).await;
            let after_ms = cluster.simulation.random_u64() % HEARD_AFTER_MS_MAX;
            pinion_runtime::sleep(Duration::from_millis(after_ms)).await;
            cluster.simulation.heal_all();
        };
        futures_util::join!(story.change(late, PeerChangeKind::AddVoter), split);
        store.host.set_io_latency(USUAL_DISK);
        let half = story.half_with(b"k299").await;
        half.demand_on(late, &[(b"k299", &[b'v'; 1000])]).await;
        story.demand_on(late, &[(b"k1", &[b'v'; 1000])]).await;
        // Nor is anything else on its disk.
        cluster.cut_power(late);
        cluster.restart(late, 1).await;
        half.demand_on(late, &[(b"k299", &[b'v'; 1000])]).await;
        assert_eq!(store.failure(), None);
    });
}
