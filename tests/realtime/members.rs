//! Rows about who keeps a region, of stores that leave that to the operator.

use crate::stage::STORES;
use crate::story::{Story, id, tell};
use pinion_capnp::PeerChangeKind;

type Pair = (&'static [u8], Option<&'static [u8]>);
const K0: Pair = (b"k0", Some(b"v0"));
const K1: Pair = (b"k1", Some(b"v1"));
const K2: Pair = (b"k2", Some(b"v2"));
const K3: Pair = (b"k3", Some(b"v3"));
const K4: Pair = (b"k4", Some(b"v4"));
const K5: Pair = (b"k5", Some(b"v5"));

impl Story {
    async fn add(&self, store: u8) {
        self.change(store, PeerChangeKind::AddVoter).await;
    }

    async fn remove(&self, store: u8) {
        self.change(store, PeerChangeKind::Remove).await;
    }

    async fn put_pair(&self, (key, value): Pair) {
        self.put(key, value.unwrap()).await;
    }
}

#[test]
fn test_basic_conf_change_3b() {
    tell("test_basic_conf_change_3b", 0, "", async |story| {
        story.lead_from(1).await;
        for store in 2..=STORES {
            story.remove(store).await;
        }
        story.demand_voters(&[1]).await;
        story.put_pair(K1).await;
        assert_eq!(story.get(b"k1").await.as_deref(), Some(&b"v1"[..]));
        story.demand_nothing_on(2).await;

        // A new peer gets what there was by a snapshot, and what comes after.
        let before = story.installed(2);
        story.add(2).await;
        story.put_pair(K2).await;
        story.demand_on(2, &[K1, K2]).await;
        assert!(story.installed(2) > before, "it came by a snapshot");
        assert!(story.region().await.epoch.conf_ver > 1);
        let first = story.region().await.peer_on(id(2)).unwrap();

        // Another, and the one before goes with all that it had.
        story.add(3).await;
        story.remove(2).await;
        story.put_pair(K3).await;
        story.demand_voters(&[1, 3]).await;
        story.demand_on(3, &[K1, K2, K3]).await;
        story.demand_nothing_on(2).await;

        // It comes back as a new peer.
        let before = story.installed(2);
        story.add(2).await;
        let again = story.region().await.peer_on(id(2)).unwrap();
        assert!(again.id > first.id, "a peer that was removed never comes back");
        story.demand_on(2, &[K1, K2, K3]).await;
        assert!(story.installed(2) > before, "it came by a snapshot");

        story.remove(3).await;
        story.put_pair(K4).await;
        story.demand_voters(&[1, 2]).await;
        story.demand_on(2, &[K1, K4]).await;
        story.demand_nothing_on(3).await;
    });
}

#[test]
fn test_conf_change_remove_leader_3b() {
    tell("test_conf_change_remove_leader_3b", 0, "", async |story| {
        story.lead_from(1).await;
        story.put_pair(K0).await;
        story.remove(1).await;
        story.put_pair(K1).await;
        story.demand_voters(&[2, 3, 4, 5]).await;
        assert_ne!(story.leader().await, 1);
        story.demand_nothing_on(1).await;

        story.add(1).await;
        story.demand_on(1, &[K0, K1]).await;
        story.lead_from(1).await;
        story.put_pair(K2).await;

        // Down to two; the one that leads goes, and the last goes on alone.
        for store in [2, 3, 4] {
            story.remove(store).await;
        }
        story.demand_voters(&[1, 5]).await;
        story.put_pair(K3).await;
        assert_eq!(story.leader().await, 1);
        story.remove(1).await;
        story.put_pair(K4).await;
        story.demand_voters(&[5]).await;
        assert_eq!(story.get(b"k3").await.as_deref(), Some(&b"v3"[..]));
        for store in 1..5 {
            story.demand_nothing_on(store).await;
        }

        story.add(1).await;
        story.put_pair(K5).await;
        story.demand_voters(&[1, 5]).await;
        story.demand_on(1, &[K0, K1, K2, K3, K4, K5]).await;
    });
}
