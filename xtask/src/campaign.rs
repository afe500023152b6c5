//! `cargo xtask campaign`: builds the server and tests/campaign, installs what the latter needs, and runs it.

use crate::{setup, shell, workspace};
use anyhow::{Result, ensure};
use clap::Args;
use std::process::Command;

/// How long, how much, how bad.
#[derive(Args)]
pub(crate) struct CampaignArguments {
    /// How long stores are troubled
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Operations a second, of all clients together; 600 leaves most of two processors to others
    #[arg(long, default_value_t = 600)]
    rate: u64,
    /// How many clients there are, each with one call at a time
    #[arg(long, default_value_t = 16)]
    clients: u32,
    /// Seconds that a trouble lasts at most; a quarter of that at least. 3 brings all kinds within a minute, 8 outlasts every timeout
    #[arg(long, default_value_t = 8)]
    trouble_max: u64,
    /// Chooses keys, values, and the troubles
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(arguments: &CampaignArguments) -> Result<()> {
    ensure!(setup::is_root()?, "network namespaces and nftables need root: run this task as root");
    setup::debian(&["iproute2", "nftables"])?;
    let server = workspace::build_release("pinion", "pinion", &[])?;
    let campaign = workspace::build_release("pinion-campaign", "pinion-campaign", &[])?;
    let mut command = Command::new(campaign);
    command.arg("--server").arg(server);
    command.args(["--seconds", &arguments.seconds.to_string()]);
    command.args(["--rate", &arguments.rate.to_string()]);
    command.args(["--clients", &arguments.clients.to_string()]);
    command.args(["--trouble-max", &arguments.trouble_max.to_string()]);
    if let Some(seed) = arguments.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    shell::run(&mut command)
}
