//! TCP sockets. They implement futures' `AsyncRead` and `AsyncWrite`.

use crate::glommio_machine::net as real;
use crate::sim::{self, net as simulated};
use futures_util::io::{AsyncRead, AsyncWrite};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Connections that wait to be accepted at most.
pub(crate) const BACKLOG_MAX: i32 = 1024;

/// A listening socket that owns its port alone: a second listener on it is refused, another process's too.
pub struct TcpListener(Listener);

enum Listener {
    Real(real::TcpListener),
    Simulated(simulated::TcpListener),
}

impl TcpListener {
    /// Listens on `address`; port 0 asks for any free port.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        match sim::current() {
            Some(here) => Ok(Self(Listener::Simulated(simulated::TcpListener::bind(here, address)?))),
            None => Ok(Self(Listener::Real(real::TcpListener::bind(address)?))),
        }
    }

    /// The address that the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        match &self.0 {
            Listener::Real(listener) => listener.local_addr(),
            Listener::Simulated(listener) => listener.local_addr(),
        }
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        match &self.0 {
            Listener::Real(listener) => Ok(TcpStream(Stream::Real(listener.accept().await?))),
            Listener::Simulated(listener) => Ok(TcpStream(Stream::Simulated(listener.accept().await?))),
        }
    }
}

/// A connected socket, with TCP_NODELAY.
pub struct TcpStream(Stream);

enum Stream {
    Real(real::TcpStream),
    Simulated(simulated::TcpStream),
}

impl TcpStream {
    /// Connects to `address`.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        match sim::current() {
            Some(here) => Ok(Self(Stream::Simulated(simulated::TcpStream::connect(here, address).await?))),
            None => Ok(Self(Stream::Real(real::TcpStream::connect(address).await?))),
        }
    }

    /// The other end's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Stream::Real(stream) => stream.peer_addr(),
            Stream::Simulated(stream) => stream.peer_addr(),
        }
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Stream::Real(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Simulated(stream) => stream.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Stream::Real(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Simulated(stream) => stream.poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Real(stream) => Pin::new(stream).poll_flush(cx),
            // What was written is on its way already.
            Stream::Simulated(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Real(stream) => Pin::new(stream).poll_close(cx),
            Stream::Simulated(stream) => Poll::Ready(stream.close()),
        }
    }
}
