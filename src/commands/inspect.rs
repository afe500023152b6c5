//! `pinion inspect`.

use crate::cli::server::InspectArguments;
use std::process::ExitCode;

/// Runs the mode.
pub(crate) fn run(arguments: &InspectArguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not available yet: {arguments:?}")
}
