//! What befalls a cluster: three sources of trouble, each with one fault at a time: for stores and what their disks
//! hold, for links, for clocks and how fast disks are; and a store that joins meanwhile.

use super::stores::Cluster;
use pinion_runtime::sim::Host;
use pinion_workload::Random;
use std::cell::Cell;
use std::time::Duration;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    PowerCut,
    PowerCutAtIo,
    PowerCutInRecovery,
    PowerCutOfAll,
    Kill,
    Stop,
    OtherCores,
    Pause,
    DiskFails,
    DiskFull,
    BitFlip,
    OneWayCut,
    TwoWayCut,
    Partition,
    HalfOpen,
    Silence,
    Reset,
    SlowNetwork,
    SlowDisk,
    ClockDrift,
    WallClockJump,
}

use Fault::{
    BitFlip, ClockDrift, DiskFails, DiskFull, HalfOpen, Kill, OneWayCut, OtherCores, Partition, Pause,
    PowerCut, PowerCutAtIo, PowerCutInRecovery, PowerCutOfAll, Reset, Silence, SlowDisk, SlowNetwork, Stop,
    TwoWayCut, WallClockJump,
};

impl Fault {
    pub(super) const ALL: [Self; 21] = [
        PowerCut,
        PowerCutAtIo,
        PowerCutInRecovery,
        PowerCutOfAll,
        Kill,
        Stop,
        OtherCores,
        Pause,
        DiskFails,
        DiskFull,
        BitFlip,
        OneWayCut,
        TwoWayCut,
        Partition,
        HalfOpen,
        Silence,
        Reset,
        SlowNetwork,
        SlowDisk,
        ClockDrift,
        WallClockJump,
    ];
    /// What befalls stores.
    pub(super) const OF_STORES: [Self; 11] = [
        PowerCut,
        PowerCutAtIo,
        PowerCutInRecovery,
        PowerCutOfAll,
        Kill,
        Stop,
        OtherCores,
        Pause,
        DiskFails,
        DiskFull,
        BitFlip,
    ];
    /// What is of use only where the store meets it, which is counted besides.
    pub(super) const TO_MEET: [Self; 3] = [DiskFails, DiskFull, BitFlip];
    /// What befalls links.
    pub(super) const OF_LINKS: [Self; 7] =
        [OneWayCut, TwoWayCut, Partition, HalfOpen, Silence, Reset, SlowNetwork];
    /// What befalls clocks, and how fast disks are.
    pub(super) const OF_MACHINES: [Self; 3] = [SlowDisk, ClockDrift, WallClockJump];
}

/// When, at the latest, the store begins to join that is to come.
const JOINS_WITHIN_US: u64 = 20_000_000;
/// Cores of a store at most.
pub(super) const CORES_MAX: u64 = 3;
/// How long a fault lasts.
const LASTS_US: std::ops::Range<u64> = 200_000..4_000_000;
/// How long the world rests at most before the next: each seed has a pace of its own.
pub(super) const RESTS_MAX_US: std::ops::Range<u64> = 500_000..4_000_000;
/// A pause is longer than any lease.
const PAUSE_US: std::ops::Range<u64> = 700_000..4_000_000;
/// Operations of a disk within which a power cut comes that waits for one.
pub(super) const CUT_WITHIN_IOS: u64 = 200;
/// How long such a cut is waited for.
const CUT_WAIT: Duration = Duration::from_secs(3);
/// What a clock may be off by, so that two differ by less than leases allow for.
const DRIFT_PPM_MAX: u64 = 40_000;
const JUMP_SECONDS_MAX: u64 = 100_000;
const USUAL_DISK: std::ops::Range<Duration> = Duration::from_micros(20)..Duration::from_micros(200);
const USUAL_NETWORK: std::ops::Range<Duration> = Duration::from_micros(50)..Duration::from_micros(500);

/// How often each fault has come, by its place in [`Fault::ALL`], and how often a store has met it.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) came: [Cell<u64>; Fault::ALL.len()],
    pub(super) met: [Cell<u64>; Fault::ALL.len()],
}

