//! A store's life: every core starts, core 0 says that the store is ready, a signal stops them.

use super::{data_dir, plan};
use crate::config::Config;
use anyhow::{Context, Result, anyhow};
use futures_util::future::{Either, select};
use pinion_capnp::server::{Services, serve};
use pinion_runtime::mailbox::{self, Receiver, Sender};
use pinion_runtime::net::TcpListener;
use pinion_runtime::{machine, spawn};
use pinion_shard::{CorePort, Founding, Shard, StoreAdmin, ports};
use pinion_types::CoreId;
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Connections of one core; more are closed at once.
const CONNECTIONS_MAX: usize = 10_000;
/// How long a listener rests after a connection could not be accepted.
const ACCEPT_REST: Duration = Duration::from_millis(20);
/// How long a start waits for its port. The kernel takes the rings of a killed process apart after the process is gone, some milliseconds later on a
/// quiet machine, and until then its listener is there.
const LISTEN_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often it tries.
const LISTEN_REST: Duration = Duration::from_millis(10);

/// What is printed when the store serves: a function of the ready line and the addresses.
pub(crate) type Announce = Box<dyn FnOnce(&str, &[SocketAddr]) + Send>;

/// Resolves when the process is asked to stop.
pub(crate) type StopSignal = Pin<Box<dyn Future<Output = &'static str> + Send>>;

/// What the cores tell each other about the process.
enum Control {
    /// To core 0: this core listens, or why not.
    Listening(CoreId, Result<SocketAddr, String>),
    /// From core 0: every core listens, here.
    Addresses(Vec<SocketAddr>),
    /// To core 0: what this core alone keeps is served, or why not.
    Started(CoreId, Result<(), String>),
    /// From core 0: every core has started; take connections.
    Serve,
    /// From core 0: stop.
    Stop,
}

/// What a core gets when it starts.
struct CoreKit {
    port: CorePort,
    control: (Sender<Control>, Receiver<Control>),
    /// Core 0's: it says when the store is ready, and stops the others.
    first: Option<(StopSignal, Announce)>,
}

/// Runs the store until it is told to stop. Settings are checked already.
pub(crate) fn run(config: &Config, stop: StopSignal, announce: Announce) -> Result<()> {
    let machine_config = plan::machine(config);
    machine::check_config(&machine_config)?;
    let directory = config.data_dir.clone();
    let lock = machine::block_on(async move { data_dir::open(&directory).await })??;
    if !config.listen.ip().is_loopback() {
        log::warn!(
            "listening on {}: there is no authentication, so whoever reaches this address reads and writes all the data",
            config.listen
        );
    }
    let cores = config.core_count();
    let mut first = Some((stop, announce));
    let kits = ports(cores).into_iter().zip(mailbox::mesh(cores, 2 * cores + 2));
    let kits: Vec<_> =
        kits.map(|(port, control)| Some(CoreKit { port, control, first: first.take() })).collect();
    #[expect(clippy::disallowed_types, reason = "each core takes its kit once, before it does anything else")]
    let kits = Arc::new(std::sync::Mutex::new(kits));
    let config = config.clone();
    let ended = machine::run(&machine_config, move |core| {
        let kit =
            kits.lock().ok().and_then(|mut kits| kits.get_mut(usize::from(core.0)).and_then(Option::take));
        async move {
            let kit = kit.ok_or_else(|| anyhow!("core {core} has no kit"))?;
            run_core(config, core, kit).await
        }
    })?;
    drop(lock);
    // The first core's own error says more than those of the cores that stopped because of it.
    ended.into_iter().collect()
}

/// One core's life.
async fn run_core(config: Config, core: CoreId, kit: CoreKit) -> Result<()> {
    match kit.first {
        Some((stop, announce)) => run_first_core(config, kit.port, kit.control, stop, announce).await,
        None => run_other_core(config, core, kit.port, kit.control).await,
    }
}

/// Core 0 says when the store is ready, and tells the others when to stop.
async fn run_first_core(
    config: Config,
    port: CorePort,
    (sender, receiver): (Sender<Control>, Receiver<Control>),
    stop: StopSignal,
    announce: Announce,
) -> Result<()> {
    let ended = {
        let ready = std::pin::pin!(start_store(&config, port, &sender, receiver, announce));
        match select(ready, stop).await {
            Either::Left((Ok(shard), stop)) => {
                // Outside of the macro, which evaluates nothing for a level that is not logged.
                let signal = stop.await;
                log::info!("stopping: {signal}");
                // All at once: one that is still taking calls would send them to one that does not any more.
                tell_to_stop(&sender);
                shard.stop().await.map_err(Into::into)
            }
            Either::Left((Err(error), _)) => Err(error),
            Either::Right((signal, _)) => {
                log::info!("stopping before the store was ready: {signal}");
                Ok(())
            }
        }
    };
    tell_to_stop(&sender);
    ended
}

/// Tells the other cores to stop; those that do already do not mind.
fn tell_to_stop(sender: &Sender<Control>) {
    for core in others(sender) {
        let _ = sender.try_send(core, Control::Stop);
    }
}

