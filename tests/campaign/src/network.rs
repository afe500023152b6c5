//! A network of our own: one namespace for each store and one for the clients, which has the bridge that joins them. Nothing of it is seen in
//! the machine's own namespace but the names, which carry the process id of whoever made them.
//!
//! What is cut is dropped by nftables where it arrives, so that the sender learns nothing.

use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

/// What the names of namespaces begin with. It is also the name of this program, by which those of a dead run are known.
const NAME: &str = "pinion-campaign";
/// The first port of every store.
const PORT: u16 = 20160;
/// The clients' host; stores are 1, 2, and so on.
pub(crate) const CLIENTS: u8 = 0;

/// The namespaces; they are removed when it is dropped, with every process in them.
pub(crate) struct Network {
    stores: u8,
}

impl Network {
    /// Makes the namespaces of `stores` stores, and moves this thread into the clients'. Threads and processes that it starts are there, too.
    ///
    /// # Errors
    /// When this process may not make namespaces.
    pub(crate) fn new(stores: u8) -> Result<Self> {
        remove_leftovers()?;
        let network = Self { stores };
        let make = |host| {
            run(Command::new("ip").args(["netns", "add", &name(host)]), "").context(
                "a campaign makes network namespaces, and this process may not: run it as root, outside of a container that forbids it",
            )
        };
        (CLIENTS..=stores).try_for_each(make)?;
        network.ip(CLIENTS, "link add bridge type bridge")?;
        network.ip(CLIENTS, &format!("address add {}/24 dev bridge", address(CLIENTS)))?;
        network.ip(CLIENTS, "link set bridge up")?;
        network.ip(CLIENTS, "link set lo up")?;
        for store in 1..=stores {
            let space = name(store);
            network
                .ip(CLIENTS, &format!("link add store{store} type veth peer name bridge netns {space}"))?;
            network.ip(CLIENTS, &format!("link set store{store} master bridge up"))?;
            network.ip(store, &format!("address add {}/24 dev bridge", address(store)))?;
            network.ip(store, "link set bridge up")?;
            network.ip(store, "link set lo up")?;
        }
        let clients = File::open(format!("/run/netns/{}", name(CLIENTS)))?;
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(clients.as_fd(), Some(kind))
            .context("this thread cannot enter the clients' namespace")?;
        network.heal().context("nftables does not work here")?;
        Ok(network)
    }

    /// Drops from now on what goes from the first to the second of these hosts, and nothing else.
    pub(crate) fn cut(&self, cuts: &[(u8, u8)]) -> Result<()> {
        for host in CLIENTS..=self.stores {
            let mut drops = String::new();
            for (from, _) in cuts.iter().filter(|(_, to)| *to == host) {
                let _ = writeln!(drops, "ip saddr {} drop", address(*from));
            }
            let rules = format!(
                "table inet cuts\ndelete table inet cuts\ntable inet cuts {{\nchain input {{\n\
                 type filter hook input priority 0; policy accept;\n{drops}}}\n}}\n"
            );
            run(&mut within(host, "nft", &["-f", "-"]), &rules)?;
        }
        Ok(())
    }

    /// Drops nothing any more.
    pub(crate) fn heal(&self) -> Result<()> {
        self.cut(&[])
    }

    fn ip(&self, host: u8, arguments: &str) -> Result<()> {
        assert!(host <= self.stores, "there is no host {host}");
        let mut command = Command::new("ip");
        command.args(["-netns", &name(host)]).args(arguments.split(' '));
        run(&mut command, "")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in CLIENTS..=self.stores {
            if let Err(error) = remove(&name(host)) {
                eprintln!("{} is left over: {error:#}", name(host));
            }
        }
    }
}

/// The address of a host.
pub(crate) fn address(host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, host + 1))
}

/// Where a store's first core listens.
pub(crate) fn listener(store: u8) -> SocketAddr {
    SocketAddr::new(address(store), PORT)
}

/// A command that runs on a host, as the process that is started: no shell, no parent in between.
pub(crate) fn within(host: u8, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &name(host), program]).args(arguments);
    command
}

fn name(host: u8) -> String {
    format!("{NAME}-{}-{host}", std::process::id())
}

/// Removes namespaces whose maker has died without doing so.
fn remove_leftovers() -> Result<()> {
    let listed = Command::new("ip").args(["netns", "list"]).output().context("ip(8) cannot be run")?;
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let space = line.split(' ').next().unwrap_or_default();
        let maker = space.strip_prefix(NAME).and_then(|rest| rest.split('-').nth(1));
        let Some(maker) = maker.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        let lives = std::fs::read_to_string(format!("/proc/{maker}/comm"))
            .is_ok_and(|program| program.trim() == NAME);
        if !lives {
            eprintln!("{space} is left over from a run that died: it is removed");
            remove(space)?;
        }
    }
    Ok(())
}

/// Kills what runs in a namespace, and removes it.
fn remove(space: &str) -> Result<()> {
    let pids = Command::new("ip").args(["netns", "pids", space]).output()?;
    for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
        // This program itself is in the clients' namespace.
        if pid != std::process::id().to_string() {
            // It may have ended meanwhile.
            let _ = run(Command::new("kill").args(["-KILL", pid]), "");
        }
    }
    run(Command::new("ip").args(["netns", "delete", space]), "")
}

/// Runs a command with this on its standard input; what it says belongs to the error.
fn run(command: &mut Command, input: &str) -> Result<()> {
    use std::io::Write as _;
    let shown = format!("{command:?}").replace('"', "");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| shown.clone())?;
    child.stdin.take().context("its input was asked for")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{shown}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
