//! The sending end of a link.
//!
//! Messages gather, and when the link's task runs, everything that has gathered goes as one call, without waiting for the answers to
//! earlier ones. The task connects when there is something to send. Invariants:
//! - Sending never waits and never fails: what there is no room for is dropped, and whoever leads the region is told that its
//!   peer is unreachable. Consensus sends again.
//! - What waits and what is under way is bounded, see [`LinkLimits`].
//! - While the link is down, nothing is kept: it would be stale when the other store is back.
//! - `lost` is called by the task and with nothing borrowed, never from within [`LinkSender::send`]: the caller may be in the midst of
//!   what its peer wants done. Losses of one turn are told once for each peer.
//! - Snapshots have a connection of their own, so that they hold up no messages.

mod queue;
mod stream;

use crate::{ClientError, LinkClient, LinkHello, LinkLimits, RegionMessage};
use crate::{SnapshotChunk, SnapshotKey, SnapshotOffer};
use pinion_runtime::{Instant, now, random_u64, sleep, spawn};
use pinion_types::{PeerId, RegionId};
use queue::{Batch, Queue, Receiver};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use stream::{End, Stream};

/// What has happened on a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStatistics {
    /// Messages sent off.
    pub messages: u64,
    /// Calls that carried them.
    pub batches: u64,
    /// Bytes of them, roughly.
    pub bytes: u64,
    /// Connections opened for messages.
    pub connections: u64,
    /// Connections, or attempts at one, that failed.
    pub failures: u64,
    /// Messages that were dropped before they were sent.
    pub dropped: u64,
    /// Messages that were sent and perhaps not taken, because the connection failed or the call was refused.
    pub lost: u64,
    /// Bytes of messages that wait now.
    pub waiting_bytes: usize,
}

/// Sends to one core of another store. Clones share it. When the last one is dropped the link is closed, and what it still had to
/// send is forgotten.
#[derive(Clone)]
pub struct LinkSender(Rc<Handle>);

struct Handle(Rc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.0.state.borrow_mut();
        state.ending = true;
        state.wake();
    }
}

/// What the users of a link and its task share.
struct Shared {
    hello: LinkHello,
    address: Box<dyn Fn() -> Option<SocketAddr>>,
    limits: LinkLimits,
    tell_lost: Box<dyn Fn(RegionId, PeerId)>,
    state: RefCell<State>,
    /// The connection for everything but messages.
    second: RefCell<Option<(LinkClient, Instant)>>,
}

#[derive(Default)]
struct State {
    queue: Queue,
    /// After a failure, for a pause: nothing is taken.
    is_down: bool,
    /// The last user is gone.
    ending: bool,
    task: Option<Waker>,
    /// Whose messages were lost since this was last told; as many as there are peers at most.
    lost: BTreeSet<Receiver>,
    statistics: LinkStatistics,
    error: Option<ClientError>,
}

impl State {
    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

impl LinkSender {
    /// A link to the store that `hello` names. It connects to what `address` says at that time, when there is something to send. `lost` is
    /// told of peers to whom a message was lost.
    pub fn new(
        hello: LinkHello,
        address: impl Fn() -> Option<SocketAddr> + 'static,
        limits: LinkLimits,
        lost: impl Fn(RegionId, PeerId) + 'static,
    ) -> Self {
        let shared = Rc::new(Shared {
            hello,
            address: Box::new(address),
            limits,
            tell_lost: Box::new(lost),
            state: RefCell::default(),
            second: RefCell::new(None),
        });
        spawn(run(shared.clone()));
        Self(Rc::new(Handle(shared)))
    }

    /// Sends a message, or drops it when there is no room or the link is down. Never waits.
    ///
    /// # Panics
    /// When the message is of a peer to itself or to its own storage: such a one is never sent.
    pub fn send(&self, message: RegionMessage) {
        let shared = &self.0.0;
        assert!(message.gone || !message.message.is_local(), "what a peer says to itself is never sent");
        let mut state = shared.state.borrow_mut();
        let refused = if state.is_down {
            Err(queue::receiver(&message))
        } else {
            state.queue.push(message, &shared.limits)
        };
        if let Err(receiver) = refused {
            state.lost.insert(receiver);
            state.statistics.dropped += 1;
        }
        state.wake();
    }

    /// Announces a snapshot. Which files are there from an earlier try: number, and how many bytes from the file's start.
    pub async fn snapshot_offer(&self, offer: &SnapshotOffer) -> Result<Vec<(u64, u64)>, ClientError> {
        self.0.0.call(async |client| client.snapshot_offer(offer).await).await
    }

    /// Sends part of an offered file. Several may be under way.
    pub async fn snapshot_chunk(&self, chunk: &SnapshotChunk) -> Result<(), ClientError> {
        self.0.0.call(async |client| client.snapshot_chunk(chunk).await).await
    }

    /// Says that an offered snapshot was sent whole. Done when its message was handed to the peer.
    pub async fn snapshot_done(&self, key: SnapshotKey) -> Result<(), ClientError> {
        self.0.0.call(async |client| client.snapshot_done(key).await).await
    }

    /// Takes an offer back.
    pub async fn snapshot_abort(&self, key: SnapshotKey) -> Result<(), ClientError> {
        self.0.0.call(async |client| client.snapshot_abort(key).await).await
    }

    /// The first of `count` ids that were never given before.
    pub async fn allocate_ids(&self, count: u64) -> Result<u64, ClientError> {
        self.0.0.call(async |client| client.allocate_ids(count).await).await
    }

    /// What has happened so far.
    pub fn statistics(&self) -> LinkStatistics {
        let state = self.0.0.state.borrow();
        LinkStatistics { waiting_bytes: state.queue.bytes(), ..state.statistics }
    }

