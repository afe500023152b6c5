//! A client of one store, over one connection.
//!
//! Calls run concurrently: each is a future, and what is called in one turn of the core leaves with one write. It routes nothing and
//! retries nothing. Runs on `pinion_runtime`.

mod admin;
mod connection;
mod link;
mod load;

pub(crate) use connection::Pending;
pub use link::LinkClient;
pub(crate) use link::taken;
pub use load::BulkLoad;

use crate::convert::method::Method;
use crate::convert::request::{method_of, request_words, write_request};
use crate::frame::FrameError;
use crate::generated::raw_capnp;
use crate::{
    Atomicity, Operations, Page, RawCall, RawReply, RawRequest, Remaining, Results, Scan, WireError,
};
use bytes::Bytes;
use connection::{Reply, Shared};
use futures_util::io::{AsyncRead, AsyncWrite};
use pinion_runtime::net::TcpStream;
use pinion_runtime::{now, sleep, spawn};
use pinion_types::ColumnFamily;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Words of a call with nothing of any length in it.
const CALL_WORDS: usize = 64;
/// How much longer than the server's time this end waits, so that the server's own `timedOut` arrives first.
const GRACE: Duration = Duration::from_millis(500);

/// Why a call brought no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The store refused the call, as data.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// The store did not understand the call, or failed in it.
    #[error("the server failed: {0}")]
    Exception(String),
    /// The store has no such method: it is older than this client.
    #[error("the server does not know this call: {0}")]
    Unimplemented(String),
    /// The connection has too much in flight.
    #[error("the server is overloaded: {0}")]
    Overloaded(String),
    /// The connection is closed.
    #[error("the connection is closed: {0}")]
    Closed(String),
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(String),
    /// What came is no answer of a Pinion store.
    #[error("the server does not speak this protocol: {0}")]
    Protocol(String),
    /// No answer came in time. A write may still be done.
    #[error("no answer within {0:?}; a write may still be done")]
    TimedOut(Duration),
    /// This end has too many calls in flight.
    #[error("{0} calls are in flight already")]
    TooManyCalls(usize),
}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

