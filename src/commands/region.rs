//! `pinion region`.

use crate::cli::raw::RegionArguments;
use std::process::ExitCode;

/// Runs the mode.
pub(crate) fn run(arguments: &RegionArguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not available yet: {arguments:?}")
}
