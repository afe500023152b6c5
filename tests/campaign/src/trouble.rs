//! What befalls the stores, one trouble after the other, dealt from a shuffled deck so that every kind comes. After each all is mended, and
//! every group of keys must take a write in time.

use crate::cluster::{Cluster, STORES};
use crate::keys::{GROUPS, probe};
use crate::network::CLIENTS;
use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use pinion_client::{Client, ColumnFamily};
use pinion_workload::Random;
use std::time::{Duration, Instant};

/// How long after a trouble's end every group must take a write, at the latest.
const RECOVERS_WITHIN: Duration = Duration::from_secs(10);
/// How long a second kill of a store that starts is waited with, at most.
const STARTING_MS: u64 = 400;
/// Leases and elections take a second or so: half of the pauses are about that long.
const SHORT_PAUSE_MS: std::ops::Range<u64> = 200..1500;

/// One of so many cuts has a store killed amid it, which starts again while it lasts.
const KILLS_AMID_CUTS: u64 = 4;

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// kill -9 of a store.
    Kill,
    /// kill -9 of a store, and again while it starts.
    KillAtStart,
    /// kill -9 of all stores at once.
    KillAll,
    /// SIGSTOP, and SIGCONT after a time.
    Pause,
    /// A store and the others do not hear each other; the clients reach all.
    TwoWay,
    /// A store does not hear others, or is not heard.
    OneWay,
    /// Two stores do not hear each other; the third hears both.
    Link,
    /// A store's answers do not reach the clients.
    Answers,
}

use Kind::{Answers, Kill, KillAll, KillAtStart, Link, OneWay, Pause, TwoWay};

impl Kind {
    pub(crate) const ALL: [(Self, &str); 8] = [
        (Kill, "kill -9 of one"),
        (KillAtStart, "kill -9 at the start"),
        (KillAll, "kill -9 of all"),
        (Pause, "pause"),
        (TwoWay, "two-way partition"),
        (OneWay, "one-way partition"),
        (Link, "cut of one link"),
        (Answers, "answers lost"),
    ];
}

/// What is dealt before anything comes again.
const DECK: [Kind; 12] =
    [Kill, Kill, KillAtStart, KillAll, Pause, Pause, TwoWay, TwoWay, OneWay, OneWay, Link, Answers];

/// A source of trouble.
pub(crate) struct Trouble {
    pub(crate) cluster: Cluster,
    client: Client,
    random: Random,
    deck: Vec<Kind>,
    /// How long a trouble lasts.
    lasts_ms: std::ops::Range<u64>,
    counts: [u64; Kind::ALL.len()],
    /// Milliseconds from a trouble's end until every group took a write.
    recoveries_ms: Histogram<u64>,
}

impl Trouble {
    /// Trouble that lasts `lasts_max` at most.
    pub(crate) fn new(cluster: Cluster, client: Client, random: Random, lasts_max: Duration) -> Result<Self> {
        let most = u64::try_from(lasts_max.as_millis())?.max(2);
        Ok(Self {
            cluster,
            client,
            random,
            deck: Vec::new(),
            lasts_ms: most / 4..most,
            counts: [0; Kind::ALL.len()],
            recoveries_ms: Histogram::new(3)?,
        })
    }

