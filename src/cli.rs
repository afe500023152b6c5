//! The command line: what can be asked for, and how. Every option has an environment variable.

pub(crate) mod bench;
pub(crate) mod cluster;
pub(crate) mod raw;
pub(crate) mod server;
mod units;

pub(crate) use units::{duration, size};

use bench::BenchArguments;
use clap::{Parser, Subcommand};
use cluster::ClusterArguments;
use raw::{RawArguments, RegionArguments};
use server::{ConfigArguments, DemoArguments, InspectArguments, ServerArguments};
use std::path::PathBuf;

/// What a process of `pinion` answers to its caller.
pub(crate) mod exit {
    /// Not found, or not swapped.
    pub(crate) const NOT_FOUND: u8 = 1;
    /// Wrong usage.
    pub(crate) const USAGE: u8 = 2;
    /// An error from the server, or of this process.
    pub(crate) const ERROR: u8 = 3;
}

/// A thread-per-core, distributed, transactional key-value store.
#[derive(Debug, Parser)]
#[command(name = "pinion", version, about, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) mode: Mode,
}

/// What `pinion` can be asked to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Mode {
    /// Serves a store until SIGTERM or SIGINT.
    Server(ServerArguments),
    /// Serves a throw-away store, or a cluster of several, in temporary directories.
    Demo(DemoArguments),
    /// Reads and writes raw keys.
    ///
    /// Exit status: 0 done, 1 not found or not swapped, 2 wrong usage, 3 an error from the server.
    Raw(RawArguments),
    /// Shows and splits the regions.
    Region(RegionArguments),
    /// Shows a cluster's stores and regions, and changes who keeps and who leads them.
    ///
    /// Exit status: 0 done, 2 wrong usage, 3 an error from the cluster.
    Cluster(ClusterArguments),
    /// Measures a running store or cluster.
    Bench(BenchArguments),
    /// Looks into the data directory of a stopped store.
    Inspect(InspectArguments),
    /// Shows and checks settings.
    Config(ConfigArguments),
    /// Prints a shell's completions.
    Completions(CompletionsArguments),
    /// Prints the manual page, or writes all of them to a directory.
    Man(ManArguments),
}

/// Options of `pinion completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArguments {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

/// Options of `pinion man`.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArguments {
    /// Writes `pinion.1`, `pinion-server.1`, … to this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_after_the_command() {
        for line in
            ["pinion raw --connect 127.0.0.1:1 --hex get 6b", "pinion raw get --hex 6b --connect 127.0.0.1:1"]
        {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            let Mode::Raw(arguments) = cli.mode else { panic!("{line}") };
            assert!(arguments.hex && arguments.connection.connect == "127.0.0.1:1");
        }
    }
    #[test]
    fn commands_in_the_documents_are_commands() {
        let documents = [
            include_str!("../README.md"),
            include_str!("../docs/operations.md"),
            include_str!("../docs/performance.md"),
        ];
        let mut commands = 0;
        for line in documents.iter().flat_map(|document| document.lines()) {
            let command = line.split(" #").next().unwrap_or_default().trim_end_matches([' ', '&']);
            if command.starts_with("pinion ") {
                let parsed = Cli::try_parse_from(command.split_whitespace());
                assert!(parsed.is_ok(), "{command}: {:?}", parsed.err());
                commands += 1;
            }
        }
        assert!(commands > 8, "{commands} commands were found");
    }
}