/// Starts core 0, waits for the other cores, and lets the store be used.
async fn start_store(
    config: &Config,
    port: CorePort,
    sender: &Sender<Control>,
    mut receiver: Receiver<Control>,
    announce: Announce,
) -> Result<Shard> {
    let listener = listen(config.listen, CoreId(0)).await?;
    let mut addresses = vec![listener.local_addr(); sender.cores()];
    for _ in others(sender) {
        if let Control::Listening(core, listens) = receiver.recv().await {
            addresses[usize::from(core.0)] = listens.map_err(|error| anyhow!("core {core}: {error}"))?;
        }
    }
    for core in others(sender) {
        let _ = sender.try_send(core, Control::Addresses(addresses.clone()));
    }
    let shard = start_core(config, CoreId(0), port, &addresses).await?;
    for _ in others(sender) {
        if let Control::Started(core, Err(error)) = receiver.recv().await {
            return Err(anyhow!("core {core}: {error}"));
        }
    }
    shard.check_is_the_only_one(&advertised(config, &addresses)).await?;
    for core in others(sender) {
        let _ = sender.try_send(core, Control::Serve);
    }
    accept(config, &shard, listener, &addresses);
    announce(&ready_line(&shard, &addresses), &addresses);
    Ok(shard)
}

async fn run_other_core(
    config: Config,
    core: CoreId,
    port: CorePort,
    (sender, mut receiver): (Sender<Control>, Receiver<Control>),
) -> Result<()> {
    let listener = match listen(config.listen, core).await {
        Ok(listener) => listener,
        Err(error) => {
            let _ = sender.try_send(CoreId(0), Control::Listening(core, Err(format!("{error:#}"))));
            return Ok(());
        }
    };
    let _ = sender.try_send(CoreId(0), Control::Listening(core, Ok(listener.local_addr())));
    let Control::Addresses(addresses) = receiver.recv().await else { return Ok(()) };
    let started = {
        let start = std::pin::pin!(start_core(&config, core, port, &addresses));
        // Another core may fail to start, and this one would wait for it for ever.
        let told = std::pin::pin!(receiver.recv());
        match select(start, told).await {
            Either::Left((started, _)) => started,
            Either::Right(_) => return Ok(()),
        }
    };
    let report = match &started {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error:#}")),
    };
    let _ = sender.try_send(CoreId(0), Control::Started(core, report));
    let Ok(shard) = started else { return Ok(()) };
    if matches!(receiver.recv().await, Control::Serve) {
        accept(&config, &shard, listener, &addresses);
        while !matches!(receiver.recv().await, Control::Stop) {}
    }
    Ok(shard.stop().await?)
}

fn others(sender: &Sender<Control>) -> impl Iterator<Item = CoreId> + use<> {
    (1..sender.cores()).map(|core| CoreId(u16::try_from(core).unwrap_or(u16::MAX)))
}

async fn start_core(
    config: &Config,
    core: CoreId,
    port: CorePort,
    addresses: &[SocketAddr],
) -> Result<Shard> {
    let addresses = advertised(config, addresses);
    let founding = match config.join {
        Some(member) => Founding::Join { member, addresses },
        None => Founding::New,
    };
    Ok(Shard::start(plan::engine(config, core), plan::shard(config), port, &founding).await?)
}

/// The addresses under which other stores and clients reach the cores.
fn advertised(config: &Config, addresses: &[SocketAddr]) -> Vec<String> {
    let host = config.advertise;
    addresses
        .iter()
        .map(|address| SocketAddr::new(host.unwrap_or(address.ip()), address.port()).to_string())
        .collect()
}

/// The listener of a core: n ports above core 0's, or any free port when that is 0.
async fn listen(first: SocketAddr, core: CoreId) -> Result<TcpListener> {
    let mut address = first;
    if first.port() != 0 {
        let port = first.port().checked_add(core.0);
        address.set_port(port.with_context(|| format!("core {core} would listen above port 65535"))?);
    }
    let begun = pinion_runtime::now();
    let bound = loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < LISTEN_WAIT_MAX => {
                pinion_runtime::sleep(LISTEN_REST).await;
            }
            bound => break bound,
        }
    };
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "core {core} cannot listen on {address}: another process does already; stop it, or choose another --listen"
        ),
        _ => anyhow!("core {core} cannot listen on {address}: {error}"),
    })
}

fn ready_line(shard: &Shard, addresses: &[SocketAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    format!("ready store={} listen={}", shard.store(), addresses.join(","))
}

/// Takes connections until the core takes no more calls: what is sent on one that is made later would meet the end of the process.
fn accept(config: &Config, shard: &Shard, listener: TcpListener, addresses: &[SocketAddr]) {
    let addresses: Rc<[String]> = advertised(config, addresses).into();
    shard.set_addresses(&addresses);
    let admin = StoreAdmin::new(shard.clone(), env!("CARGO_PKG_VERSION"), addresses);
    let services = Rc::new(Services { raw: shard.clone(), admin, link: shard.clone() });
    let limits = Rc::new(plan::connection(config));
    let connections = Rc::new(Cell::new(0usize));
    spawn(shard.clone().steward());
    let shard = shard.clone();
    spawn(async move {
        let mut draining = Box::pin(shard.until_draining());
        loop {
            let accepted = {
                let accept = std::pin::pin!(listener.accept());
                match select(accept, &mut draining).await {
                    Either::Left((accepted, _)) => accepted,
                    Either::Right(_) => return,
                }
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    log::warn!("a connection could not be accepted: {error}");
                    pinion_runtime::sleep(ACCEPT_REST).await;
                    continue;
                }
            };
            if connections.get() >= CONNECTIONS_MAX {
                log::warn!("a connection was closed: there are {CONNECTIONS_MAX} already");
                continue;
            }
            connections.set(connections.get() + 1);
            let (services, limits, connections) = (services.clone(), limits.clone(), connections.clone());
            spawn(async move {
                if let Err(error) = serve(stream, services, limits).await {
                    log::debug!("a connection ended: {error}");
                }
                connections.set(connections.get() - 1);
            });
        }
    });
}
