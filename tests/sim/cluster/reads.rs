//! Stories about reads: of a leader that does not lead any more, of one that has just begun, and of a follower that is behind.

use super::members::{SLOW_DISK, USUAL_DISK};
use super::stories::{FAMILY, STORES, Story, WITHIN, tell_of};
use pinion_capnp::client::ClientError;
use pinion_capnp::{Context, RawCall, RawRequest, ReadFrom};
use pinion_runtime::sim::{DiskError, Failing};
use std::time::Duration;

const SEEDS: std::ops::Range<u64> = 1..7;
/// How often it is tried to meet a candidate within a lease, and how long a lease lasts at most.
const TRIES: usize = 6;
const LEASE_MAX: Duration = Duration::from_millis(600);
/// What a packet takes from a store that is far away.
pub(super) const FAR: Duration = Duration::from_millis(20);

/// How long a caller waits at most: longer than anything takes of which a store knows.
const PATIENCE: Duration = Duration::from_secs(30);

fn tell(story: impl AsyncFn(Story<'_>) + Send + Sync) {
    tell_of(SEEDS, 0, story);
}

#[test]
fn a_leader_that_was_paused_reads_nothing_by_the_lease_that_it_had() {
    tell(async |story| {
        story.put(b"k1", b"v1").await;
        let old = story.leader().await;
        let (asked, host) = (story.cluster.client(old).await, &story.cluster.stores[old].host);
        assert_eq!(asked.get(FAMILY, b"k1").await.unwrap().as_deref(), Some(&b"v1"[..]));
        host.pause();
        let new =
            story.wait_for("another leader", || story.leader_among(story.region, |place| place != old)).await;
        story.cluster.client(new).await.put(FAMILY, b"k1", b"v2", None).await.unwrap();
        // The question is there before it looks at anything else.
        let resumed = async {
            pinion_runtime::sleep(Duration::from_millis(10)).await;
            host.resume();
        };
        let (answer, ()) = futures_util::join!(asked.get(FAMILY, b"k1"), resumed);
        assert!(
            answer.as_ref().is_ok_and(|value| value.as_deref() == Some(b"v2")) || answer.is_err(),
            "what was overwritten meanwhile was read: {answer:?}"
        );
    });
}

#[test]
fn a_follower_that_is_behind_reads_nothing_before_it_has_caught_up() {
    tell(async |story| {
        story.lead_from(1).await;
        for number in 0..300 {
            story.put(format!("k{number}").as_bytes(), &[b'v'; 1000]).await;
        }
        let slow = 0;
        let host = &story.cluster.stores[slow].host;
        host.set_io_latency(SLOW_DISK);
        story.ask("a split", async |client| client.split(&[b"k2".to_vec()]).await).await;
        story.meet(slow, |peer| peer.is_applying).await;
        story.put(b"k1", b"newest").await;
        story.meet(slow, |peer| peer.is_applying).await;
        assert_eq!(story.get_on(slow, b"k1").await.as_deref(), Some(&b"newest"[..]));
        host.set_io_latency(USUAL_DISK);
    });
}

#[test]
fn a_read_that_waits_on_a_follower_is_answered_when_its_core_fails() {
    tell(async |story| {
        let slow = 0;
        story.lead_from(1).await;
        for number in 0..300 {
            story.put(format!("k{number}").as_bytes(), &[b'v'; 1000]).await;
        }
        let store = &story.cluster.stores[slow];
        store.host.set_io_latency(SLOW_DISK);
        store.is_sick.set(true);
        let client = story.cluster.client(slow).await.with_timeout(PATIENCE);
        story.ask("a split", async |client| client.split(&[b"k2".to_vec()]).await).await;
        story.meet(slow, |peer| peer.is_applying).await;
        story.put(b"k1", b"newest").await;
        story.meet(slow, |peer| peer.is_applying).await;
        let context = Context { region: story.region, read_from: ReadFrom::Replica, ..Context::default() };
        let call = RawCall::Get { family: FAMILY, key: b"k1".to_vec() };
        let request = RawRequest { context: Some(Box::new(context)), ..RawRequest::new(call) };
        let fail = async {
            // The question is on its way to the leader and back.
            pinion_runtime::sleep(Duration::from_millis(5)).await;
            store.host.fail_io(Failing::From(store.host.io_count() + 1), DiskError::Io);
            story.wait_for("the core's failure", || store.has_failed().then_some(())).await;
        };
        let begun = pinion_runtime::now();
        let (read, ()) = futures_util::join!(client.call(&request), fail);
        assert!(
            matches!(read, Err(ClientError::Refused(_))),
            "the state that it waited for never came: {read:?}"
        );
        assert!(begun.elapsed() < WITHIN, "it took {:?}", begun.elapsed());
    });
}

#[test]
fn a_new_leader_lets_nobody_read_before_it_has_committed_in_its_term() {
    tell(async |story| {
        let (old, cluster) = (1, story.cluster);
        story.lead_from(old).await;
        story.put(b"k1", b"v1").await;
        pinion_runtime::sleep(LEASE_MAX).await;
        let others: Vec<usize> = (0..STORES).filter(|place| *place != old).collect();
        let host = |place: usize| &cluster.stores[place].host;
        // The others have the entry and say so soon, and do not hear in time that it is committed.
        for place in &others {
            cluster.simulation.set_network_delay(host(old), host(*place), FAR..FAR + FAR / 10);
        }
        let asked = cluster.client(old).await;
        asked.put(FAMILY, b"k1", b"v2", None).await.unwrap();
        cluster.cut_power(old);
        // It takes the next one a while to commit.
        for place in &others {
            host(*place).set_io_latency(SLOW_DISK);
        }
        let reads = others.iter().map(|place| story.get_on(*place, b"k1"));
        for read in futures_util::future::join_all(reads).await {
            assert_eq!(read.as_deref(), Some(&b"v2"[..]), "an older state than what was acknowledged");
        }
        for place in &others {
            host(*place).set_io_latency(USUAL_DISK);
        }
    });
}

#[test]
fn voters_that_start_again_do_not_elect_another_while_a_lease_that_they_promised_lasts() {
    tell(async |story| {
        let (leader, restarted, candidate) = (1, [2, 3], 4);
        let (cluster, host) = (story.cluster, |place: usize| &story.cluster.stores[place].host);
        for number in 0..TRIES {
            story.lead_from(leader).await;
            let written = number.to_le_bytes();
            story.put(b"k1", &written).await;
            let asked = cluster.client(leader).await;
            assert_eq!(asked.get(FAMILY, b"k1").await.unwrap().as_deref(), Some(&written[..]));
            // It does not hear the leader, and asks for votes again and again.
            cluster.simulation.block(host(leader), host(candidate));
            pinion_runtime::sleep(2 * LEASE_MAX).await;
            for place in restarted {
                cluster.cut_power(place);
            }
            story.part(|place| place == leader);
            let begun = pinion_runtime::now();
            let reads = async {
                while begun.elapsed() < LEASE_MAX {
                    if let Some(other) = story.leader_among(story.region, |place| place != leader) {
                        cluster.client(other).await.put(FAMILY, b"k1", b"newer", None).await.unwrap();
                        let read = asked.with_timeout(Duration::from_millis(100)).get(FAMILY, b"k1").await;
                        assert!(
                            read.as_ref().map_or(true, |value| value.as_deref() == Some(b"newer")),
                            "another was elected within the lease: {read:?}"
                        );
                        return;
                    }
                    pinion_runtime::sleep(Duration::from_millis(1)).await;
                }
            };
            let restarts = restarted.map(|place| cluster.restart(place, 1));
            let healed = async {
                reads.await;
                cluster.simulation.heal_all();
            };
            futures_util::join!(futures_util::future::join_all(restarts), healed);
        }
    });
}
