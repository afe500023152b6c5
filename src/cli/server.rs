//! Options of the modes that have to do with a store on this machine.

use super::raw::{Output, family};
use clap::{Args, Subcommand};
use pinion_types::ColumnFamily;
use std::ffi::OsString;
use std::path::PathBuf;

/// Options of `pinion server`. What is not given comes from the environment, then the file, then the default.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ServerArguments {
    /// Where the store keeps its data.
    #[arg(long, env = "PINION_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where core 0 listens; core N listens N ports further on. Port 0 picks free ports.
    #[arg(long, env = "PINION_LISTEN", value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Under which host other stores and clients reach this store; by default the one of --listen.
    #[arg(long, env = "PINION_ADVERTISE", value_name = "HOST")]
    pub(crate) advertise: Option<String>,
    /// Join the cluster of the store that listens here. Only for a directory that belongs to no cluster yet.
    #[arg(long, env = "PINION_JOIN", value_name = "ADDRESS")]
    pub(crate) join: Option<String>,
    /// How many cores serve.
    #[arg(long, env = "PINION_CORES", value_name = "N")]
    pub(crate) cores: Option<u16>,
    /// Which processors the cores are pinned to: `auto`, `none`, or a list such as `0,2-4`.
    #[arg(long, env = "PINION_CPUS", value_name = "auto|none|LIST")]
    pub(crate) cpus: Option<String>,
    /// How much memory the store may take: 512M, say.
    #[arg(long, env = "PINION_MEMORY", value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// A file with settings.
    #[arg(long, env = "PINION_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How much is logged: error, warn, info, debug or trace.
    #[arg(long, env = "PINION_LOG_LEVEL", value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

/// Options of `pinion demo`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArguments {
    /// How many stores, 1 to 5: the first makes a cluster, and the others join it.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) stores: u16,
    /// How many cores each store has; by default the machine's processors are shared out.
    #[arg(long, env = "PINION_CORES", value_name = "N")]
    pub(crate) cores: Option<u16>,
}

/// Options of `pinion config`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigArguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

/// What `pinion config` can be asked to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Prints all settings, as flags, environment and file make them, with their documentation.
    Print(ServerArguments),
    /// Checks the settings and says what is wrong with them.
    Check(ServerArguments),
}

/// Options of `pinion inspect`.
#[derive(Clone, Debug, Args)]
pub(crate) struct InspectArguments {
    /// The data directory of a stopped store.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Plain, global = true)]
    pub(crate) output: Output,
    /// What to show; without it, an overview.
    #[command(subcommand)]
    pub(crate) command: Option<InspectCommand>,
}

/// What `pinion inspect` can show.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum InspectCommand {
    /// The log's segments and records.
    Log,
    /// The trees' manifests.
    Manifest,
    /// The tables and their properties.
    Tables,
    /// A raw key's versions.
    Key {
        /// The key.
        key: OsString,
        /// The column family: default, lock or write.
        #[arg(long = "cf", default_value = "default", value_parser = family, value_name = "FAMILY")]
        family: ColumnFamily,
        /// The key is written in hexadecimal, and values are printed so.
        #[arg(long)]
        hex: bool,
    },
    /// Checks every checksum.
    Verify,
}
