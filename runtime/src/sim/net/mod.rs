//! The network between hosts. Not there yet: every socket is refused.

#![expect(
    clippy::unused_self,
    clippy::unused_async,
    clippy::unnecessary_wraps,
    reason = "the shape of what is to come"
)]

use super::world::{Here, World};
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

pub(super) struct Network;

impl Network {
    pub(super) fn new(_seed: u64) -> Self {
        Self
    }
}

impl World {
    pub(super) fn packet_arrives(&self, _connection: u64, _to: usize) {}
    pub(super) fn attempt_arrives(&self, _attempt: u64) {}
    pub(super) fn attempt_times_out(&self, _attempt: u64) {}
    pub(super) fn host_stops(&self, _host: usize, _silently: bool) {}
    pub(super) fn host_starts(&self, _host: usize) {}
}

pub(crate) struct TcpListener(SocketAddr);

impl TcpListener {
    pub(crate) fn bind(_here: Here, _address: SocketAddr) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.0
    }
    pub(crate) async fn accept(&self) -> io::Result<TcpStream> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

pub(crate) struct TcpStream(SocketAddr);

impl TcpStream {
    pub(crate) async fn connect(_here: Here, _address: SocketAddr) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0)
    }
    pub(crate) fn poll_read(&mut self, _cx: &mut Context<'_>, _buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
    pub(crate) fn poll_write(&mut self, _cx: &mut Context<'_>, _buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
    pub(crate) fn close(&mut self) -> io::Result<()> {
        Ok(())
    }
}
