//! Sockets in the hands of the simulated code.

use super::super::world::{Here, World};
use super::Listening;
use super::attempt::Connecting;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

/// A listening socket.
pub(crate) struct TcpListener {
    here: Here,
    id: u64,
    address: SocketAddr,
}

impl TcpListener {
    pub(crate) fn bind(here: Here, mut address: SocketAddr) -> io::Result<Self> {
        if !here.world.is_alive(here.place) {
            return Err(io::ErrorKind::NetworkDown.into());
        }
        let host = here.place.host;
        if here.world.host_of(host, address.ip()) != Some(host) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let id = {
            let state = &mut *here.world.network.state.borrow_mut();
            if address.port() == 0 {
                address.set_port(state.free_port(host)?);
            }
            if state.listeners.contains_key(&(host, address.port())) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let id = state.next_id();
            let listening = Listening { id, address, backlog: VecDeque::new(), acceptors: Vec::new() };
            state.listeners.insert((host, address.port()), listening);
            id
        };
        Ok(Self { here, id, address })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn accept(&self) -> io::Result<TcpStream> {
        let id = std::future::poll_fn(|cx| {
            let state = &mut *self.here.world.network.state.borrow_mut();
            let key = (self.here.place.host, self.address.port());
            let Some(listening) = state.listeners.get_mut(&key).filter(|found| found.id == self.id) else {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::NetworkDown)));
            };
            // A connection may be over before it is accepted.
            while let Some(id) = listening.backlog.pop_front() {
                if state.connections.contains_key(&id) {
                    return Poll::Ready(Ok(id));
                }
            }
            if !listening.acceptors.iter().any(|waker| waker.will_wake(cx.waker())) {
                listening.acceptors.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await?;
        Ok(TcpStream { here: self.here.clone(), id, side: 1 })
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        let world = &self.here.world;
        let state = &mut *world.network.state.borrow_mut();
        let key = (self.here.place.host, self.address.port());
        if state.listeners.get(&key).is_some_and(|listening| listening.id == self.id) {
            let listening = state.listeners.remove(&key);
            for connection in listening.into_iter().flat_map(|listening| listening.backlog) {
                world.close_end(state, connection, 1);
                World::forget_if_over(state, connection);
            }
        }
    }
}

/// A connected socket.
pub(crate) struct TcpStream {
    here: Here,
    id: u64,
    side: usize,
}

impl TcpStream {
    pub(crate) async fn connect(here: Here, address: SocketAddr) -> io::Result<Self> {
        let id = Connecting::new(here.clone(), address)?.await?;
        Ok(Self { here, id, side: 0 })
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        let state = self.here.world.network.state.borrow();
        let connection = state.connections.get(&self.id).ok_or(io::ErrorKind::NotConnected)?;
        Ok(connection.ends[self.side].peer)
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.here.world.receive(&self.here, (self.id, self.side), cx, buf)
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.here.world.transmit(&self.here, (self.id, self.side), cx, buf)
    }

    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.here.world.shut(&self.here, self.id, self.side)
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let world = &self.here.world;
        let state = &mut *world.network.state.borrow_mut();
        // A host that went down has closed its ends already.
        world.close_end(state, self.id, self.side);
        World::forget_if_over(state, self.id);
    }
}
