//! `pinion raw`.

use crate::cli::raw::RawArguments;
use std::process::ExitCode;

/// Runs the mode.
pub(crate) fn run(arguments: &RawArguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not available yet: {arguments:?}")
}
