//! `cargo xtask campaign`: builds the server and tests/campaign, installs what the latter needs, and runs it.

use crate::{setup, shell, workspace};
use anyhow::{Result, ensure};
use clap::Args;
use std::process::Command;

/// What the program takes.
#[derive(Args)]
pub(crate) struct CampaignArguments {
    /// How long, how much, how bad: options of the program, which `cargo xtask campaign -- --help` explains
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

pub(crate) fn run(arguments: &CampaignArguments) -> Result<()> {
    ensure!(setup::is_root()?, "network namespaces and nftables need root: run this task as root");
    setup::debian(&["iproute2", "nftables"])?;
    let server = workspace::build_release("pinion", "pinion", &[])?;
    let campaign = workspace::build_release("pinion-campaign", "pinion-campaign", &[])?;
    shell::run(Command::new(campaign).arg("--server").arg(server).args(&arguments.options))
}