impl From<capnp::Error> for ClientError {
    fn from(error: capnp::Error) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<capnp::NotInSchema> for ClientError {
    fn from(error: capnp::NotInSchema) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<FrameError> for ClientError {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// A connection to a store. Clones share it; it ends when the last one is dropped.
#[derive(Clone)]
pub struct Client {
    handle: Rc<Handle>,
    raw: u32,
    admin: u32,
    timeout: Option<Duration>,
}

struct Handle(Rc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Client {
    /// Connects to a store. Calls wait for ever; see [`Client::with_timeout`].
    pub async fn connect(address: SocketAddr) -> Result<Self, ClientError> {
        Self::over(TcpStream::connect(address).await?).await
    }

    /// Speaks to a store over a stream that is connected already.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> Result<Self, ClientError> {
        let shared = Rc::new(Shared::default());
        let handle = Rc::new(Handle(shared.clone()));
        spawn(connection::drive(stream, shared.clone()));
        let pinion = capability(shared.bootstrap()?.await?)?;
        let raw = shared.call(pinion, Method::PinionRaw, CALL_WORDS, |_| {})?;
        let admin = shared.call(pinion, Method::PinionAdmin, CALL_WORDS, |_| {})?;
        let (raw, admin) = (capability(raw.await?)?, capability(admin.await?)?);
        Ok(Self { handle, raw, admin, timeout: None })
    }

    /// The same connection with a limit on the time of each call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self.clone() }
    }

    /// Whether the connection has ended: a call would fail without having been sent.
    pub fn is_closed(&self) -> bool {
        self.handle.0.is_closed()
    }

    /// Does any raw call. A batch that is to be one whole has operations of one kind, one family and one time to live. An answer to one
    /// that writes carries no results: all of it was done.
    pub async fn call(&self, request: &RawRequest) -> Result<RawReply, ClientError> {
        let method = method_of(&request.call)?;
        let now = now();
        let deadline = request.deadline.or_else(|| self.timeout.map(|timeout| now + timeout));
        let timeout = deadline.map(|deadline| deadline.since(now));
        let pending =
            self.handle.0.call(self.raw, Method::Raw(method), request_words(request), |params| {
                write_request(method, request, timeout, params);
            })?;
        match self.wait(pending).await? {
            Reply::Raw(answer) => Ok(answer?),
            other => Err(mismatch(&other)),
        }
    }

    /// The value of a key; `None` when it is not there.
    pub async fn get(&self, family: ColumnFamily, key: &[u8]) -> Result<Option<Bytes>, ClientError> {
        match self.raw_call(RawCall::Get { family, key: key.to_vec() }).await? {
            RawReply::Value(value) => Ok(value),
            other => Err(mismatch(&other)),
        }
    }

    /// Writes a key, for ever or for a time.
    pub async fn put(
        &self,
        family: ColumnFamily,
        key: &[u8],
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(), ClientError> {
        let call = RawCall::Put { family, key: key.to_vec(), value: value.to_vec(), ttl };
        self.raw_call(call).await.map(drop)
    }

    /// Removes a key.
    pub async fn delete(&self, family: ColumnFamily, key: &[u8]) -> Result<(), ClientError> {
        self.raw_call(RawCall::Delete { family, key: key.to_vec() }).await.map(drop)
    }

    /// Runs a mixed list of operations.
    pub async fn batch(&self, operations: Operations) -> Result<Results, ClientError> {
        self.results(operations, Atomicity::PerRegion).await
    }

    /// The values of several keys, one result for each.
    pub async fn batch_get(&self, family: ColumnFamily, keys: &[Vec<u8>]) -> Result<Results, ClientError> {
        let mut operations = Operations::default();
        for key in keys {
            operations.get(family, key);
        }
        self.results(operations, Atomicity::Whole).await
    }

    /// Writes several keys of one region, all or nothing. `operations` are puts of one family and one time to live.
    pub async fn batch_put(&self, operations: Operations) -> Result<(), ClientError> {
        self.results(operations, Atomicity::Whole).await.map(drop)
    }

    /// Removes several keys of one region, all or nothing.
    pub async fn batch_delete(&self, family: ColumnFamily, keys: &[Vec<u8>]) -> Result<(), ClientError> {
        let mut operations = Operations::default();
        for key in keys {
            operations.delete(family, key);
        }
        self.results(operations, Atomicity::Whole).await.map(drop)
    }

    async fn results(&self, operations: Operations, atomicity: Atomicity) -> Result<Results, ClientError> {
        match self.raw_call(RawCall::Batch { operations, atomicity }).await? {
            RawReply::Results(results) => Ok(results),
            other => Err(mismatch(&other)),
        }
    }

    /// Removes every key of `[start, end)`; an empty end is no end.
    pub async fn delete_range(
        &self,
        family: ColumnFamily,
        start: &[u8],
        end: &[u8],
    ) -> Result<(), ClientError> {
        let call = RawCall::DeleteRange { family, start: start.to_vec(), end: end.to_vec() };
        self.raw_call(call).await.map(drop)
    }

    /// Part of a range. `bytes_max` 0 asks for the server's bound.
    pub async fn scan(&self, scan: Scan) -> Result<Page, ClientError> {
        match self.raw_call(RawCall::Scan(scan)).await? {
            RawReply::Page(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// Writes a key if its value is `expected`. Whether it did, and the value before.
    pub async fn compare_and_swap(
        &self,
        family: ColumnFamily,
        key: &[u8],
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(bool, Option<Bytes>), ClientError> {
        let (key, value) = (key.to_vec(), value.to_vec());
        let expected = expected.map(<[u8]>::to_vec);
        match self.raw_call(RawCall::CompareAndSwap { family, key, expected, value, ttl }).await? {
            RawReply::Swap { swapped, previous } => Ok((swapped, previous)),
            other => Err(mismatch(&other)),
        }
    }

    /// How long a key has still to live.
    pub async fn time_to_live(&self, family: ColumnFamily, key: &[u8]) -> Result<Remaining, ClientError> {
        match self.raw_call(RawCall::TimeToLive { family, key: key.to_vec() }).await? {
            RawReply::TimeToLive(remaining) => Ok(remaining),
            other => Err(mismatch(&other)),
        }
    }

    /// Opens a stream of writes.
    pub async fn bulk_load(
        &self,
        family: ColumnFamily,
        ttl: Option<Duration>,
    ) -> Result<BulkLoad, ClientError> {
        let pending = self.handle.0.call(self.raw, Method::BulkLoad, CALL_WORDS, |params| {
            let mut params: raw_capnp::bulk_load_request::Builder<'_> = params.init_as();
            params.set_family(crate::convert::region::write_family(family));
            params.set_ttl_ms(ttl.map_or(0, crate::raw::ttl_ms));
        })?;
        let loader = capability(self.wait(pending).await?)?;
        Ok(BulkLoad::new(self.handle.clone(), loader, family))
    }

    async fn raw_call(&self, call: RawCall) -> Result<RawReply, ClientError> {
        self.call(&RawRequest::new(call)).await
    }

    async fn wait(&self, pending: Pending) -> Result<Reply, ClientError> {
        let Some(timeout) = self.timeout else { return pending.await };
        let mut pending = pin!(pending);
        let mut timer = pin!(sleep(timeout + GRACE));
        std::future::poll_fn(|context| match pending.as_mut().poll(context) {
            Poll::Ready(reply) => Poll::Ready(reply),
            Poll::Pending => timer.as_mut().poll(context).map(|()| Err(ClientError::TimedOut(timeout))),
        })
        .await
    }
}

fn capability(reply: Reply) -> Result<u32, ClientError> {
    match reply {
        Reply::Capability(id) => Ok(id),
        other => Err(mismatch(&other)),
    }
}

fn done(reply: Reply) -> Result<(), ClientError> {
    match reply {
        Reply::Done(done) => Ok(done?),
        other => Err(mismatch(&other)),
    }
}

fn mismatch(reply: &impl std::fmt::Debug) -> ClientError {
    ClientError::Protocol(format!("an answer of another kind than the call's: {reply:?}"))
}
