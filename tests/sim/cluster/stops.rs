//! Stories about stores that are stopped as an operator does it.

use super::stories::{Story, tell_of};
use std::cell::Cell;
use std::time::Duration;

const SEEDS: std::ops::Range<u64> = 1..6;
/// How long a region may be without a leader while it changes hands; an election that begins because nobody is heard takes 0.6 s and more.
const LEADERLESS_MAX: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_millis(1);

impl Story<'_> {
    /// The longest time in which nobody led the region, until `is_over`.
    async fn longest_without_leader(&self, is_over: &Cell<bool>) -> Duration {
        let (mut longest, mut led) = (Duration::ZERO, pinion_runtime::now());
        while !is_over.get() {
            pinion_runtime::sleep(LOOK_EVERY).await;
            if self.leader_among(self.region, |_| true).is_some() {
                led = pinion_runtime::now();
            }
            longest = longest.max(led.elapsed());
        }
        longest
    }
}

#[test]
fn who_stops_hands_over_what_it_leads_before_it_ends() {
    tell_of(SEEDS, 0, async |story| {
        let leaving = 0;
        story.ask("a split", async |client| client.split(&[b"k5".to_vec()]).await).await;
        let halves = [story.half_with(b"k1").await, story.half_with(b"k9").await];
        for half in &halves {
            half.lead_from(leaving).await;
        }
        let is_over = Cell::new(false);
        let stopping = async {
            story.cluster.stop(leaving).await;
            is_over.set(true);
        };
        let [first, second] = &halves;
        let ((), of_first, of_second) = futures_util::join!(
            stopping,
            first.longest_without_leader(&is_over),
            second.longest_without_leader(&is_over)
        );
        for (half, leaderless) in [(first, of_first), (second, of_second)] {
            assert!(leaderless < LEADERLESS_MAX, "nobody led for {leaderless:?}");
            assert!(half.leader_among(half.region, |place| place != leaving).is_some(), "nobody leads");
        }
    });
}
