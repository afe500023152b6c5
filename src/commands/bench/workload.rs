//! Which operations a workload consists of: YCSB's core workloads.
//!
//! Sources: Cooper et al., "Benchmarking Cloud Serving Systems with YCSB" (SoCC 2010); Gray et al., "Quickly Generating Billion-Record
//! Synthetic Databases" (SIGMOD 1994) for the zipfian numbers.

use crate::cli::bench::{BenchRaw, Distribution, Workload};

/// Pairs of the longest scan, as in YCSB.
const SCAN_MAX: u64 = 100;
/// The zipfian constant, as in YCSB.
const THETA: f64 = 0.99;
/// Bytes that values are cut from: far more than any compressor looks back over.
const POOL_BYTES: usize = 1 << 20;

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Read(u64),
    Update(u64),
    Insert(u64),
    Scan(u64, usize),
    ReadModifyWrite(u64),
}

/// A source of operations, the same for the same seed.
pub(super) struct Generator {
    workload: Workload,
    distribution: Distribution,
    /// Records that there are, or that were planned to be inserted.
    records: u64,
    /// Records that a load still has to write.
    to_load: u64,
    zipfian: Zipfian,
    random: Random,
    pool: Vec<u8>,
    value_size: usize,
}

impl Generator {
    pub(super) fn new(arguments: &BenchRaw) -> Self {
        let mut random = Random(arguments.seed);
        let value_size = usize::try_from(arguments.value_size).unwrap_or(usize::MAX).min(1 << 30);
        let pool = (0..=(POOL_BYTES + value_size) / 8).flat_map(|_| random.next().to_le_bytes()).collect();
        let loads = arguments.workload == Workload::Load;
        Self {
            workload: arguments.workload,
            distribution: arguments.distribution,
            records: if loads { 0 } else { arguments.records },
            to_load: if loads { arguments.records } else { 0 },
            zipfian: Zipfian::new(if loads { 1 } else { arguments.records }),
            random,
            pool,
            value_size,
        }
    }

    /// The next operation; `None` when a load has no record left.
    pub(super) fn next(&mut self) -> Option<Action> {
        let percent = self.random.below(100);
        Some(match self.workload {
            Workload::A | Workload::F if percent < 50 => Action::Read(self.choose()),
            Workload::B if percent < 95 => Action::Read(self.choose()),
            Workload::A | Workload::B | Workload::Put => Action::Update(self.choose()),
            Workload::C | Workload::Get => Action::Read(self.choose()),
            Workload::D if percent < 95 => Action::Read(self.choose_latest()),
            Workload::E if percent < 95 => {
                let length = 1 + self.random.below(SCAN_MAX);
                Action::Scan(self.choose(), usize::try_from(length).unwrap_or(1))
            }
            Workload::D | Workload::E => Action::Insert(self.insert()),
            Workload::F => Action::ReadModifyWrite(self.choose()),
            Workload::Load => {
                self.to_load = self.to_load.checked_sub(1)?;
                Action::Insert(self.insert())
            }
        })
    }

    /// A value, different each time.
    pub(super) fn value(&mut self) -> &[u8] {
        let start = usize::try_from(self.random.below(POOL_BYTES as u64)).unwrap_or(0);
        &self.pool[start..start + self.value_size]
    }

    fn insert(&mut self) -> u64 {
        self.records += 1;
        self.records - 1
    }

    fn choose(&mut self) -> u64 {
        match self.distribution {
            Distribution::Uniform => self.random.below(self.records),
            // Scattered, so that the most popular records are not neighbours.
            Distribution::Zipfian => mix(self.zipfian.next(&mut self.random)) % self.records,
        }
    }

    /// The newest records most often.
    fn choose_latest(&mut self) -> u64 {
        let age = match self.distribution {
            Distribution::Uniform => self.random.below(self.records),
            Distribution::Zipfian => self.zipfian.next(&mut self.random),
        };
        self.records - 1 - age.min(self.records - 1)
    }
}

/// The key of a record: neighbours in number are nowhere near in order.
pub(super) fn key(record: u64) -> Vec<u8> {
    format!("user{:016x}", mix(record)).into_bytes()
}

