//! Stories about splits: what was asked for before one, and is done behind it.

use super::members::{SLOW_DISK, USUAL_DISK};
use super::stories::{FAMILY, Story, WITHIN, tell_of};
use futures_util::future::join_all;
use std::cell::Cell;
use std::time::Duration;

const SEEDS: std::ops::Range<u64> = 1..4;
/// Who fills another region of the store, faster than a slow disk takes it.
const FILLERS: usize = 40;
/// Writes to the region while it is being split, one after the other.
const WRITES: u32 = 100;
const WRITE_EVERY: Duration = Duration::from_millis(20);

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
