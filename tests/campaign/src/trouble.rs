//! What befalls the stores, one trouble after the other, dealt from a shuffled deck so that every kind comes. After each all is mended, and
//! every group of keys must take a write in time.

use crate::cluster::Cluster;
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

/// How long stores are parted in the same way: about as long as an election takes.
const SIDES_MS: std::ops::Range<u64> = 600..1200;

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
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
    /// Chance parts the stores in two, and parts them anew while it lasts; the clients reach all.
    Sides,
    /// A store does not hear others, or is not heard.
    OneWay,
    /// Two stores do not hear each other; the third hears both.
    Link,
    /// A store's answers do not reach the clients.
    Answers,
}

use Kind::{Answers, Kill, KillAll, KillAtStart, Link, OneWay, Pause, Sides, TwoWay};

impl Kind {
    pub(crate) const ALL: [(Self, &str); 9] = [
        (Kill, "kill -9 of one"),
        (KillAtStart, "kill -9 at the start"),
        (KillAll, "kill -9 of all"),
        (Pause, "pause"),
        (TwoWay, "two-way partition"),
        (Sides, "partition again and again"),
        (OneWay, "one-way partition"),
        (Link, "cut of one link"),
        (Answers, "answers lost"),
    ];
}

/// Every kind, some of them twice.
const DECK: [Kind; 12] =
    [Kill, Kill, KillAtStart, KillAll, Pause, Pause, TwoWay, Sides, OneWay, OneWay, Link, Answers];

/// What trouble there is.
#[derive(Clone, Copy, Debug)]
pub struct Troubles {
    /// What is dealt, in any order, before anything comes again; nothing is no trouble at all.
    pub deck: &'static [Kind],
    /// How long each lasts at most, and a quarter of that at least.
    pub lasts_max: Duration,
    /// One of so many cuts has a store killed amid it, which starts again while it lasts; 0 for none.
    pub kills_amid_cuts: u64,
}

impl Troubles {
    /// All kinds.
    pub fn all(lasts_max: Duration) -> Self {
        Self { deck: &DECK, lasts_max, kills_amid_cuts: 4 }
    }
}

/// A source of trouble.
pub struct Trouble {
    /// What is troubled.
    pub cluster: Cluster,
    client: Client,
    random: Random,
    troubles: Troubles,
    deck: Vec<Kind>,
    /// How long a trouble lasts.
    lasts_ms: std::ops::Range<u64>,
    counts: [u64; Kind::ALL.len()],
    /// Milliseconds from a trouble's end until every group took a write.
    recoveries_ms: Histogram<u64>,
}

impl Trouble {
    pub(crate) fn new(cluster: Cluster, client: Client, random: Random, troubles: Troubles) -> Result<Self> {
        let most = u64::try_from(troubles.lasts_max.as_millis())?.max(2);
        Ok(Self {
            cluster,
            client,
            random,
            troubles,
            deck: Vec::new(),
            lasts_ms: most / 4..most,
            counts: [0; Kind::ALL.len()],
            recoveries_ms: Histogram::new(3)?,
        })
    }

    /// Makes trouble as long as it is told to go on; then all is mended.
    pub(crate) fn run(&mut self, mut goes_on: impl FnMut(&Self) -> bool) -> Result<()> {
        while goes_on(self) {
            if let Some(kind) = self.deal() {
                let mending = self.trouble(kind).with_context(|| format!("{kind:?}"))?;
                self.recover(mending).with_context(|| format!("after {kind:?}"))?;
                self.cluster.check_logs()?;
            }
            let rests = self.any_ms(&(100..self.lasts_ms.start.max(101)));
            self.cluster.wait(rests)?;
        }
        Ok(())
    }

    /// How often each kind has come.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Kind::ALL.iter().zip(self.counts).map(|((_, name), count)| (*name, count))
    }

    /// How often there was trouble of each class.
    pub fn classes(&self) -> [(&'static str, u64); 3] {
        let sum = |kinds: &[Kind]| kinds.iter().map(|kind| self.counts[*kind as usize]).sum();
        [
            ("kills", sum(&[Kill, KillAtStart, KillAll])),
            ("pauses", sum(&[Pause])),
            ("partitions", sum(&[TwoWay, Sides, OneWay, Link])),
        ]
    }

    /// Whether every kind that there is to be has come.
    pub fn had_all(&self) -> bool {
        self.troubles.deck.iter().all(|kind| self.counts[*kind as usize] > 0)
    }

    /// How long recovering took, for people.
    pub fn recoveries(&self) -> String {
        let times = &self.recoveries_ms;
        format!(
            "{} recoveries: p50 {} ms, p99 {} ms, max {} ms",
            times.len(),
            times.value_at_quantile(0.5),
            times.value_at_quantile(0.99),
            times.max()
        )
    }

    fn deal(&mut self) -> Option<Kind> {
        if self.deck.is_empty() {
            self.deck = self.troubles.deck.to_vec();
            for place in (1..self.deck.len()).rev() {
                let other = self.random.index(place + 1);
                self.deck.swap(place, other);
            }
        }
        let kind = self.deck.pop()?;
        self.counts[kind as usize] += 1;
        Some(kind)
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
            TwoWay | Sides | OneWay | Link | Answers => {
                if kind != Sides {
                    let cuts = self.cuts(kind, u8::try_from(place)? + 1);
                    self.cluster.network.cut(&cuts)?;
                }
                self.stay_cut(kind, lasts / 2)?;
                let kills = self.troubles.kills_amid_cuts;
                if kills > 0 && self.random.below(kills) == 0 {
                    let other = self.random.index(self.cluster.stores.len());
                    self.counts[Kill as usize] += 1;
                    self.cluster.stores[other].kill()?;
                    self.cluster.restart()?;
                }
                self.stay_cut(kind, lasts / 2)?;
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

    /// Leaves cut what is cut, or parts the stores anew, for so long.
    fn stay_cut(&mut self, kind: Kind, lasts: Duration) -> Result<()> {
        if kind != Sides {
            return self.cluster.wait(lasts);
        }
        let until = Instant::now() + lasts;
        while Instant::now() < until {
            let sides = self.sides();
            self.cluster.network.part(|store| sides[usize::from(store) - 1])?;
            let same = self.any_ms(&SIDES_MS);
            self.cluster.wait(same.min(until.saturating_duration_since(Instant::now())))?;
        }
        Ok(())
    }

    /// Which of two sides each store is on, of which none is empty.
    fn sides(&mut self) -> Vec<bool> {
        loop {
            let sides: Vec<bool> = self.cluster.stores.iter().map(|_| self.random.below(2) == 0).collect();
            if sides.contains(&true) && sides.contains(&false) {
                return sides;
            }
        }
    }

    /// Which directions are cut.
    fn cuts(&mut self, kind: Kind, store: u8) -> Vec<(u8, u8)> {
        let others: Vec<u8> = self.cluster.stores.iter().map(|store| store.number).collect();
        let others: Vec<u8> = others.into_iter().filter(|other| *other != store).collect();
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
