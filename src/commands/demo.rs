//! `pinion demo`.

use crate::cli::server::DemoArguments;
use std::process::ExitCode;

/// Runs the mode.
pub(crate) fn run(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not available yet: {arguments:?}")
}