    /// What last went wrong, if anything has.
    pub fn last_error(&self) -> Option<ClientError> {
        self.0.0.state.borrow().error.clone()
    }
}

/// The link's task: waits for messages, connects, sends until the connection ends, rests after a failure.
async fn run(shared: Rc<Shared>) {
    let mut pause = shared.limits.backoff_min;
    while shared
        .attend(|_| if shared.has_messages() { Poll::Ready(()) } else { Poll::Pending })
        .await
        .is_some()
    {
        let mut opening = pin!(shared.open());
        let Some(opened) = shared.attend(|context| opening.as_mut().poll(context)).await else { return };
        let end = match opened {
            Err(error) => End::Failed { was_useful: false, error },
            Ok(client) => {
                shared.state.borrow_mut().statistics.connections += 1;
                let mut stream = Stream::new(&shared, client);
                let Some(end) = shared.attend(|context| stream.poll(context)).await else { return };
                end
            }
        };
        let End::Failed { was_useful, error } = end else { continue };
        shared.give_up_second();
        if was_useful {
            pause = shared.limits.backoff_min;
        }
        shared.go_down(error);
        let mut rest = pin!(sleep(jittered(pause)));
        if shared.attend(|context| rest.as_mut().poll(context)).await.is_none() {
            return;
        }
        shared.state.borrow_mut().is_down = false;
        pause = (pause * 2).min(shared.limits.backoff_max);
    }
}

/// Between half of a pause and the whole: stores that lost the same one must not come back to it all at once.
fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
    half + Duration::from_nanos(random_u64() % nanos.max(1))
}

impl Shared {
    /// What `step` comes to, which is tried whenever the task is woken; `None` when the last user is gone. Tells of losses meanwhile.
    async fn attend<T>(&self, mut step: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
        std::future::poll_fn(|context| {
            let lost = {
                let mut state = self.state.borrow_mut();
                if state.ending {
                    return Poll::Ready(None);
                }
                state.task = Some(context.waker().clone());
                std::mem::take(&mut state.lost)
            };
            for (region, peer) in lost {
                (self.tell_lost)(region, peer);
            }
            step(context).map(Some)
        })
        .await
    }

    fn has_messages(&self) -> bool {
        !self.state.borrow().queue.is_empty()
    }

    async fn open(&self) -> Result<LinkClient, ClientError> {
        let Some(address) = (self.address)() else {
            return Err(ClientError::Closed(format!("no address of store {} is known", self.hello.to)));
        };
        within(self.limits.connect_timeout, LinkClient::connect(address, &self.hello)).await
    }

    /// Takes nothing from now on, and drops what waits.
    fn go_down(&self, error: ClientError) {
        let mut state = self.state.borrow_mut();
        let waiting = state.queue.clear();
        state.statistics.dropped += waiting.len() as u64;
        state.statistics.failures += 1;
        state.lost.extend(waiting);
        state.is_down = true;
        state.error = Some(error);
    }

    /// What goes as one call, of the queues that may send.
    fn take(&self, may_send_urgent: bool, may_send_large: bool) -> Batch {
        self.state.borrow_mut().queue.take(may_send_urgent, may_send_large, &self.limits)
    }

    fn count_sent(&self, messages: usize, bytes: usize) {
        let statistics = &mut self.state.borrow_mut().statistics;
        statistics.messages += messages as u64;
        statistics.batches += 1;
        statistics.bytes += bytes as u64;
    }

    /// Counts messages that were sent as lost.
    fn lose(&self, receivers: Vec<Receiver>) {
        let mut state = self.state.borrow_mut();
        state.statistics.lost += receivers.len() as u64;
        state.lost.extend(receivers);
        // Another turn tells of them.
        state.wake();
    }

    fn note(&self, error: ClientError) {
        self.state.borrow_mut().error = Some(error);
    }

    /// Makes a call on the second connection, which is opened when it is not there.
    async fn call<T>(
        &self,
        call: impl AsyncFnOnce(&LinkClient) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let client = self.second().await?;
        let outcome = within(self.limits.call_timeout, call(&client)).await;
        let mut second = self.second.borrow_mut();
        if matches!(outcome, Err(ClientError::TimedOut(_))) {
            // The other end may be gone without a word; whoever else is waiting on this connection finds out by itself.
            second.take();
        } else if let Some((_, used)) = &mut *second {
            *used = now();
        }
        outcome
    }

    /// Ends the second connection, and the calls on it: what has ended the first may have silenced it, and nothing but the calls' long timeout would
    /// tell. A snapshot goes on where it was.
    fn give_up_second(&self) {
        if let Some((client, _)) = self.second.borrow_mut().take() {
            client.abort();
        }
    }

    /// The second connection, or a new one where it was idle for as long as silence may last: whatever is between the stores may have forgotten
    /// an idle connection, or its other end may be gone, without a word to this one.
    async fn second(&self) -> Result<LinkClient, ClientError> {
        let open = self.second.borrow().clone();
        let may_serve = |client: &LinkClient, used: Instant| {
            !client.is_closed() && used.elapsed() < self.limits.silence_max
        };
        if let Some((client, _)) = open.filter(|(client, used)| may_serve(client, *used)) {
            return Ok(client);
        }
        let client = self.open().await?;
        *self.second.borrow_mut() = Some((client.clone(), now()));
        Ok(client)
    }
}

/// What the future comes to, or `TimedOut`.
async fn within<T>(
    timeout: Duration,
    future: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let (mut future, mut timer) = (pin!(future), pin!(sleep(timeout)));
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(outcome) => Poll::Ready(outcome),
        Poll::Pending => timer.as_mut().poll(context).map(|()| Err(ClientError::TimedOut(timeout))),
    })
    .await
}
