//! Mailboxes: bounded, lock-free queues, one for each ordered pair of cores.
//!
//! [`mesh`] makes every core's ends at once; each goes to its core's thread. Messages of one sender arrive in their order; there is
//! no order between senders. A sender never waits: a full queue gives the message back, and the core says that it is busy.

use crossbeam_queue::ArrayQueue;
use futures_util::task::AtomicWaker;
use pinion_types::CoreId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

pub use futures_channel::oneshot;

/// What a core receives through: a queue from each core, and whom to wake.
struct Inbox<T> {
    from: Vec<ArrayQueue<T>>,
    waker: AtomicWaker,
    closed: AtomicBool,
}

/// The sending and the receiving end of each of `cores` cores; each pair's queue holds `capacity` messages.
pub fn mesh<T: Send + 'static>(cores: usize, capacity: usize) -> Vec<(Sender<T>, Receiver<T>)> {
    let inboxes: Arc<[Inbox<T>]> = (0..cores)
        .map(|_| Inbox {
            from: (0..cores).map(|_| ArrayQueue::new(capacity)).collect(),
            waker: AtomicWaker::new(),
            closed: AtomicBool::new(false),
        })
        .collect();
    (0..cores)
        .map(|core| {
            (Sender { core, to: inboxes.clone() }, Receiver { core, inboxes: inboxes.clone(), next: 0 })
        })
        .collect()
}

/// A mailbox could not take a message; the message comes back.
#[derive(Debug)]
pub enum SendError<T> {
    /// The queue is full: the other core is behind.
    Full(T),
    /// The other core has stopped.
    Closed(T),
}

/// Sends from one core to every core, its own included.
pub struct Sender<T> {
    core: usize,
    to: Arc<[Inbox<T>]>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { core: self.core, to: self.to.clone() }
    }
}

impl<T: Send + 'static> Sender<T> {
    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.to.len()
    }

    /// Puts a message in the core's mailbox, or gives it back.
    ///
    /// # Panics
    /// When there is no such core.
    pub fn try_send(&self, core: CoreId, message: T) -> Result<(), SendError<T>> {
        let inbox = &self.to[usize::from(core.0)];
        if inbox.closed.load(Ordering::Acquire) {
            return Err(SendError::Closed(message));
        }
        inbox.from[self.core].push(message).map_err(SendError::Full)?;
        inbox.waker.wake();
        Ok(())
    }
}

/// Receives from every core. Dropping it closes the mailbox.
pub struct Receiver<T> {
    core: usize,
    inboxes: Arc<[Inbox<T>]>,
    next: usize,
}

impl<T: Send + 'static> Receiver<T> {
    /// The core that this end belongs to.
    pub fn core(&self) -> CoreId {
        CoreId(u16::try_from(self.core).expect("fewer cores than u16 holds"))
    }

    /// The next message that is there already; senders take turns.
    pub fn try_recv(&mut self) -> Option<T> {
        let inbox = &self.inboxes[self.core];
        let count = inbox.from.len();
        for turn in 0..count {
            let from = (self.next + turn) % count;
            if let Some(message) = inbox.from[from].pop() {
                self.next = from + 1;
                return Some(message);
            }
        }
        None
    }

    /// The next message; senders take turns.
    pub async fn recv(&mut self) -> T {
        std::future::poll_fn(|cx| {
            if let Some(message) = self.try_recv() {
                return Poll::Ready(message);
            }
            self.inboxes[self.core].waker.register(cx.waker());
            // A message may have come between the look and the registration.
            self.try_recv().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.inboxes[self.core].closed.store(true, Ordering::Release);
    }
}
