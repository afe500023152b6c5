//! Rows about leaders, partitions, snapshots and splits that tell one story each.

use crate::stage::{STORES, demand_short_logs};
use crate::story::{FAMILY, tell};
use pinion_capnp::{ClientError, Context, RawCall, RawRequest, WireError};
use pinion_types::key::Zone;
use pinion_workload::Random;
use std::time::Duration;

/// Voters that the stores give other regions than that of the story.
const REPLICAS: usize = 3;
/// Entries that logs keep in the row about a snapshot: the least that can be set.
const LOG_ENTRIES_MAX: u64 = 16;
/// How long a store may take that is asked for what it can't do alone.
const ALONE_MAX: Duration = Duration::from_secs(2);
/// How long a store is parted from the others that is to need a snapshot. What was sent to it must be given up meanwhile: TCP would bring
/// it later, and no snapshot were needed.
const PARTED: Duration = Duration::from_secs(4);
/// What the row about a split writes, of which the region's bound is half.
const LARGE_PUTS: usize = 128;
const LARGE_VALUE_BYTES: usize = 16 << 10;

#[test]
fn test_transfer_leader_3b() {
    tell("test_transfer_leader_3b", REPLICAS, "", async |story| {
        for store in 1..=STORES {
            story.lead_from(store).await;
            story.put(b"k", &[store]).await;
            assert_eq!(story.get(b"k").await.as_deref(), Some(&[store][..]));
        }
    });
}

#[test]
fn test_one_partition_2b() {
    tell("test_one_partition_2b", REPLICAS, "", async |story| {
        story.put(b"k1", b"v1").await;
        for store in 1..=STORES {
            story.demand_on(store, &[(b"k1", Some(b"v1"))]).await;
        }
        // The leader is with the majority: the minority hears of nothing.
        let leader = story.leader().await;
        let few = [leader % STORES + 1, (leader + 1) % STORES + 1];
        story.part(|store| few.contains(&store));
        let before = story.peer_on(few[0]).await.unwrap().applied;
        story.put(b"k1", b"changed").await;
        assert_eq!(story.get(b"k1").await.as_deref(), Some(&b"changed"[..]));
        let majority = story.leader_among(|store| !few.contains(&store)).await;
        assert!(story.peer_on(majority).await.unwrap().applied > before);
        assert_eq!(story.peer_on(few[0]).await.unwrap().applied, before, "the minority has what it had");
        story.heal();
        for store in 1..=STORES {
            story.demand_on(store, &[(b"k1", Some(b"changed"))]).await;
        }
        // The leader is with the minority: the others have another, and what it says does not count.
        let old = story.leader().await;
        let few = [old, old % STORES + 1];
        story.part(|store| few.contains(&store));
        let new = story.leader_among(|store| !few.contains(&store)).await;
        story.connection(new).await.put(FAMILY, b"k1", b"again", None).await.unwrap();
        let alone = story.connection(old).await.with_timeout(ALONE_MAX);
        assert!(alone.put(FAMILY, b"k1", b"never", None).await.is_err(), "a minority took a write");
        assert!(alone.get(FAMILY, b"k1").await.is_err(), "a minority answered a read");
        story.heal();
        story.lead_from(old).await;
        for store in 1..=STORES {
            story.demand_on(store, &[(b"k1", Some(b"again"))]).await;
        }
    });
}

#[test]
fn test_one_snapshot_2c() {
    let settings = format!("[raft]\nlog_entries_max = {LOG_ENTRIES_MAX}\n");
    tell("test_one_snapshot_2c", REPLICAS, &settings, async |story| {
        let lone = story.leader().await % STORES + 1;
        story.put(b"k1", b"v1").await;
        story.put(b"k2", b"v2").await;
        story.demand_on(lone, &[(b"k1", Some(b"v1")), (b"k2", Some(b"v2"))]).await;
        let before = story.installed(lone);
        story.part(|store| store == lone);
        for number in 0..200 {
            story.put(format!("k{number}").as_bytes(), &[b'v'; 1000]).await;
        }
        story.delete(b"k2").await;
        pinion_runtime::sleep(PARTED).await;
        story.heal();
        let installed = async || (story.installed(lone) > before).then_some(());
        story.wait_for("a snapshot", installed).await;
        let held: [(&[u8], Option<&[u8]>); 3] =
            [(b"k1", Some(&[b'v'; 1000])), (b"k2", None), (b"k199", Some(&[b'v'; 1000]))];
        story.demand_on(lone, &held).await;
        // What the snapshot brought is there after a kill -9, too.
        story.restart(lone);
        story.lead_from(lone).await;
        story.demand_on(lone, &held).await;
        assert_eq!(story.get(b"k2").await, None);
        story.put(b"k2", b"after").await;
        assert_eq!(story.get(b"k2").await.as_deref(), Some(&b"after"[..]));
        story.cluster.stores[usize::from(lone) - 1].stop().unwrap();
        demand_short_logs(&story.cluster.stores[usize::from(lone) - 1], LOG_ENTRIES_MAX);
        story.cluster.restart().unwrap();
    });
}

#[test]
fn test_one_split_3b() {
    tell("test_one_split_3b", REPLICAS, "[region]\nsplit_size = \"1M\"\n", async |story| {
        let lone = story.leader().await % STORES + 1;
        let whole = story.region().await;
        story.part(|store| store == lone);
        let mut random = Random::new(1);
        let mut values = Vec::new();
        for number in 0..LARGE_PUTS {
            let value: Vec<u8> =
                (0..LARGE_VALUE_BYTES / 8).flat_map(|_| random.number().to_le_bytes()).collect();
            story.put(format!("k{number:03}").as_bytes(), &value).await;
            values.push(value);
        }
        let (first, last): (&[u8], &[u8]) = (b"k000", b"k127");
        let halves = async || {
            let (left, right) = (story.region_of(first).await, story.region_of(last).await);
            // The one was asked for before the other.
            (left.id != right.id && left.end <= right.start).then_some((left, right))
        };
        let (left, right) = story.wait_for("a split", halves).await;
        assert_eq!((&left.start, &right.end), (&whole.start, &whole.end));
        assert!(left.end > Zone::Raw.stored(first) && right.start <= Zone::Raw.stored(last));
        // What lies between, if that was split once more, leaves no gap.
        let mut border = left.end.clone();
        while border < right.start {
            border = story.region_of(Zone::Raw.caller_key(&border).unwrap()).await.end;
        }
        assert_eq!(border, right.start);
        assert!(left.epoch.version > whole.epoch.version && right.epoch.version > whole.epoch.version);

        // A key of the right half, asked of the left one.
        let context = Context { region: left.id, ..Context::default() };
        let call = RawCall::Get { family: FAMILY, key: last.to_vec() };
        let request = RawRequest { context: Some(Box::new(context)), ..RawRequest::new(call) };
        story.region = left.id;
        let asked = story.connection(story.leader().await).await.call(&request).await;
        assert!(matches!(asked, Err(ClientError::Refused(WireError::KeyNotInRegion { .. }))), "{asked:?}");

        story.heal();
        // The store that was alone catches up.
        for (number, value) in values.iter().enumerate() {
            story.demand_on(lone, &[(format!("k{number:03}").as_bytes(), Some(value))]).await;
        }
    });
}
