//! Options of the modes that talk to a running store.

use clap::{Args, Subcommand, ValueEnum};
use pinion_types::ColumnFamily;
use std::time::Duration;

/// How to reach a store.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConnectArguments {
    /// The store's address.
    #[arg(
        long,
        global = true,
        env = "PINION_CONNECT",
        default_value = "127.0.0.1:20160",
        value_name = "ADDRESS"
    )]
    pub(crate) connect: String,
    /// How long to wait for an answer.
    #[arg(long, global = true, env = "PINION_TIMEOUT", default_value = "10s", value_parser = super::duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
    /// How to print.
    #[arg(long, global = true, env = "PINION_OUTPUT", default_value = "plain", value_enum)]
    pub(crate) output: Output,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people and for `cut`: fields separated by a tab.
    Plain,
    /// One JSON object a line.
    Json,
}

/// Options of `pinion raw`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RawArguments {
    /// How to reach the store.
    #[command(flatten)]
    pub(crate) connection: ConnectArguments,
    /// The column family: default, lock or write.
    #[arg(long = "cf", global = true, env = "PINION_CF", default_value = "default", value_parser = family, value_name = "FAMILY")]
    pub(crate) family: ColumnFamily,
    /// Keys and values are written and printed in hexadecimal.
    #[arg(long, global = true, env = "PINION_HEX")]
    pub(crate) hex: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: RawCommand,
}

/// A key or a value as it was written, before `--hex` is known.
pub(crate) type Bytes = std::ffi::OsString;

/// What `pinion raw` can be asked to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RawCommand {
    /// Prints a key's value.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Writes a key.
    Put {
        /// The key.
        key: Bytes,
        /// The value; `-` reads it from standard input.
        value: Bytes,
        /// How long the key lives; for ever without it.
        #[arg(long, value_parser = super::duration, value_name = "TIME")]
        ttl: Option<Duration>,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Prints keys and values of a range.
    Scan {
        /// First key of the range.
        #[arg(long, value_name = "KEY")]
        start: Option<Bytes>,
        /// First key after the range.
        #[arg(long, value_name = "KEY")]
        end: Option<Bytes>,
        /// Pairs at most.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u64,
        /// From the last key backwards.
        #[arg(long)]
        reverse: bool,
        /// Without values.
        #[arg(long)]
        keys_only: bool,
    },
    /// Writes every pair of a file, all together.
    ///
    /// One pair a line: key, tab, value, escaped as `scan` prints them.
    BatchPut {
        /// The file; `-` is standard input.
        file: std::path::PathBuf,
        /// Lets the keys be of several regions; each region's part is then atomic by itself.
        #[arg(long)]
        per_region: bool,
        /// How long the keys live; for ever without it.
        #[arg(long, value_parser = super::duration, value_name = "TIME")]
        ttl: Option<Duration>,
    },
    /// Removes every key of a range.
    DeleteRange {
        /// First key to go; empty is the first of all.
        start: Bytes,
        /// First key to stay; empty is no end.
        end: Bytes,
    },
    /// Writes a key if its value is the expected one, and prints the value that was there.
    Cas {
        /// The key.
        key: Bytes,
        /// The new value; `-` reads it from standard input.
        value: Bytes,
        /// The value that must be there.
        #[arg(long, value_name = "VALUE", required_unless_present = "absent")]
        expect: Option<Bytes>,
        /// The key must not be there.
        #[arg(long, conflicts_with = "expect")]
        absent: bool,
        /// How long the new value lives; for ever without it.
        #[arg(long, value_parser = super::duration, value_name = "TIME")]
        ttl: Option<Duration>,
    },
    /// Prints how many milliseconds a key has still to live; `forever` when it does not expire.
    Ttl {
        /// The key.
        key: Bytes,
    },
}

/// Options of `pinion region`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RegionArguments {
    /// How to reach the store.
    #[command(flatten)]
    pub(crate) connection: ConnectArguments,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: RegionCommand,
}

/// What `pinion region` can be asked to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RegionCommand {
    /// Prints the regions: id, range, epoch, core, size, keys.
    List,
    /// Splits regions at raw keys.
    Split {
        /// Where to split.
        #[arg(required = true)]
        keys: Vec<Bytes>,
        /// The keys are written in hexadecimal.
        #[arg(long)]
        hex: bool,
    },
}

pub(crate) fn family(name: &str) -> Result<ColumnFamily, String> {
    ColumnFamily::from_name(name)
        .ok_or_else(|| format!("no such family: {name:?}; there are default, lock and write"))
}
