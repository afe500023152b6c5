//! Connections: two ends, and a flow of packets from each to the other.

use super::super::trace::{Kind, digest};
use super::super::world::{Event, Here, World};
use super::{Link, State};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

pub(super) struct Connection {
    /// The end that connected, and the one that accepted.
    pub(super) ends: [End; 2],
    /// Whether nothing that is sent on it arrives any more.
    is_silent: bool,
}

/// One end, with the packets that it has sent.
#[expect(
    clippy::struct_excessive_bools,
    reason = "TCP's states are more than its two ends know of each other"
)]
pub(super) struct End {
    pub(super) host: usize,
    life: u64,
    pub(super) peer: SocketAddr,
    /// Whether there is a socket, or one waiting to be accepted.
    open: bool,
    /// Whether its operating system knows the connection.
    known: bool,
    /// Bytes that arrived and were not read.
    inbox: VecDeque<u8>,
    /// Whether the other end has closed.
    finished: bool,
    error: Option<io::ErrorKind>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    outbox: VecDeque<Sent>,
    outbox_bytes: usize,
    /// Whether the first packet's arrival is scheduled.
    moving: bool,
    last_arrival: u64,
    shut: bool,
}

struct Sent {
    arrives: u64,
    packet: Packet,
}

enum Packet {
    Data(Vec<u8>),
    Finish,
    Reset,
}

impl End {
    pub(super) fn new(host: usize, life: u64, peer: SocketAddr) -> Self {
        Self {
            host,
            life,
            peer,
            open: true,
            known: true,
            inbox: VecDeque::new(),
            finished: false,
            error: None,
            reader: None,
            writer: None,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            moving: false,
            last_arrival: 0,
            shut: false,
        }
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// The connection is broken for this end, which learns it at its next call.
    fn break_off(&mut self, error: io::ErrorKind) {
        self.error = Some(error);
        self.known = false;
        self.inbox.clear();
        self.outbox.clear();
        self.outbox_bytes = 0;
        self.wake();
    }
}

impl Connection {
    pub(super) fn new(ends: [End; 2]) -> Self {
        Self { ends, is_silent: false }
    }

    fn link(&self, from: usize) -> Link {
        (self.ends[from].host, self.ends[1 - from].host)
    }

    /// One end is gone without a word.
    pub(super) fn vanish(&mut self, side: usize) {
        let end = &mut self.ends[side];
        (end.reader, end.writer) = (None, None);
        end.break_off(io::ErrorKind::ConnectionReset);
        end.open = false;
    }

    fn is_over(&self) -> bool {
        self.ends.iter().all(|end| !end.open && (end.outbox.is_empty() || self.is_silent))
    }
}

impl World {
    pub(super) fn forget_if_over(state: &mut State, id: u64) {
        if state.connections.get(&id).is_some_and(Connection::is_over) {
            state.connections.remove(&id);
        }
    }

    /// Sends a packet from an end.
    fn send(&self, state: &mut State, id: u64, from: usize, packet: Packet) {
        let Some(connection) = state.connections.get(&id) else {
            return;
        };
        let travel = self.travel_nanos(state, connection.link(from));
        let end = &mut state.connections.get_mut(&id).expect("it was there").ends[from];
        let arrives = end.last_arrival.max(self.now() + travel);
        end.last_arrival = arrives;
        if let Packet::Data(bytes) = &packet {
            end.outbox_bytes += bytes.len();
        }
        end.outbox.push_back(Sent { arrives, packet });
        if !end.moving {
            end.moving = true;
            self.schedule(arrives, Event::Packet { connection: id, to: 1 - from });
        }
    }

    /// The oldest packet on the way to end `to` arrives, or finds its way blocked.
    pub(in super::super) fn packet_arrives(&self, id: u64, to: usize) {
        let state = &mut *self.network.state.borrow_mut();
        let Some(connection) = state.connections.get(&id) else {
            return;
        };
        let from = 1 - to;
        let passes = !connection.is_silent && self.passes(state, connection.link(from));
        let sender = &mut state.connections.get_mut(&id).expect("it was there").ends[from];
        sender.moving = false;
        if !passes {
            return;
        }
        let Some(sent) = sender.outbox.pop_front() else {
            return;
        };
        if let Some(next) = sender.outbox.front() {
            sender.moving = true;
            self.schedule(next.arrives, Event::Packet { connection: id, to });
        }
        self.deliver(state, id, to, sent.packet);
        Self::forget_if_over(state, id);
    }

    fn deliver(&self, state: &mut State, id: u64, to: usize, packet: Packet) {
        let ends = &mut state.connections.get_mut(&id).expect("a packet's connection is there").ends;
        let (what, len) = match &packet {
            Packet::Data(bytes) => (0, bytes.len()),
            Packet::Finish => (1, 0),
            Packet::Reset => (2, 0),
        };
        self.event(Kind::Packet, [id << 1 | to as u64, what, len as u64]);
        match packet {
            Packet::Data(bytes) => {
                ends[1 - to].outbox_bytes -= bytes.len();
                let end = &mut ends[to];
                if !end.open || !end.known {
                    if let Some(waker) = ends[1 - to].writer.take() {
                        waker.wake();
                    }
                    self.send(state, id, to, Packet::Reset);
                    return;
                }
                end.inbox.extend(bytes);
                if let Some(waker) = end.reader.take() {
                    waker.wake();
                }
            }
            Packet::Finish => {
                ends[to].finished = true;
                if let Some(waker) = ends[to].reader.take() {
                    waker.wake();
                }
            }
            Packet::Reset => {
                // What this end sent meets no one.
                ends[to].break_off(io::ErrorKind::ConnectionReset);
            }
        }
    }

