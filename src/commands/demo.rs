//! `pinion demo`: a store in a temporary directory, to try things on.

use crate::cli::exit;
use crate::cli::server::DemoArguments;
use crate::config::{Config, Cpus};
use crate::{logging, server};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs the mode.
pub(crate) fn run(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    if arguments.stores != 1 {
        eprintln!("pinion: --stores {}: this version runs one store", arguments.stores);
        return Ok(ExitCode::from(exit::USAGE));
    }
    let directory = Temporary::make()?;
    let mut config = Config { data_dir: directory.0.clone(), cpus: Cpus::None, ..Config::default() };
    config.cores = arguments.cores.map_or(config.cores, usize::from);
    if !is_free(config.listen, config.core_count()) {
        config.listen.set_port(0);
    }
    let config = match config.checked() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("pinion: {error:#}");
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    // Before any thread starts: a signal goes to whichever thread has not blocked it.
    let stop = Box::pin(pinion_runtime::signal::stop_requested());
    logging::start(config.log_level);
    server::run(&config, stop, announce)?;
    Ok(ExitCode::SUCCESS)
}

fn announce(ready: &str, addresses: &[SocketAddr]) {
    println!("{ready}");
    println!("try, in another terminal:");
    let Some(address) = addresses.first() else { return };
    for command in commands(&program(), *address) {
        println!("  {command}");
    }
    println!("Ctrl-C stops the store and removes its data");
}

/// Commands to paste.
fn commands(program: &str, address: SocketAddr) -> [String; 6] {
    [
        format!("{program} raw --connect {address} put greeting hello"),
        format!("{program} raw --connect {address} get greeting"),
        format!("{program} raw --connect {address} scan"),
        format!("{program} region --connect {address} split m"),
        format!("{program} region --connect {address} list"),
        format!("{program} bench raw --connect {address}"),
    ]
}

/// How another terminal calls this program: by its path, unless it was found by its name.
fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    if !called.contains('/') {
        return "pinion".to_owned();
    }
    std::env::current_exe().map_or(called, |path| path.display().to_string())
}

/// Whether nobody listens on the ports that the cores would listen on.
#[expect(clippy::disallowed_types, reason = "no core runs yet")]
fn is_free(first: SocketAddr, cores: usize) -> bool {
    (0..cores).all(|core| {
        let port = u16::try_from(core).ok().and_then(|core| first.port().checked_add(core));
        port.is_some_and(|port| std::net::TcpListener::bind(SocketAddr::new(first.ip(), port)).is_ok())
    })
}

/// A directory that is removed when this is dropped.
struct Temporary(PathBuf);

impl Temporary {
    #[expect(clippy::disallowed_methods, reason = "no core runs yet")]
    fn make() -> std::io::Result<Self> {
        let name = format!("pinion-demo-{}-{:x}", std::process::id(), pinion_runtime::random_u64());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    #[expect(clippy::disallowed_methods, reason = "no core runs any more")]
    fn drop(&mut self) {
        let path: &Path = &self.0;
        if let Err(error) = std::fs::remove_dir_all(path) {
            eprintln!("pinion: {} could not be removed: {error}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    #[test]
    fn commands_to_paste_are_commands() {
        let address = SocketAddr::from(([127, 0, 0, 1], 20160));
        for command in commands("pinion", address) {
            let parsed = Cli::try_parse_from(command.split(' '));
            assert!(parsed.is_ok(), "{command}: {:?}", parsed.err());
        }
    }
}
