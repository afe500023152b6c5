//! Latencies, and what the process used meanwhile.

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Latencies over this are counted as this.
const LATENCY_NS_MAX: u64 = 120_000_000_000;

/// One client's record of a phase.
pub(crate) struct Record {
    pub(crate) latency_ns: Histogram<u64>,
    /// Operations that were completed in each whole second since the phase began.
    per_second: Vec<u64>,
    pub(crate) found: u64,
}

impl Record {
    pub(crate) fn new() -> Self {
        let latency_ns = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("these bounds are valid");
        Self { latency_ns, per_second: Vec::new(), found: 0 }
    }

    pub(crate) fn add(&mut self, since_begin: Duration, took: Duration) {
        self.latency_ns.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1));
        let second = usize::try_from(since_begin.as_secs()).expect("a phase takes minutes");
        if self.per_second.len() <= second {
            self.per_second.resize(second + 1, 0);
        }
        self.per_second[second] += 1;
    }

    pub(crate) fn merge(records: impl IntoIterator<Item = Self>) -> Result<Self> {
        let mut all = Self::new();
        for record in records {
            all.latency_ns.add(&record.latency_ns)?;
            all.found += record.found;
            if all.per_second.len() < record.per_second.len() {
                all.per_second.resize(record.per_second.len(), 0);
            }
            for (sum, count) in all.per_second.iter_mut().zip(record.per_second) {
                *sum += count;
            }
        }
        Ok(all)
    }

    pub(crate) fn operations(&self) -> u64 {
        self.latency_ns.len()
    }

    pub(crate) fn json(&self, seconds: f64) -> Value {
        let us = |quantile: f64| round(self.latency_ns.value_at_quantile(quantile) as f64 / 1e3, 2);
        // The last second is not whole.
        let whole = &self.per_second[..self.per_second.len().saturating_sub(1)];
        json!({
            "operations": self.operations(),
            "operations_per_second": (self.operations() as f64 / seconds).round(),
            "latency_us_p50": us(0.5), "latency_us_p99": us(0.99), "latency_us_p999": us(0.999),
            "latency_us_max": round(self.latency_ns.max() as f64 / 1e3, 1),
            "slowest_second": whole.iter().min(), "found": self.found,
        })
    }
}

pub(crate) fn round(x: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (x * scale).round() / scale
}

/// The process's counters at one moment.
pub(crate) struct Usage {
    at: Instant,
    cpu_seconds: f64,
    written_bytes: u64,
    busy_seconds: f64,
}

impl Usage {
    fn now() -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            cpu_seconds: cpu_seconds(),
            written_bytes: field("/proc/self/io", "write_bytes:")?,
            busy_seconds: busy_seconds()?,
        })
    }

    /// Also forgets the peak of resident memory, so that a phase reports its own.
    pub(crate) fn begin() -> Result<Self> {
        std::fs::write("/proc/self/clear_refs", "5")?;
        Self::now()
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.at.elapsed().as_secs_f64()
    }

    /// What was used since, all threads and background work included.
    pub(crate) fn json(&self, operations: u64) -> Result<Value> {
        let now = Self::now()?;
        let cpu = now.cpu_seconds - self.cpu_seconds;
        let seconds = (now.at - self.at).as_secs_f64();
        let others = (now.busy_seconds - self.busy_seconds - cpu).max(0.0) / seconds.max(1e-9);
        Ok(json!({
            "seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3), "others_cores": round(others, 2),
            "cpu_us_per_operation": round(cpu * 1e6 / operations.max(1) as f64, 3),
            "peak_rss_mib": field("/proc/self/status", "VmHWM:")? / 1024,
        }))
    }

    pub(crate) fn written_since(&self) -> Result<u64> {
        Ok(Self::now()?.written_bytes - self.written_bytes)
    }
}

/// User and system time of the whole process.
fn cpu_seconds() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage writes a whole rusage, for which all zeros are valid too, to the address it is given.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Seconds that all processors together were not idle, whoever used them: against [`cpu_seconds`] it shows the noise.
fn busy_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|number| number.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    Ok([0, 1, 2, 5, 6, 7].iter().filter_map(|&index| ticks.get(index)).sum::<f64>() / 100.0)
}

/// A number in a file of `NAME VALUE` lines.
fn field(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .with_context(|| format!("{path}: no {name}"))?;
    Ok(value.split_whitespace().next().unwrap_or_default().parse()?)
}

/// Bytes that the files under `path` take on disk.
pub(crate) fn disk_bytes(path: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        // An engine may remove a file between the listing and the look at it.
        let Ok(metadata) = entry.metadata() else { continue };
        sum += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(sum)
}
