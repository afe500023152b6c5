//! The `pinion` binary: one match over what it can be asked to do.

mod cli;
mod commands;
mod config;
mod logging;
mod server;

use clap::Parser;
use cli::{Cli, Mode};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(Cli::parse().mode) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pinion: {error:#}");
            ExitCode::from(cli::exit::ERROR)
        }
    }
}

fn run(mode: Mode) -> anyhow::Result<ExitCode> {
    match mode {
        Mode::Server(arguments) => commands::server::run(&arguments),
        Mode::Demo(arguments) => commands::demo::run(&arguments),
        Mode::Raw(arguments) => commands::raw::run(&arguments),
        Mode::Region(arguments) => commands::region::run(&arguments),
        Mode::Cluster(arguments) => commands::cluster::run(&arguments),
        Mode::Bench(arguments) => commands::bench::run(&arguments),
        Mode::Inspect(arguments) => commands::inspect::run(&arguments),
        Mode::Config(arguments) => commands::config::run(&arguments),
        Mode::Completions(arguments) => Ok(commands::manual::completions(&arguments)),
        Mode::Man(arguments) => commands::manual::run(&arguments),
    }
}
