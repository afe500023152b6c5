//! `cargo xtask torture`: builds the server and tests/torture, installs what the latter needs, and runs it.

use crate::{setup, shell, workspace};
use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is done to the server, and how often.
#[derive(Args)]
pub(crate) struct TortureArguments {
    #[command(subcommand)]
    torture: Torture,
}

#[derive(Subcommand)]
enum Torture {
    /// Kill -9 at random moments, a fifth of them during start-up
    Kill {
        /// Kills of a server that serves
        #[arg(long, default_value_t = 100)]
        rounds: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Shut the filesystem down, and cut the power of a block device of our own, under a running server
    Power {
        /// Forced shutdowns of XFS
        #[arg(long, default_value_t = 50)]
        shutdowns: u64,
        /// Cuts of the block device's power
        #[arg(long, default_value_t = 50)]
        cuts: u64,
        /// Leave O_DSYNC out, and demand that the cuts find it
        #[arg(long)]
        plant_no_dsync: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args)]
struct Common {
    /// Acknowledged writes before each kill, at least
    #[arg(long, default_value_t = 1000)]
    writes: u64,
    /// Chooses keys, values, and the moments of the kills
    #[arg(long)]
    seed: Option<u64>,
    /// Passed on to pinion server
    #[arg(last = true)]
    server_arguments: Vec<String>,
}

pub(crate) fn run(arguments: &TortureArguments) -> Result<()> {
    let torture = workspace::build_release("pinion-torture", "pinion-torture", &[])?;
    match &arguments.torture {
        Torture::Kill { rounds, common } => {
            let server = workspace::build_release("pinion", "pinion", &[])?;
            let mut command = Command::new(&torture);
            command.args(["kill", "--rounds", &rounds.to_string()]);
            shell::run(with_common(&mut command, common, &server))
        }
        Torture::Power { shutdowns, cuts, plant_no_dsync, common } => {
            ensure!(setup::is_root()?, "loop devices and mounts need root: run this task as root");
            setup::debian(&["xfsprogs", "e2fsprogs", "fuse3", "libnbd-bin", "nbdkit", "nbdkit-plugin-dev"])?;
            let plugin = device_plugin()?;
            if *plant_no_dsync {
                return planted(&torture, &plugin, *cuts, common);
            }
            let server = workspace::build_release("pinion", "pinion", &[])?;
            let mut command = Command::new(&torture);
            command.args(["device-check", "--plugin"]).arg(&plugin);
            shell::run(&mut command)?;
            if *shutdowns > 0 {
                let mut command = Command::new(&torture);
                command.args(["shutdown", "--rounds", &shutdowns.to_string()]);
                shell::run(with_common(&mut command, common, &server))?;
            }
            if *cuts > 0 {
                let mut command = Command::new(&torture);
                command.args(["cut", "--rounds", &cuts.to_string(), "--plugin"]).arg(&plugin);
                shell::run(with_common(&mut command, common, &server))?;
            }
            Ok(())
        }
    }
}

/// Runs the cuts against a server that does not sync its log. Success is their failure.
fn planted(torture: &Path, plugin: &Path, cuts: u64, common: &Common) -> Result<()> {
    let server = workspace::build_release("pinion", "pinion", &["planted"])?;
    let mut command = Command::new(torture);
    command.args(["cut", "--expect-loss", "--rounds", &cuts.to_string(), "--plugin"]).arg(plugin);
    shell::run(with_common(&mut command, common, &server).env("PINION_PLANT_NO_DSYNC", "1"))
}

fn with_common<'a>(command: &'a mut Command, common: &Common, server: &Path) -> &'a mut Command {
    command.arg("--writes").arg(common.writes.to_string()).arg("--server").arg(server);
    if let Some(seed) = common.seed {
        command.arg("--seed").arg(seed.to_string());
    }
    if !common.server_arguments.is_empty() {
        command.arg("--").args(&common.server_arguments);
    }
    command
}

/// Compiles the plugin that makes nbdkit a block device that loses power.
fn device_plugin() -> Result<PathBuf> {
    let source = workspace::root().join("tests/torture/device/powercut.c");
    let plugin = workspace::target().join("powercut.so");
    let mut gcc = shell::command(
        "gcc",
        ["-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-fPIC", "-shared"],
    );
    shell::run(gcc.arg("-o").arg(&plugin).arg(source))?;
    Ok(plugin)
}
