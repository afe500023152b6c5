//! The network between hosts: TCP as programs see it, and what goes wrong with it.
//!
//! A connection is two flows of packets. A packet travels for a seeded time and arrives in its order. A link that is blocked loses nothing:
//! packets wait, as TCP would send them again, until it is open. A host without power answers nothing; one that is up answers for
//! connections that it does not know with a reset.

mod attempt;
mod connection;
mod socket;

use super::host::Power;
use super::random::Random;
use super::world::World;
use attempt::Attempt;
use connection::Connection;
pub(crate) use socket::{TcpListener, TcpStream};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::task::Waker;
use std::time::Duration;

/// Connections that wait to be accepted at most.
const BACKLOG_MAX: usize = 1024;
/// Ports for whoever asks for any.
const FREE_PORTS: Range<u16> = 49152..65535;

/// Where a packet goes: from one host to another.
type Link = (usize, usize);

pub(super) struct Network {
    chance: Random,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    listeners: BTreeMap<(usize, u16), Listening>,
    attempts: BTreeMap<u64, Attempt>,
    connections: BTreeMap<u64, Connection>,
    /// Links on which nothing passes.
    blocked: BTreeSet<Link>,
    delays: BTreeMap<Link, Range<Duration>>,
    last_id: u64,
    last_port: u16,
}

/// A listening socket, as its host's operating system sees it.
struct Listening {
    id: u64,
    address: SocketAddr,
    backlog: VecDeque<u64>,
    acceptors: Vec<Waker>,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self { chance: Random::new(seed, 4), state: RefCell::default() }
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// A port that no listener of the host has.
    fn free_port(&mut self, host: usize) -> io::Result<u16> {
        for _ in FREE_PORTS {
            self.last_port += 1;
            if !FREE_PORTS.contains(&self.last_port) {
                self.last_port = FREE_PORTS.start;
            }
            if !self.listeners.contains_key(&(host, self.last_port)) {
                return Ok(self.last_port);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

impl World {
    /// The host that `ip` means on `from`.
    fn host_of(&self, from: usize, ip: IpAddr) -> Option<usize> {
        if ip.is_loopback() || ip.is_unspecified() {
            return Some(from);
        }
        self.hosts().iter().find(|node| node.ip() == ip).map(|node| node.id)
    }

    fn own_ip(&self, host: usize, peer: IpAddr) -> IpAddr {
        if peer.is_loopback() || peer.is_unspecified() {
            return IpAddr::V4(Ipv4Addr::LOCALHOST);
        }
        self.host(host).ip()
    }

    /// How long the next packet of a link travels.
    fn travel_nanos(&self, state: &State, link: Link) -> u64 {
        let usual = if link.0 == link.1 { &self.config.loopback_delay } else { &self.config.network_delay };
        self.network.chance.nanos(state.delays.get(&link).unwrap_or(usual))
    }

    /// Whether a packet of the link gets to a machine that answers it.
    fn passes(&self, state: &State, link: Link) -> bool {
        !state.blocked.contains(&link) && self.host(link.1).power() != Power::Off
    }

    /// A transfer of up to `most` bytes: often all of them.
    fn transferred(&self, most: usize) -> usize {
        let short = most > 1 && self.network.chance.percent(self.config.short_transfer_percent);
        if short { 1 + self.network.chance.index(most) } else { most }
    }

    /// The host went down: without power silently, else with its operating system's good-bye.
    pub(super) fn host_stops(&self, host: usize, silently: bool) {
        let state = &mut *self.network.state.borrow_mut();
        let listeners: Vec<_> =
            state.listeners.range((host, 0)..=(host, u16::MAX)).map(|(key, _)| *key).collect();
        for key in listeners {
            state.listeners.remove(&key);
        }
        state.attempts.retain(|_, attempt| attempt.link.0 != host);
        let ids: Vec<u64> = state.connections.keys().copied().collect();
        for id in ids {
            for side in 0..2 {
                if state.connections[&id].ends[side].host == host {
                    if silently {
                        state.connections.get_mut(&id).expect("its id was found").vanish(side);
                    } else {
                        self.close_end(state, id, side);
                    }
                }
            }
            Self::forget_if_over(state, id);
        }
    }

    /// The host is up again: it answers what was sent to its former life.
    pub(super) fn host_starts(&self, host: usize) {
        self.move_again(|link| link.1 == host);
    }

    /// Whether the link passes packets from now on.
    pub(super) fn set_blocked(&self, link: Link, blocked: bool) {
        {
            let mut state = self.network.state.borrow_mut();
            if blocked {
                state.blocked.insert(link);
                return;
            }
            state.blocked.remove(&link);
        }
        self.move_again(|other| other == link);
    }

    pub(super) fn unblock_all(&self) {
        self.network.state.borrow_mut().blocked.clear();
        self.move_again(|_| true);
    }

    pub(super) fn set_delay(&self, link: Link, delay: Range<Duration>) {
        self.network.state.borrow_mut().delays.insert(link, delay);
    }
}
