//! `pinion config`: what the settings are, and whether they can be used.

use crate::cli::exit;
use crate::cli::server::{ConfigArguments, ConfigCommand};
use crate::config::Config;
use std::process::ExitCode;

/// Runs the mode.
pub(crate) fn run(arguments: &ConfigArguments) -> anyhow::Result<ExitCode> {
    let (arguments, print) = match &arguments.command {
        ConfigCommand::Print(arguments) => (arguments, true),
        ConfigCommand::Check(arguments) => (arguments, false),
    };
    let config = match Config::from_arguments(arguments) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("pinion: {error:#}");
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    if print {
        print!("{}", config.documented()?);
        return Ok(ExitCode::SUCCESS);
    }
    match config.checked() {
        Ok(_) => {
            println!("these settings can be used");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("pinion: {error:#}");
            Ok(ExitCode::from(exit::USAGE))
        }
    }
}
