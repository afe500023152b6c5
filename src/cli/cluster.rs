//! Options of `pinion cluster`.

use super::raw::Bytes;
use clap::{Args, Subcommand, ValueEnum};
use std::time::Duration;

/// Options of `pinion cluster`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArguments {
    /// The address of any store of the cluster.
    #[arg(
        long,
        global = true,
        env = "PINION_CONNECT",
        default_value = "127.0.0.1:20160",
        value_name = "ADDRESS"
    )]
    pub(crate) connect: String,
    /// How long to wait for an answer. Changes of peers are waited for until the data is there.
    #[arg(long, global = true, env = "PINION_TIMEOUT", default_value = "10s", value_parser = super::duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
    /// How to print.
    #[arg(long, global = true, env = "PINION_OUTPUT", default_value = "table", value_enum)]
    pub(crate) output: ClusterOutput,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ClusterCommand,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClusterOutput {
    /// For people: columns.
    #[value(alias = "plain")]
    Table,
    /// One JSON object a line.
    Json,
}

/// What `pinion cluster` can be asked to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Says what is well and what is not: stores that are down, regions without a leader, regions with fewer voters than `replicas` asks for.
    Status,
    /// Prints the stores: id, whether it can be reached, regions, regions that it leads, cores, addresses.
    Stores,
    /// Prints the regions: id, range, epoch, leader, peers, size, keys.
    Regions,
    /// Prints the region that a raw key is in.
    Region {
        /// The key.
        key: Bytes,
        /// The key is written in hexadecimal.
        #[arg(long)]
        hex: bool,
    },
    /// Makes the region's peer on a store its leader.
    TransferLeader {
        /// The region's id.
        region: u64,
        /// The store's id.
        store: u64,
    },
    /// Gives a region a voter on a store, and waits until it has the data.
    AddPeer {
        /// The region's id.
        region: u64,
        /// The store's id.
        store: u64,
    },
    /// Takes a region's peer off a store, its data with it. Where there are stores enough, the region gets another one.
    RemovePeer {
        /// The region's id.
        region: u64,
        /// The store's id.
        store: u64,
    },
    /// Moves a region's peer from one store to another, without a moment with fewer voters.
    MovePeer {
        /// The region's id.
        region: u64,
        /// The store that the peer is on.
        from: u64,
        /// The store that it is to be on.
        to: u64,
    },
    /// Splits regions at raw keys, and prints the regions made and changed.
    Split {
        /// Where to split.
        #[arg(required = true)]
        keys: Vec<Bytes>,
        /// The keys are written in hexadecimal.
        #[arg(long)]
        hex: bool,
    },
}
