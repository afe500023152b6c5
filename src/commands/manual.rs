//! `pinion completions` and `pinion man`.

use crate::cli::{Cli, CompletionsArguments, ManArguments};
use anyhow::Context as _;
use clap::CommandFactory;
use std::io::Write as _;
use std::process::ExitCode;

/// Prints a shell's completions.
pub(crate) fn completions(arguments: &CompletionsArguments) -> ExitCode {
    clap_complete::generate(arguments.shell, &mut Cli::command(), "pinion", &mut std::io::stdout());
    ExitCode::SUCCESS
}

/// Prints the manual page, or writes every page to a directory.
pub(crate) fn run(arguments: &ManArguments) -> anyhow::Result<ExitCode> {
    if let Some(directory) = &arguments.directory {
        clap_mangen::generate_to(Cli::command(), directory)
            .with_context(|| format!("cannot write manual pages to {}", directory.display()))?;
    } else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        std::io::stdout().write_all(&page)?;
    }
    Ok(ExitCode::SUCCESS)
}
