//! Connection attempts on their way.

use super::super::host::Power;
use super::super::random::nanos;
use super::super::trace::Kind;
use super::super::world::{Event, Here, World};
use super::connection::{Connection, End};
use super::{BACKLOG_MAX, Link, State};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// After this long an attempt that got no answer is made again.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Attempt {
    pub(super) link: Link,
    life: u64,
    local: SocketAddr,
    remote: SocketAddr,
    result: Option<io::Result<u64>>,
    waker: Option<Waker>,
}

impl Attempt {
    fn finish(&mut self, result: io::Result<u64>) {
        self.result = Some(result);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl World {
    /// Sends an attempt on its way.
    fn attempt(&self, here: &Here, remote: SocketAddr) -> io::Result<u64> {
        let from = here.place.host;
        let to = self.host_of(from, remote.ip()).ok_or(io::ErrorKind::HostUnreachable)?;
        let state = &mut *self.network.state.borrow_mut();
        let local = SocketAddr::new(self.own_ip(from, remote.ip()), state.free_port(from)?);
        let id = state.next_id();
        let link = (from, to);
        let attempt = Attempt { link, life: here.place.life, local, remote, result: None, waker: None };
        state.attempts.insert(id, attempt);
        let there_and_back = self.travel_nanos(state, link) + self.travel_nanos(state, (to, from));
        self.event(Kind::Connect, [id, from as u64, to as u64]);
        self.schedule_after(there_and_back, Event::Connect { attempt: id });
        self.schedule_after(nanos(self.config.connect_timeout), Event::ConnectTimeout { attempt: id });
        Ok(id)
    }

    pub(in super::super) fn attempt_arrives(&self, id: u64) {
        let state = &mut *self.network.state.borrow_mut();
        let Some(attempt) = state.attempts.get(&id).filter(|attempt| attempt.result.is_none()) else {
            return;
        };
        let (from, to) = attempt.link;
        if !self.passes(state, (from, to)) || !self.passes(state, (to, from)) {
            self.schedule_after(nanos(RETRY), Event::Connect { attempt: id });
            return;
        }
        let result = self.answer(state, id);
        let connected = result.as_ref().copied().unwrap_or_default();
        self.event(Kind::Connect, [id, u64::from(result.is_ok()), connected]);
        if let Some(attempt) = state.attempts.get_mut(&id) {
            attempt.finish(result);
        }
    }

    pub(in super::super) fn attempt_times_out(&self, id: u64) {
        let mut state = self.network.state.borrow_mut();
        if let Some(attempt) = state.attempts.get_mut(&id).filter(|attempt| attempt.result.is_none()) {
            attempt.finish(Err(io::ErrorKind::TimedOut.into()));
        }
    }

    /// The host's operating system takes the connection, or refuses it.
    fn answer(&self, state: &mut State, id: u64) -> io::Result<u64> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let attempt = &state.attempts[&id];
        let ((from, to), life) = (attempt.link, attempt.life);
        let (local, remote) = (attempt.local, attempt.remote);
        let node = self.host(to);
        if node.power() != Power::Up || node.refuses_connections.get() {
            return Err(refused());
        }
        let connection = state.next_id();
        let listening = state.listeners.get_mut(&(to, remote.port())).ok_or_else(refused)?;
        let heard = listening.address.ip().is_unspecified()
            || listening.address.ip() == remote.ip()
            || (listening.address.ip().is_loopback() && remote.ip().is_loopback());
        if !heard || listening.backlog.len() >= BACKLOG_MAX {
            return Err(refused());
        }
        listening.backlog.push_back(connection);
        listening.acceptors.drain(..).for_each(Waker::wake);
        let ends = [End::new(from, life, remote), End::new(to, node.life(), local)];
        state.connections.insert(connection, Connection::new(ends));
        Ok(connection)
    }
}

/// A connection attempt, to be awaited. Dropping it gives it up.
pub(super) struct Connecting {
    here: Here,
    attempt: u64,
}

impl Connecting {
    pub(super) fn new(here: Here, remote: SocketAddr) -> io::Result<Self> {
        if !here.world.is_alive(here.place) {
            return Err(io::ErrorKind::NetworkDown.into());
        }
        let attempt = here.world.attempt(&here, remote)?;
        Ok(Self { here, attempt })
    }
}

impl Future for Connecting {
    type Output = io::Result<u64>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let mut state = self.here.world.network.state.borrow_mut();
        let Some(attempt) = state.attempts.get_mut(&self.attempt) else {
            return Poll::Ready(Err(io::ErrorKind::NetworkDown.into()));
        };
        let Some(result) = attempt.result.take() else {
            attempt.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.attempts.remove(&self.attempt);
        Poll::Ready(result)
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        let world = &self.here.world;
        let state = &mut *world.network.state.borrow_mut();
        if let Some(Attempt { result: Some(Ok(connection)), .. }) = state.attempts.remove(&self.attempt) {
            world.close_end(state, connection, 0);
            World::forget_if_over(state, connection);
        }
    }
}