/// A one-to-one scattering of 64 bits (the finaliser of splitmix64).
fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// splitmix64 (Steele et al., OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        let number = mix(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        number
    }

    /// A number below `limit`, which is not 0.
    fn below(&mut self, limit: u64) -> u64 {
        u64::try_from((u128::from(self.next()) * u128::from(limit)) >> 64).unwrap_or(0)
    }

    /// A fraction in `[0, 1)`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Numbers from 0, the small ones most often (Gray et al., section 3.2).
struct Zipfian {
    items: f64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

#[expect(clippy::cast_precision_loss, reason = "more than 2^53 records are not benchmarked")]
impl Zipfian {
    fn new(items: u64) -> Self {
        let zeta: f64 = (1..=items).map(|rank| 1.0 / (rank as f64).powf(THETA)).sum();
        let zeta2 = 1.0 + 0.5_f64.powf(THETA);
        let eta = (1.0 - (2.0 / items as f64).powf(1.0 - THETA)) / (1.0 - zeta2 / zeta);
        Self { items: items as f64, zeta, alpha: 1.0 / (1.0 - THETA), eta }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is below the items' number"
    )]
    fn next(&self, random: &mut Random) -> u64 {
        let fraction = random.fraction();
        let scaled = fraction * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(THETA) {
            return 1;
        }
        (self.items * (self.eta * fraction - self.eta + 1.0).powf(self.alpha)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Mode};
    use clap::Parser;

    fn generator(options: &str) -> Generator {
        let line = format!("pinion bench raw {options}");
        let Mode::Bench(arguments) = Cli::parse_from(line.split_whitespace()).mode else { panic!("{line}") };
        let crate::cli::bench::BenchTarget::Raw(arguments) = arguments.target;
        Generator::new(&arguments)
    }

    #[test]
    fn the_same_seed_gives_the_same_operations() {
        let actions = |seed| {
            let mut generator = generator(&format!("--workload a --seed {seed}"));
            (0..1000).map(|_| generator.next()).collect::<Vec<_>>()
        };
        assert_eq!(actions(1), actions(1));
        assert_ne!(actions(1), actions(2));
    }

    #[test]
    fn mixes_have_their_shares() {
        let share = |workload: &str, is: fn(&Action) -> bool| {
            let mut generator = generator(&format!("--workload {workload}"));
            (0..10_000).filter(|_| is(&generator.next().unwrap())).count()
        };
        assert!((4800..5200).contains(&share("a", |action| matches!(action, Action::Read(_)))));
        assert!((9400..9600).contains(&share("b", |action| matches!(action, Action::Read(_)))));
        assert_eq!(share("c", |action| matches!(action, Action::Read(_))), 10_000);
        assert!((400..600).contains(&share("d", |action| matches!(action, Action::Insert(_)))));
        assert!((9400..9600).contains(&share("e", |action| matches!(action, Action::Scan(_, 1..=100)))));
        assert!((4800..5200).contains(&share("f", |action| matches!(action, Action::ReadModifyWrite(_)))));
    }

    #[test]
    fn a_load_writes_every_record_once() {
        let mut generator = generator("--workload load --records 500");
        let mut records = Vec::new();
        while let Some(Action::Insert(record)) = generator.next() {
            records.push(record);
        }
        records.sort_unstable();
        assert_eq!(records, (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn zipfian_prefers_a_few_and_stays_in_range() {
        let mut generator = generator("--workload c --records 1000");
        let mut counts = vec![0_u32; 1000];
        for _ in 0..100_000 {
            let Some(Action::Read(record)) = generator.next() else { panic!("workload c reads") };
            counts[usize::try_from(record).unwrap()] += 1;
        }
        counts.sort_unstable_by(|a, b| b.cmp(a));
        // 1 / zeta(1000, 0.99) is 13 %.
        assert!((12_000..15_000).contains(&counts[0]), "{}", counts[0]);
    }

    #[test]
    fn uniform_prefers_none() {
        let mut generator = generator("--workload c --records 10 --distribution uniform");
        let mut counts = [0_u32; 10];
        for _ in 0..10_000 {
            let Some(Action::Read(record)) = generator.next() else { panic!("workload c reads") };
            counts[usize::try_from(record).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