impl Counts {
    fn add(&self, fault: Fault) {
        let count = &self.came[fault as usize];
        count.set(count.get() + 1);
    }

    /// A store has met a fault that it might have missed.
    pub(super) fn meet(&self, fault: Fault) {
        let count = &self.met[fault as usize];
        count.set(count.get() + 1);
    }

    /// How many kinds have come.
    pub(super) fn kinds(&self) -> usize {
        self.came.iter().filter(|count| count.get() > 0).count()
    }
}

/// A source of trouble.
pub(super) struct Trouble<'a> {
    pub(super) cluster: &'a Cluster<'a>,
    pub(super) clients: &'a Host,
    pub(super) counts: &'a Counts,
    pub(super) ends: &'a Cell<bool>,
    pub(super) random: Random,
    /// How long the world rests at most between two.
    pub(super) rests_max_us: u64,
    /// What there is of it; none is none at all.
    pub(super) faults: &'static [Fault],
}

fn between(random: &mut Random, range: &std::ops::Range<u64>) -> Duration {
    Duration::from_micros(range.start + random.below(range.end - range.start))
}

impl Trouble<'_> {
    /// Troubles stores until it is told to end; then all are up.
    pub(super) async fn of_stores(mut self) {
        while self.rests().await {
            let fault = self.next();
            self.trouble_store(fault).await;
        }
    }

    /// Troubles links until it is told to end; then all are whole.
    pub(super) async fn of_links(mut self) {
        while self.rests().await {
            let fault = self.next();
            self.trouble_links(fault).await;
        }
    }

    /// Troubles disks and clocks until it is told to end; then they are as ever.
    pub(super) async fn of_machines(mut self) {
        while self.rests().await {
            let fault = self.next();
            self.trouble_machine(fault).await;
        }
    }

    /// Lets the store that is to come join, in the midst of everything, if there is one.
    pub(super) async fn joins(mut self) {
        let place = self.cluster.present();
        if place < self.cluster.stores.len() {
            pinion_runtime::sleep(Duration::from_micros(self.random.below(JOINS_WITHIN_US))).await;
            let cores = self.any_cores();
            self.cluster.join(place, cores).await;
        }
    }

    /// Whether there is to be more.
    async fn rests(&mut self) -> bool {
        pinion_runtime::sleep(Duration::from_micros(self.random.below(self.rests_max_us))).await;
        !self.ends.get() && !self.faults.is_empty()
    }

    fn next(&mut self) -> Fault {
        let fault = self.faults[self.random.index(self.faults.len())];
        self.counts.add(fault);
        log::debug!("-- {fault:?}");
        fault
    }

    pub(super) async fn lasts(&mut self) {
        pinion_runtime::sleep(between(&mut self.random, &LASTS_US)).await;
    }

    fn any_store(&mut self) -> usize {
        self.random.index(self.cluster.present())
    }

    fn any_cores(&mut self) -> u16 {
        u16::try_from(1 + self.random.below(CORES_MAX)).expect("a store has few cores")
    }

    async fn trouble_store(&mut self, fault: Fault) {
        let (place, cluster) = (self.any_store(), self.cluster);
        let store = &cluster.stores[place];
        match fault {
            PowerCutAtIo => {
                store.host.crash_at_io(store.host.io_count() + 1 + self.random.below(CUT_WITHIN_IOS));
                self.wait_for_cut(place).await;
            }
            PowerCutInRecovery => {
                cluster.cut_power(place);
                self.lasts().await;
                store.host.crash_at_io(store.host.io_count() + 1 + self.random.below(CUT_WITHIN_IOS));
                cluster.restart(place, store.cores.get()).await;
                self.wait_for_cut(place).await;
            }
            PowerCutOfAll => {
                let present = cluster.present();
                (0..present).for_each(|place| cluster.cut_power(place));
                self.lasts().await;
                let restarts = cluster.stores[..present].iter().enumerate();
                let restarts = restarts.map(|(place, store)| cluster.restart(place, store.cores.get()));
                futures_util::future::join_all(restarts).await;
                return;
            }
            Kill => {
                cluster.end_life(place);
                store.host.kill();
            }
            Stop => cluster.stop(place).await,
            Pause => {
                store.host.pause();
                pinion_runtime::sleep(between(&mut self.random, &PAUSE_US)).await;
                store.host.resume();
                return;
            }
            DiskFails => return self.fail_disk(place).await,
            DiskFull => return self.fill_disk(place).await,
            BitFlip => return self.flip_bit(place).await,
            _ => cluster.cut_power(place),
        }
        self.lasts().await;
        let mut cores = store.cores.get();
        while fault == OtherCores && cores == store.cores.get() {
            cores = self.any_cores();
        }
        cluster.restart(place, cores).await;
    }

    /// Waits for a power cut that was planned, and makes it when it does not come.
    async fn wait_for_cut(&mut self, place: usize) {
        let host = &self.cluster.stores[place].host;
        let begun = pinion_runtime::now();
        while host.is_up() && begun.elapsed() < CUT_WAIT {
            pinion_runtime::sleep(Duration::from_micros(100)).await;
        }
        self.cluster.end_life(place);
        if host.is_up() {
            host.crash();
        }
        host.clear_disk_faults();
    }

    /// Two hosts: mostly two stores, sometimes a store and the clients.
    fn any_link(&mut self) -> (Host, Host) {
        let first = self.any_store();
        let mut second = first;
        while second == first {
            second = self.random.index(self.cluster.stores.len() + 1);
        }
        let host =
            |place: usize| self.cluster.stores.get(place).map_or(self.clients, |store| &store.host).clone();
        match self.random.below(2) {
            0 => (host(first), host(second)),
            _ => (host(second), host(first)),
        }
    }

    async fn trouble_links(&mut self, fault: Fault) {
        let simulation = self.cluster.simulation;
        let (from, to) = self.any_link();
        match fault {
            OneWayCut => simulation.block(&from, &to),
            TwoWayCut => simulation.partition(&from, &to),
            Partition => self.part(),
            HalfOpen => return simulation.half_open_connections(&from, &to),
            Silence => return simulation.silence_connections(&from, &to),
            Reset => return simulation.cut_connections(&from, &to),
            _ => {
                let delay = Duration::from_millis(1 + self.random.below(300));
                simulation.set_network_delay(&from, &to, delay / 4..delay);
                self.lasts().await;
                return simulation.set_network_delay(&from, &to, USUAL_NETWORK);
            }
        }
        self.lasts().await;
        simulation.heal_all();
    }

    /// Parts the stores, and the clients with one side or with both.
    fn part(&mut self) {
        let sides: Vec<bool> = self.cluster.stores.iter().map(|_| self.random.below(2) == 0).collect();
        let clients = self.random.below(3);
        for (place, store) in self.cluster.stores.iter().enumerate() {
            for (other, there) in self.cluster.stores.iter().enumerate() {
                if sides[place] != sides[other] {
                    self.cluster.simulation.block(&store.host, &there.host);
                }
            }
            if clients == u64::from(sides[place]) {
                self.cluster.simulation.partition(&store.host, self.clients);
            }
        }
    }

    async fn trouble_machine(&mut self, fault: Fault) {
        let place = self.any_store();
        let host = &self.cluster.stores[place].host;
        match fault {
            SlowDisk => {
                let latency = Duration::from_millis(1 + self.random.below(60));
                host.set_io_latency(latency / 4..latency);
                self.lasts().await;
                host.set_io_latency(USUAL_DISK);
            }
            ClockDrift => {
                let ppm = i64::try_from(self.random.below(2 * DRIFT_PPM_MAX)).expect("a drift is small");
                host.set_clock_drift(ppm - i64::try_from(DRIFT_PPM_MAX).expect("a drift is small"));
            }
            _ => {
                let by = Duration::from_secs(self.random.below(JUMP_SECONDS_MAX));
                match self.random.below(2) {
                    0 => host.put_wall_clock_forward(by),
                    _ => host.put_wall_clock_back(by),
                }
            }
        }
    }
}
