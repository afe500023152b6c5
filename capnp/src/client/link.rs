//! The asking end of a link: one connection to one core of another store. It retries nothing.

use super::connection::{self, Pending, Reply, Shared};
use super::{CALL_WORDS, ClientError, capability, done, mismatch};
use crate::convert::link::{
    offer_words, region_message_words, write_chunk, write_hello, write_key, write_messages, write_offer,
};
use crate::convert::list_length;
use crate::convert::method::{LinkMethod, Method};
use crate::generated::link_capnp as schema;
use crate::{LinkHello, RegionMessage, SnapshotChunk, SnapshotKey, SnapshotOffer};
use futures_util::io::{AsyncRead, AsyncWrite};
use pinion_runtime::net::TcpStream;
use pinion_runtime::spawn;
use std::net::SocketAddr;
use std::rc::Rc;

/// A connection to another store. Clones share it. It is closed at once, whatever is under way, when the last one is dropped: the other
/// end may be gone without a word, and then what is left to send would never be taken.
#[derive(Clone)]
pub struct LinkClient {
    shared: Rc<Open>,
    link: u32,
}

struct Open(Rc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl LinkClient {
    /// Connects to a core of the store that the hello names. The store may refuse, as data.
    pub async fn connect(address: SocketAddr, hello: &LinkHello) -> Result<Self, ClientError> {
        Self::over(TcpStream::connect(address).await?, hello).await
    }

    /// Speaks to a store over a stream that is connected already.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        hello: &LinkHello,
    ) -> Result<Self, ClientError> {
        let shared = Rc::new(Open(Rc::default()));
        spawn(connection::drive(stream, shared.0.clone()));
        let pinion = capability(shared.0.bootstrap()?.await?)?;
        let words = CALL_WORDS + hello.addresses.iter().map(|address| 2 + address.len() / 8).sum::<usize>();
        let pending = shared.0.call(pinion, Method::PinionLink, words, |params| {
            write_hello(params.init_as(), hello);
        })?;
        let link = match pending.await? {
            Reply::Link(link) => link?,
            other => return Err(mismatch(&other)),
        };
        Ok(Self { shared, link })
    }

    /// Delivers messages: what comes back says that they were taken.
    pub async fn messages(&self, messages: &[RegionMessage]) -> Result<(), ClientError> {
        taken(self.begin_messages(messages)?.await)
    }

    /// Sends messages off.
    pub(crate) fn begin_messages(&self, messages: &[RegionMessage]) -> Result<Pending, ClientError> {
        let words = CALL_WORDS + messages.iter().map(region_message_words).sum::<usize>();
        self.shared.0.call(self.link, Method::Link(LinkMethod::Messages), words, |params| {
            let params: schema::link::messages_params::Builder<'_> = params.init_as();
            write_messages(params.init_messages(list_length(messages.len())), messages);
        })
    }

    /// Announces a snapshot. Which files are there from an earlier try: number, and how many bytes from the file's start.
    pub async fn snapshot_offer(&self, offer: &SnapshotOffer) -> Result<Vec<(u64, u64)>, ClientError> {
        let method = Method::Link(LinkMethod::SnapshotOffer);
        let pending = self.shared.0.call(self.link, method, CALL_WORDS + offer_words(offer), |params| {
            write_offer(params.init_as(), offer);
        })?;
        match pending.await? {
            Reply::There(files) => Ok(files?),
            other => Err(mismatch(&other)),
        }
    }

    /// Sends part of an offered file.
    pub async fn snapshot_chunk(&self, chunk: &SnapshotChunk) -> Result<(), ClientError> {
        let words = CALL_WORDS + chunk.data.len() / 8;
        let method = Method::Link(LinkMethod::SnapshotChunk);
        let pending =
            self.shared.0.call(self.link, method, words, |params| write_chunk(params.init_as(), chunk))?;
        done(pending.await?)
    }

    /// Says that an offered snapshot was sent whole. Done when its message was handed to the peer.
    pub async fn snapshot_done(&self, key: SnapshotKey) -> Result<(), ClientError> {
        done(self.begin_key(LinkMethod::SnapshotDone, key)?.await?)
    }

    /// Takes an offer back.
    pub async fn snapshot_abort(&self, key: SnapshotKey) -> Result<(), ClientError> {
        taken(self.begin_key(LinkMethod::SnapshotAbort, key)?.await)
    }

    fn begin_key(&self, method: LinkMethod, key: SnapshotKey) -> Result<Pending, ClientError> {
        self.shared.0.call(self.link, Method::Link(method), CALL_WORDS, |params| {
            write_key(params.init_as(), key);
        })
    }

    /// The first of `count` ids that were never given before.
    pub async fn allocate_ids(&self, count: u64) -> Result<u64, ClientError> {
        let method = Method::Link(LinkMethod::AllocateIds);
        let pending = self.shared.0.call(self.link, method, CALL_WORDS, |params| {
            params.init_as::<schema::link::allocate_ids_params::Builder<'_>>().set_count(count);
        })?;
        match pending.await? {
            Reply::Ids(first) => Ok(first?),
            other => Err(mismatch(&other)),
        }
    }

    /// Ends the connection at once, and every call that is under way.
    pub(crate) fn abort(&self) {
        self.shared.0.abort();
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.shared.0.is_closed()
    }
}

/// What a call that is answered with nothing came to.
pub(crate) fn taken(reply: Result<Reply, ClientError>) -> Result<(), ClientError> {
    match reply? {
        Reply::Empty => Ok(()),
        other => Err(mismatch(&other)),
    }
}
