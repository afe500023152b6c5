//! Keys, values and the clock of the engine's benchmarks.

use criterion::measurement::{Measurement, ValueFormatter, WallTime};

pub(crate) fn key(number: u64) -> [u8; 18] {
    let mut key = *b"\0rk000000000000000";
    let mut rest = number;
    for digit in key[3..].iter_mut().rev() {
        *digit = b"0123456789"[usize::try_from(rest % 10).unwrap()];
        rest /= 10;
    }
    key
}

/// Numbers without order, the same in every run.
pub(crate) fn scattered(number: u64) -> u64 {
    let mixed = (number ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11
}

/// 100 bytes, half of them random.
pub(crate) fn value(number: u64) -> [u8; 100] {
    let mut value = [0; 100];
    for (index, word) in value[..48].as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *word = scattered(number * 8 + index as u64).to_le_bytes();
    }
    value
}

/// Processor time of this thread, in nanoseconds.
pub(crate) struct ProcessorTime;

impl Measurement for ProcessorTime {
    type Intermediate = u64;
    type Value = u64;

    #[expect(clippy::disallowed_methods, reason = "it measures the real machine")]
    fn start(&self) -> u64 {
        // The kernel brings the figure up to date when the thread offers its processor.
        std::thread::yield_now();
        let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        schedstat.split(' ').next().unwrap().parse().unwrap()
    }

    fn end(&self, start: u64) -> u64 {
        self.start() - start
    }

    fn add(&self, one: &u64, other: &u64) -> u64 {
        one + other
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        f64::from(u32::try_from(value / 1000).unwrap()) * 1000.0
            + f64::from(u32::try_from(value % 1000).unwrap())
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}
