//! `pinion config`.

use crate::cli::server::ConfigArguments;
use std::process::ExitCode;

/// Runs the mode.
pub(crate) fn run(arguments: &ConfigArguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not available yet: {arguments:?}")
}
