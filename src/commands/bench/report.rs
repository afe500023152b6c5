//! What a run came to, for people and as JSON.

use crate::cli::bench::BenchRaw;
use crate::cli::raw::Output;
use hdrhistogram::Histogram;
use pinion_client::Error;
use serde_json::{Value, json};
use std::io::Write as _;
use std::time::Duration;

/// Steps that JSON's complete list of percentiles takes for each halving of what is left, as HdrHistogram counts.
const TICKS: u32 = 5;
/// The percentiles that are named.
const NAMED: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// What is told apart in latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Update,
    Insert,
    Scan,
    ReadModifyWrite,
    Batch,
}

impl Kind {
    pub(super) const ALL: [Self; 6] =
        [Self::Read, Self::Update, Self::Insert, Self::Scan, Self::ReadModifyWrite, Self::Batch];

    pub(super) fn index(self) -> usize {
        match self {
            Self::Read => 0,
            Self::Update => 1,
            Self::Insert => 2,
            Self::Scan => 3,
            Self::ReadModifyWrite => 4,
            Self::Batch => 5,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Update => "update",
            Self::Insert => "insert",
            Self::Scan => "scan",
            Self::ReadModifyWrite => "read-modify-write",
            Self::Batch => "batch",
        }
    }
}

/// What a run came to. Latencies are in nanoseconds, by `Kind::index`.
pub(super) struct Outcome {
    pub(super) elapsed: Duration,
    pub(super) operations: u64,
    pub(super) not_found: u64,
    pub(super) busy: u64,
    pub(super) errors: u64,
    pub(super) first_error: Option<Error>,
    pub(super) latencies: Vec<Histogram<u64>>,
}

/// An outcome with what was asked for.
pub(super) struct Report<'a> {
    pub(super) arguments: &'a BenchRaw,
    pub(super) outcome: &'a Outcome,
}

impl Report<'_> {
    pub(super) fn print(&self, output: Output) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        match output {
            Output::Plain => self.write_plain(&mut stdout)?,
            Output::Json => writeln!(stdout, "{}", self.json())?,
        }
        if let Some(error) = &self.outcome.first_error {
            eprintln!("pinion: {} operations failed, the first one with: {error}", self.outcome.errors);
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "for people; counts are far below 2^53")]
    fn rate(&self) -> f64 {
        self.outcome.operations as f64 / self.outcome.elapsed.as_secs_f64()
    }

    fn write_plain(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        let Outcome { elapsed, operations, not_found, busy, errors, .. } = self.outcome;
        let workload = format!("{:?}", self.arguments.workload).to_lowercase();
        let rate = self.rate();
        write!(out, "workload {workload}: {rate:.0} operations/s, {operations} in {elapsed:.2?}; ")?;
        writeln!(out, "{not_found} not found, {busy} times busy, {errors} errors")?;
        write!(out, "{:<18}{:>10}", "latency in us", "calls")?;
        for (name, _) in NAMED {
            write!(out, "{name:>10}")?;
        }
        writeln!(out, "{:>10}", "max")?;
        for (kind, histogram) in self.kinds() {
            write!(out, "{:<18}{:>10}", kind.name(), histogram.len())?;
            for (_, quantile) in NAMED {
                write!(out, "{:>10.1}", micros(histogram.value_at_quantile(quantile)))?;
            }
            writeln!(out, "{:>10.1}", micros(histogram.max()))?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let arguments = self.arguments;
        let latencies: serde_json::Map<_, _> = self
            .kinds()
            .map(|(kind, histogram)| (kind.name().to_owned(), histogram_json(histogram)))
            .collect();
        json!({
            "workload": format!("{:?}", arguments.workload).to_lowercase(),
            "distribution": format!("{:?}", arguments.distribution).to_lowercase(),
            "records": arguments.records,
            "value_size_bytes": arguments.value_size,
            "connections": arguments.connections,
            "depth": arguments.depth,
            "batch": arguments.batch,
            "rate": arguments.rate,
            "seed": arguments.seed,
            "seconds": self.outcome.elapsed.as_secs_f64(),
            "operations": self.outcome.operations,
            "operations_per_second": self.rate(),
            "not_found": self.outcome.not_found,
            "busy": self.outcome.busy,
            "errors": self.outcome.errors,
            "latency_us": latencies,
        })
    }

    fn kinds(&self) -> impl Iterator<Item = (Kind, &Histogram<u64>)> {
        Kind::ALL.into_iter().zip(&self.outcome.latencies).filter(|(_, histogram)| !histogram.is_empty())
    }
}

/// A histogram whole: its named percentiles, and every step of its distribution.
fn histogram_json(histogram: &Histogram<u64>) -> Value {
    let mut object = json!({
        "calls": histogram.len(),
        "mean": histogram.mean() / 1000.0,
        "min": micros(histogram.min()),
        "max": micros(histogram.max()),
    });
    for (name, quantile) in NAMED {
        object[name] = micros(histogram.value_at_quantile(quantile)).into();
    }
    object["percentiles"] = histogram
        .iter_quantiles(TICKS)
        .map(|step| json!([step.quantile_iterated_to() * 100.0, micros(step.value_iterated_to())]))
        .collect();
    object
}

#[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^53 ns")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}
