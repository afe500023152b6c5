//! `pinion server`.

use crate::cli::server::ServerArguments;
use std::process::ExitCode;

/// Runs the mode.
pub(crate) fn run(arguments: &ServerArguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not available yet: {arguments:?}")
}