    /// The socket of an end is dropped, or its process killed.
    pub(super) fn close_end(&self, state: &mut State, id: u64, side: usize) {
        let Some(connection) = state.connections.get_mut(&id) else {
            return;
        };
        let end = &mut connection.ends[side];
        if !end.open {
            return;
        }
        self.event(Kind::Close, [id << 1 | side as u64, 0, 0]);
        end.open = false;
        (end.reader, end.writer) = (None, None);
        // Whoever closes with bytes unread says so.
        let goodbye = match (end.error.is_some(), end.inbox.is_empty(), end.shut) {
            (true, _, _) | (false, true, true) => None,
            (false, false, _) => Some(Packet::Reset),
            (false, true, false) => Some(Packet::Finish),
        };
        end.inbox.clear();
        end.shut = true;
        if let Some(packet) = goodbye {
            self.send(state, id, side, packet);
        }
    }

    /// Lets the packets go on that wait on links of which `open` speaks.
    pub(super) fn move_again(&self, open: impl Fn(Link) -> bool) {
        let state = &mut *self.network.state.borrow_mut();
        let ids: Vec<u64> = state.connections.keys().copied().collect();
        for id in ids {
            for from in 0..2 {
                let connection = &state.connections[&id];
                let link = connection.link(from);
                let end = &connection.ends[from];
                if open(link) && !connection.is_silent && !end.moving && !end.outbox.is_empty() {
                    let travel = self.travel_nanos(state, link);
                    state.connections.get_mut(&id).expect("it was there").ends[from].moving = true;
                    self.schedule_after(travel, Event::Packet { connection: id, to: 1 - from });
                }
            }
        }
    }

    /// Breaks the connections between two hosts: for both ends, or for the one on `a` alone.
    pub(in super::super) fn break_connections(&self, a: usize, b: usize, for_both: bool) {
        let state = &mut *self.network.state.borrow_mut();
        self.event(Kind::Fault, [a as u64, b as u64, u64::from(for_both)]);
        for connection in state.connections.values_mut() {
            let hosts = [connection.ends[0].host, connection.ends[1].host];
            if hosts != [a, b] && hosts != [b, a] {
                continue;
            }
            for end in &mut connection.ends {
                if for_both || end.host == a {
                    end.break_off(io::ErrorKind::ConnectionReset);
                }
            }
        }
        state.connections.retain(|_, connection| !connection.is_over());
    }

    /// Lets nothing arrive any more that is sent, or on its way, on the connections that there are between two hosts.
    pub(in super::super) fn silence_connections(&self, a: usize, b: usize) {
        let state = &mut *self.network.state.borrow_mut();
        self.event(Kind::Fault, [a as u64, b as u64, 2]);
        for connection in state.connections.values_mut() {
            let hosts = [connection.ends[0].host, connection.ends[1].host];
            connection.is_silent |= hosts == [a, b] || hosts == [b, a];
        }
        state.connections.retain(|_, connection| !connection.is_over());
    }
}

/// The calls of a socket. `side` is its end of connection `id`.
impl World {
    pub(super) fn receive(
        &self,
        here: &Here,
        (id, side): (u64, usize),
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.network.state.borrow_mut();
        let Some(connection) = state.connections.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let end = &mut connection.ends[side];
        if let Some(error) = end.error_in(here.place.life) {
            return Poll::Ready(Err(error.into()));
        }
        if buf.is_empty() || (end.inbox.is_empty() && end.finished) {
            return Poll::Ready(Ok(0));
        }
        if end.inbox.is_empty() {
            end.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = self.transferred(buf.len().min(end.inbox.len()));
        for (to, byte) in buf.iter_mut().zip(end.inbox.drain(..count)) {
            *to = byte;
        }
        self.event(Kind::Receive, [id << 1 | side as u64, count as u64, 0]);
        if let Some(waker) = connection.ends[1 - side].writer.take() {
            waker.wake();
        }
        Poll::Ready(Ok(count))
    }

    pub(super) fn transmit(
        &self,
        here: &Here,
        (id, side): (u64, usize),
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.network.state.borrow_mut();
        let Some(connection) = state.connections.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let unread = connection.ends[1 - side].inbox.len();
        let end = &mut connection.ends[side];
        if let Some(error) = end.error_in(here.place.life) {
            return Poll::Ready(Err(error.into()));
        }
        if end.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = self.config.socket_buffer_bytes.saturating_sub(end.outbox_bytes + unread);
        if room == 0 {
            end.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let part = &buf[..self.transferred(buf.len().min(room))];
        self.event(Kind::Send, [id << 1 | side as u64, part.len() as u64, digest(part)]);
        self.send(state, id, side, Packet::Data(part.to_vec()));
        Poll::Ready(Ok(part.len()))
    }

    /// Closes one end for writing.
    pub(super) fn shut(&self, here: &Here, id: u64, side: usize) -> io::Result<()> {
        let state = &mut *self.network.state.borrow_mut();
        let connection = state.connections.get_mut(&id).ok_or(io::ErrorKind::NotConnected)?;
        let end = &mut connection.ends[side];
        if let Some(error) = end.error_in(here.place.life) {
            return Err(error.into());
        }
        if !std::mem::replace(&mut end.shut, true) {
            self.send(state, id, side, Packet::Finish);
        }
        Ok(())
    }
}

impl End {
    /// What a call on the end's socket gives, when it can give nothing else.
    fn error_in(&self, life: u64) -> Option<io::ErrorKind> {
        if self.life == life { self.error } else { Some(io::ErrorKind::NotConnected) }
    }
}
