//! The serving end of a connection.
//!
//! A connection is one task and speaks Cap'n Proto's RPC protocol (level 1) by itself instead of through capnp-rpc, which spends
//! more on a call than the engine does and takes calls without bound. One turn of the task
//! 1. reads what the socket has and starts the calls in it, in order;
//! 2. collects the answers of all calls that are done;
//! 3. sends them all with one write.
//!
//! Invariants:
//! - At a bound of [`Limits`] the connection stops reading; nothing in it grows without bound.
//! - What the peer sends wrong ends this connection alone, or this call alone.
//! - A cut connection and a finished call drop their handlers; a handler holds only a reply channel.
//! - Answers with data say `noFinishNeeded`, so that nothing is kept for them.

mod admin;
mod calls;
mod connection;
mod dispatch;
mod exports;
mod link;
mod work;

use crate::frame::FrameError;
use crate::{AdminService, Limits, LinkHello, LinkService, RawService};
use connection::Connection;
use futures_util::io::{AsyncRead, AsyncWrite};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// What a store serves to its connections.
pub struct Services<R, A, L> {
    /// Raw calls.
    pub raw: R,
    /// Admin calls.
    pub admin: A,
    /// Calls of other stores; [`crate::NoLinks`] for a store that runs alone.
    pub link: L,
}

/// Why a connection ended, other than by its peer's wish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
    /// What came is no message.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// What came is a message and makes no sense.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The peer ended it with a reason.
    #[error("the peer aborted: {0}")]
    Aborted(String),
    /// Nothing came for too long.
    #[error("nothing came for {0:?}")]
    Idle(Duration),
    /// The peer does not read its answers.
    #[error("the peer left answers unread for {0:?}")]
    SlowReader(Duration),
}

impl From<capnp::Error> for ConnectionError {
    fn from(error: capnp::Error) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<capnp::NotInSchema> for ConnectionError {
    fn from(error: capnp::NotInSchema) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// Serves one connection until it ends. `Ok` when the peer closed it.
pub async fn serve<S, R, A, L>(
    stream: S,
    services: Rc<Services<R, A, L>>,
    limits: Rc<Limits>,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    R: RawService,
    A: AdminService,
    L: LinkService,
{
    let start = |task| work::run(services.clone(), task);
    let judge = |hello: &LinkHello| services.link.hello(hello);
    let mut connection = Connection::new(stream, limits, start, judge);
    poll_fn(|context| connection.poll(context)).await
}
