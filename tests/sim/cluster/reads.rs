//! Stories about reads: of a leader that does not lead any more.

use super::stories::{FAMILY, Story, tell_of};
use std::time::Duration;

const SEEDS: std::ops::Range<u64> = 1..4;

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
