//! TCP through io_uring.

use futures_util::io::{AsyncRead, AsyncWrite};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A listening socket that owns its port alone.
pub(crate) struct TcpListener {
    inner: glommio::net::TcpListener,
    address: SocketAddr,
}

impl TcpListener {
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        use socket2::{Domain, Protocol, Socket, Type};
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // SO_REUSEADDR lets a restarted store have its port back from connections in TIME_WAIT. SO_REUSEPORT, which glommio's own
        // bind sets, would let a second server steal connections in silence.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(crate::net::BACKLOG_MAX)?;
        let address = socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("a TCP socket without an IP address"))?;
        // SAFETY: the descriptor is a bound, listening socket whose ownership moves to glommio's listener.
        let inner = unsafe { glommio::net::TcpListener::from_raw_fd(socket.into_raw_fd()) };
        Ok(Self { inner, address })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn accept(&self) -> io::Result<TcpStream> {
        TcpStream::prepared(self.inner.accept().await.map_err(io::Error::from)?)
    }
}

/// A connected socket, with TCP_NODELAY.
pub(crate) struct TcpStream {
    inner: glommio::net::TcpStream,
}

impl TcpStream {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::prepared(glommio::net::TcpStream::connect(address).await.map_err(io::Error::from)?)
    }

    fn prepared(inner: glommio::net::TcpStream) -> io::Result<Self> {
        inner.set_nodelay(true).map_err(io::Error::from)?;
        Ok(Self { inner })
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.peer_addr().map_err(io::Error::from)
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
