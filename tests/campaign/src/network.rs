//! A network of our own: one namespace for each store and one for the clients, which has the bridge that joins them. Nothing of it is seen in
//! the machine's own namespace but the names, which carry the process id of whoever made them.
//!
//! What is cut or lost is dropped by nftables where it arrives, so that the sender learns nothing.

use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// What the names of namespaces begin with. Then come their maker's process id and the time of its start, by which those of a dead run are known.
const NAME: &str = "pinion-stores";
/// The first port of every store.
const PORT: u16 = 20160;
/// The clients' host; stores are 1, 2, and so on.
pub const CLIENTS: u8 = 0;
/// Networks that this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);
/// Held while a network is made or looked for: ip(8) does not bear two at the same time that make the folder of namespaces.
static MAKING: Mutex<()> = Mutex::new(());

/// The namespaces; they are removed when it is dropped, with every process in them.
pub struct Network {
    stores: u8,
    /// What the names of its namespaces begin with.
    name: String,
}

impl Network {
    /// Makes the namespaces of `stores` stores, and moves this thread into the clients'. Threads and processes that it starts are there, too.
    ///
    /// # Errors
    /// When this process may not make namespaces.
    pub fn new(stores: u8) -> Result<Self> {
        let making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        remove_leftovers()?;
        let (pid, number) = (std::process::id(), MADE.fetch_add(1, Relaxed));
        let began = began(pid).context("this process has an entry in /proc")?;
        let network = Self { stores, name: format!("{NAME}-{pid}-{began}-{number}") };
        let make = |host| {
            run(Command::new("ip").args(["netns", "add", &network.space(host)]), "").context(
                "stores are parted in network namespaces, and this process may not make them: run it as root, outside of a container that \
                 forbids it",
            )
        };
        (CLIENTS..=stores).try_for_each(make)?;
        drop(making);
        network.ip(CLIENTS, "link add bridge type bridge")?;
        network.ip(CLIENTS, &format!("address add {}/24 dev bridge", address(CLIENTS)))?;
        network.ip(CLIENTS, "link set bridge up")?;
        network.ip(CLIENTS, "link set lo up")?;
        for store in 1..=stores {
            let space = network.space(store);
            network
                .ip(CLIENTS, &format!("link add store{store} type veth peer name bridge netns {space}"))?;
            network.ip(CLIENTS, &format!("link set store{store} master bridge up"))?;
            network.ip(store, &format!("address add {}/24 dev bridge", address(store)))?;
            network.ip(store, "link set bridge up")?;
            network.ip(store, "link set lo up")?;
        }
        let clients = File::open(format!("/run/netns/{}", network.space(CLIENTS)))?;
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(clients.as_fd(), Some(kind))
            .context("this thread cannot enter the clients' namespace")?;
        network.heal().context("nftables does not work here")?;
        Ok(network)
    }

    /// The namespace of a host.
    pub fn space(&self, host: u8) -> String {
        assert!(host <= self.stores, "there is no host {host}");
        format!("{}-{host}", self.name)
    }

    /// Drops from now on what goes from the first to the second of these hosts, and nothing else.
    pub fn cut(&self, cuts: &[(u8, u8)]) -> Result<()> {
        for host in CLIENTS..=self.stores {
            let mut drops = String::new();
            for (from, _) in cuts.iter().filter(|(_, to)| *to == host) {
                let _ = writeln!(drops, "ip saddr {} drop", address(*from));
            }
            let rules = format!(
                "table inet cuts\ndelete table inet cuts\ntable inet cuts {{\nchain input {{\n\
                 type filter hook input priority 0; policy accept;\n{drops}}}\n}}\n"
            );
            run(&mut within(&self.space(host), "nft", &["-f", "-"]), &rules)?;
        }
        Ok(())
    }

    /// Cuts nothing any more.
    pub fn heal(&self) -> Result<()> {
        self.cut(&[])
    }

    /// Parts these stores from the others; the clients reach all.
    pub fn part(&self, side: impl Fn(u8) -> bool) -> Result<()> {
        let pairs = (1..=self.stores).flat_map(|from| (1..=self.stores).map(move |to| (from, to)));
        self.cut(&pairs.filter(|(from, to)| side(*from) != side(*to)).collect::<Vec<_>>())
    }

    /// Loses from now on so many of a hundred packets that arrive at a store, whoever sends them, as chance has it.
    pub fn lose(&self, percent: u8) -> Result<()> {
        for store in 1..=self.stores {
            let rules = format!(
                "table inet loss\ndelete table inet loss\ntable inet loss {{\ncounter lost {{\npackets 0 bytes 0\n}}\nchain input {{\n\
                 type filter hook input priority 0; policy accept;\n\
                 iifname \"bridge\" numgen random mod 100 < {percent} counter name lost drop\n}}\n}}\n"
            );
            run(&mut within(&self.space(store), "nft", &["-f", "-"]), &rules)?;
        }
        Ok(())
    }

    /// Loses nothing any more; how many packets were lost.
    pub fn stop_losing(&self) -> Result<u64> {
        let mut lost = 0;
        for store in 1..=self.stores {
            let space = self.space(store);
            let listed = within(&space, "nft", &["list", "counter", "inet", "loss", "lost"]).output()?;
            let said = String::from_utf8_lossy(&listed.stdout);
            let mut words = said.split_whitespace().skip_while(|word| *word != "packets").skip(1);
            let count: u64 = words.next().context("nftables counts packets")?.parse()?;
            lost += count;
            run(&mut within(&space, "nft", &["delete", "table", "inet", "loss"]), "")?;
        }
        Ok(lost)
    }

    fn ip(&self, host: u8, arguments: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-netns", &self.space(host)]).args(arguments.split(' '));
        run(&mut command, "")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in CLIENTS..=self.stores {
            let space = self.space(host);
            // It may not have come to all of them.
            if !std::path::Path::new("/run/netns").join(&space).exists() {
                continue;
            }
            if let Err(error) = remove(&space) {
                eprintln!("{space} is left over: {error:#}");
            }
        }
    }
}

/// The address of a host.
pub(crate) fn address(host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, host + 1))
}

/// Where a store's first core listens.
pub fn listener(store: u8) -> SocketAddr {
    SocketAddr::new(address(store), PORT)
}

/// A command that runs in a namespace, as the process that is started: no shell, no parent in between.
pub(crate) fn within(space: &str, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", space, program]).args(arguments);
    command
}

/// When a process began, in ticks since the machine did; `None` when there is no such process.
fn began(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, a name in parentheses, may have any character in it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Who made a namespace of this name, and when that process began.
fn maker(space: &str) -> Option<(u32, u64)> {
    let (pid, rest) = space.strip_prefix(NAME)?.strip_prefix('-')?.split_once('-')?;
    Some((pid.parse().ok()?, rest.split_once('-')?.0.parse().ok()?))
}

/// Removes namespaces whose maker has died without doing so.
fn remove_leftovers() -> Result<()> {
    let listed = Command::new("ip").args(["netns", "list"]).output().context("ip(8) cannot be run")?;
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let space = line.split(' ').next().unwrap_or_default();
        let Some((maker, then)) = maker(space) else { continue };
        if began(maker) != Some(then) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_known_by_the_process_that_made_it() {
        let pid = std::process::id();
        let name = format!("{NAME}-{pid}-{}-7", began(pid).unwrap());
        let network = std::mem::ManuallyDrop::new(Network { stores: 3, name });
        assert_eq!(maker(&network.space(2)), Some((pid, began(pid).unwrap())));
        assert_eq!(maker("pinion-campaign-1-2"), None);
        assert_eq!(maker("default"), None);
    }
}
