//! Measures a running store.

use crate::cli::bench::BenchArguments;
use std::process::ExitCode;

/// Runs the mode.
pub(crate) fn run(arguments: &BenchArguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not available yet: {arguments:?}")
}
