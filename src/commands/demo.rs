//! `pinion demo`: a store in a temporary directory, or a cluster of several in one process, to try things on.

use crate::cli::exit;
use crate::cli::server::DemoArguments;
use crate::config::size::Size;
use crate::config::{Config, Cpus, MEMORY_PER_CORE_MIN, processors};
use crate::{logging, server};
use anyhow::Context as _;
use futures_util::FutureExt as _;
use futures_util::future::{Shared, select};
use pinion_runtime::mailbox::oneshot;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Stores of a demo at most.
const STORES_MAX: u16 = 5;

/// How often it is looked whether a store has ended by itself.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What all stores of the process wait for.
type Stop = Shared<Pin<Box<dyn Future<Output = &'static str> + Send>>>;

/// Runs the mode.
pub(crate) fn run(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    if !(1..=STORES_MAX).contains(&arguments.stores) {
        eprintln!("pinion: --stores {}: a demo has 1 to {STORES_MAX} stores", arguments.stores);
        return Ok(ExitCode::from(exit::USAGE));
    }
    if let Err(error) = config(arguments, 0, Path::new("."), None).checked() {
        eprintln!("pinion: {error:#}");
        return Ok(ExitCode::from(exit::USAGE));
    }
    // Before any thread starts: a signal goes to whichever thread has not blocked it.
    let signal = pinion_runtime::signal::stop_requested();
    logging::start(Config::default().log_level);
    let (cancel, cancelled) = oneshot::channel::<()>();
    let cancelled = cancelled.map(|_| "another store of the demo has ended");
    let stop = select(Box::pin(signal), Box::pin(cancelled)).map(|first| first.factor_first().0);
    let stop = stop.boxed().shared();

    let (mut stores, mut addresses) = (Vec::new(), Vec::new());
    for number in 0..arguments.stores {
        let store = Store::start(arguments, number, addresses.first().copied(), stop.clone())?;
        // A store that ends instead was stopped, or says at its end what is wrong.
        let ready = store.ready.recv();
        stores.push(store);
        match ready {
            Ok(address) => addresses.push(address),
            Err(mpsc::RecvError) => break,
        }
    }
    if addresses.len() == stores.len() {
        announce(&addresses);
        // The first that ends for a reason of its own ends the others.
        while !stores.iter().any(|store| store.thread.is_finished()) && stop.peek().is_none() {
            std::thread::park_timeout(LOOK_EVERY);
        }
    }
    drop(cancel);
    let ended: Vec<_> = stores.into_iter().map(Store::end).collect();
    ended.into_iter().collect::<anyhow::Result<()>>()?;
    Ok(ExitCode::SUCCESS)
}

/// The settings of a store: its part of the machine, and ports that no other store of the demo has.
fn config(arguments: &DemoArguments, number: u16, directory: &Path, join: Option<SocketAddr>) -> Config {
    let stores = usize::from(arguments.stores);
    let mut config = Config { data_dir: directory.to_owned(), cpus: Cpus::None, join, ..Config::default() };
    config.cores = arguments.cores.map_or((processors() / stores).max(1), usize::from);
    let least = Size(MEMORY_PER_CORE_MIN.0.saturating_mul(config.core_count() as u64));
    config.memory = Size(config.memory.0 / u64::from(arguments.stores)).max(least);
    let first = usize::from(number) * config.core_count() + usize::from(config.listen.port());
    config.listen.set_port(u16::try_from(first).unwrap_or(0));
    if !is_free(config.listen, config.core_count()) {
        config.listen.set_port(0);
    }
    config
}

/// A store of the demo, on a thread of its own.
struct Store {
    thread: JoinHandle<anyhow::Result<()>>,
    /// Where it listens, once it is ready.
    ready: mpsc::Receiver<SocketAddr>,
    directory: Temporary,
}

impl Store {
    fn start(
        arguments: &DemoArguments,
        number: u16,
        join: Option<SocketAddr>,
        stop: Stop,
    ) -> anyhow::Result<Self> {
        let directory = Temporary::make()?;
        let config = config(arguments, number, &directory.0, join);
        let (tell, ready) = mpsc::channel();
        let announce: server::Announce = Box::new(move |ready, addresses| {
            println!("{ready}");
            // Whoever started the demo waits for this.
            let _ = addresses.first().map(|address| tell.send(*address));
        });
        let thread = std::thread::Builder::new()
            .name(format!("store-{}", number + 1))
            .spawn(move || server::run(&config, Box::pin(stop), announce))?;
        Ok(Self { thread, ready, directory })
    }

    /// Waits for the store's end, and removes its directory.
    fn end(self) -> anyhow::Result<()> {
        let ended = self.thread.join();
        drop(self.directory);
        ended.unwrap_or_else(|_| Err(anyhow::anyhow!("a store panicked"))).context("a store of the demo")
    }
}

fn announce(addresses: &[SocketAddr]) {
    println!("try, in another terminal:");
    for command in commands(&program(), addresses) {
        println!("  {command}");
    }
    match addresses {
        [_] => println!("Ctrl-C stops the store and removes its data"),
        _ => println!("Ctrl-C stops the stores and removes their data"),
    }
}

/// Commands to paste.
fn commands(program: &str, addresses: &[SocketAddr]) -> Vec<String> {
    let [first, .., last] = addresses else {
        return addresses.iter().flat_map(|address| commands_of_one(program, *address)).collect();
    };
    vec![
        format!("{program} raw --connect {first} put greeting hello"),
        format!("{program} raw --connect {last} get greeting"),
        format!("{program} cluster --connect {last} status"),
        format!("{program} cluster --connect {first} stores"),
        format!("{program} cluster --connect {first} split m"),
        format!("{program} cluster --connect {last} regions"),
        format!("{program} bench raw --connect {first}"),
    ]
}

fn commands_of_one(program: &str, address: SocketAddr) -> [String; 6] {
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
        let addresses = [20160, 20161].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        for addresses in [&addresses[..1], &addresses] {
            for command in commands("pinion", addresses) {
                let parsed = Cli::try_parse_from(command.split(' '));
                assert!(parsed.is_ok(), "{command}: {:?}", parsed.err());
            }
        }
    }
}
