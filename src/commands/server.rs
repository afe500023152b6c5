//! `pinion server`.

use crate::cli::exit;
use crate::cli::server::ServerArguments;
use crate::config::Config;
use crate::{logging, server};
use std::process::ExitCode;

/// Runs the mode.
pub(crate) fn run(arguments: &ServerArguments) -> anyhow::Result<ExitCode> {
    let config = match Config::from_arguments(arguments).and_then(Config::checked) {
        Ok(config) if !config.data_dir.as_os_str().is_empty() => config,
        Ok(_) => {
            eprintln!(
                "pinion: a server needs a data directory: --data-dir DIR, PINION_DATA_DIR, or data_dir in the file"
            );
            return Ok(ExitCode::from(exit::USAGE));
        }
        Err(error) => {
            eprintln!("pinion: {error:#}");
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    // Before any thread starts: a signal goes to whichever thread has not blocked it.
    let stop = Box::pin(pinion_runtime::signal::stop_requested());
    logging::start(config.log_level);
    server::run(&config, stop, Box::new(|ready, _| println!("{ready}")))?;
    Ok(ExitCode::SUCCESS)
}