    /// Makes trouble for so long, and tells `each` after every one; then all is mended.
    pub(crate) fn run(&mut self, time: Duration, mut each: impl FnMut(&Self)) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < time {
            let kind = self.deal();
            let mending = self.trouble(kind).with_context(|| format!("{kind:?}"))?;
            self.recover(mending).with_context(|| format!("after {kind:?}"))?;
            self.cluster.check_logs()?;
            let rests = self.any_ms(&(100..self.lasts_ms.start.max(101)));
            self.cluster.wait(rests)?;
            each(self);
        }
        Ok(())
    }

    /// How often each kind has come.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Kind::ALL.iter().zip(self.counts).map(|((_, name), count)| (*name, count))
    }

    /// Whether every card of the deck has been dealt.
    pub(crate) fn had_all(&self) -> bool {
        self.counts.iter().all(|count| *count > 0)
    }

    /// How long recovering took, for people.
    pub(crate) fn recoveries(&self) -> String {
        let times = &self.recoveries_ms;
        format!(
            "{} recoveries: p50 {} ms, p99 {} ms, max {} ms",
            times.len(),
            times.value_at_quantile(0.5),
            times.value_at_quantile(0.99),
            times.max()
        )
    }

    fn deal(&mut self) -> Kind {
        if self.deck.is_empty() {
            self.deck = DECK.to_vec();
            for place in (1..self.deck.len()).rev() {
                let other = self.random.index(place + 1);
                self.deck.swap(place, other);
            }
        }
        let kind = self.deck.pop().unwrap_or(Kill);
        self.counts[kind as usize] += 1;
        kind
    }

    fn any_ms(&mut self, range: &std::ops::Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.random.below((range.end - range.start).max(1)))
    }

    fn lasts(&mut self) -> Duration {
        let range = self.lasts_ms.clone();
        self.any_ms(&range)
    }

    fn coin(&mut self) -> bool {
        self.random.below(2) == 0
    }

    /// The place of a store: mostly of one that leads something.
    fn victim(&mut self) -> usize {
        let any = self.random.index(self.cluster.stores.len());
        let regions = if self.random.below(3) == 0 {
            Vec::new()
        } else {
            self.client.blocking().regions().unwrap_or_default()
        };
        let leads = regions.get(self.random.index(regions.len().max(1))).and_then(|info| info.leader);
        let place = leads.and_then(|leader| usize::try_from(leader.store.0).ok()?.checked_sub(1));
        place.filter(|place| *place < self.cluster.stores.len()).unwrap_or(any)
    }

    /// Makes it, waits, and mends it. When the mending began.
    fn trouble(&mut self, kind: Kind) -> Result<Instant> {
        let (place, lasts) = (self.victim(), self.lasts());
        match kind {
            Kill => {
                self.cluster.stores[place].kill()?;
                self.come_back_late(lasts)?;
            }
            KillAtStart => {
                self.cluster.stores[place].kill()?;
                self.cluster.stores[place].start(None)?;
                let starting = self.any_ms(&(0..STARTING_MS));
                self.cluster.wait(starting)?;
                self.cluster.stores[place].kill()?;
            }
            KillAll => {
                for store in &mut self.cluster.stores {
                    store.kill()?;
                }
                self.come_back_late(lasts)?;
            }
            Pause => {
                let lasts = if self.coin() { lasts } else { self.any_ms(&SHORT_PAUSE_MS) };
                self.cluster.stores[place].pause()?;
                self.cluster.wait(lasts)?;
                let mending = Instant::now();
                self.cluster.stores[place].resume()?;
                return Ok(mending);
            }
            TwoWay | OneWay | Link | Answers => {
                let cuts = self.cuts(kind, u8::try_from(place)? + 1);
                self.cluster.network.cut(&cuts)?;
                self.cluster.wait(lasts / 2)?;
                if self.random.below(KILLS_AMID_CUTS) == 0 {
                    let other = self.random.index(self.cluster.stores.len());
                    self.counts[Kill as usize] += 1;
                    self.cluster.stores[other].kill()?;
                    self.cluster.restart()?;
                }
                self.cluster.wait(lasts / 2)?;
                let mending = Instant::now();
                self.cluster.network.heal()?;
                return Ok(mending);
            }
        }
        let mending = Instant::now();
        self.cluster.restart()?;
        Ok(mending)
    }

    /// Half of those that were killed come back at once.
    fn come_back_late(&mut self, lasts: Duration) -> Result<()> {
        if self.coin() { self.cluster.wait(lasts) } else { Ok(()) }
    }

    /// Which directions are cut.
    fn cuts(&mut self, kind: Kind, store: u8) -> Vec<(u8, u8)> {
        let others: Vec<u8> = (1..=STORES).filter(|other| *other != store).collect();
        let one = others[self.random.index(others.len())];
        let to = others.iter().map(|other| (store, *other));
        let from = others.iter().map(|other| (*other, store));
        match kind {
            TwoWay => to.chain(from).collect(),
            Link => vec![(store, one), (one, store)],
            Answers => vec![(store, CLIENTS)],
            _ => match self.random.below(3) {
                0 => to.collect(),
                1 => from.collect(),
                _ => vec![(store, one)],
            },
        }
    }

    /// Waits until every group takes a write, in time since the mending began.
    fn recover(&mut self, begun: Instant) -> Result<()> {
        let client = &self.client;
        let written: Result<Vec<()>> = std::thread::scope(|scope| {
            let write = |group| scope.spawn(move || write(client, group, begun + RECOVERS_WITHIN));
            let writers: Vec<_> = (0..GROUPS).map(write).collect();
            let joined = writers.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined
                .map(|result| result.unwrap_or_else(|_| anyhow::bail!("a thread that writes panicked")))
                .collect()
        });
        // What a store has come to is the better reason.
        self.cluster.check()?;
        written?;
        let took = begun.elapsed();
        ensure!(took <= RECOVERS_WITHIN, "writes succeeded only after {took:?}");
        self.recoveries_ms.record(u64::try_from(took.as_millis())?)?;
        Ok(())
    }
}

/// Writes one key of a group until it is written.
fn write(client: &Client, group: usize, until: Instant) -> Result<()> {
    loop {
        match client.blocking().put(ColumnFamily::Default, &probe(group), b"", None) {
            Ok(()) => return Ok(()),
            Err(error) => {
                ensure!(
                    Instant::now() < until,
                    "group {group} takes no write for {RECOVERS_WITHIN:?}: {error}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_in_the_deck() {
        for (place, (kind, _)) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            assert!(DECK.contains(&kind), "{kind:?}");
        }
    }
}
