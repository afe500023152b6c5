//! One connection of a link, from its hello to its end: batches go out, answers come in, and silence is noticed.

use super::Shared;
use super::queue::{Receiver, receiver};
use crate::client::{Pending, taken};
use crate::{ClientError, LinkClient};
use pinion_runtime::{Instant, now, should_yield, sleep};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// While nothing was under way, as an idle connection does: nothing is lost, and there is no reason to wait before the next one.
    Idle,
    /// With messages under way, or before it was ever of use.
    Failed {
        /// Whether the other end had answered a batch before.
        was_useful: bool,
        /// What went wrong.
        error: ClientError,
    },
}

/// The connection.
pub(super) struct Stream<'s> {
    shared: &'s Shared,
    client: LinkClient,
    /// Batches that are not answered yet, the oldest first. The other end answers in order.
    flights: VecDeque<Flight>,
    /// Bytes of the urgent messages under way, and of the large ones.
    urgent_bytes: usize,
    large_bytes: usize,
    was_useful: bool,
    /// Why a batch was never answered.
    failure: Option<ClientError>,
    /// When the last answer came.
    heard: Instant,
    /// Wakes the task when silence may have lasted too long.
    timer: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// A batch that is under way.
struct Flight {
    pending: Pending,
    sent: Instant,
    urgent_bytes: usize,
    large_bytes: usize,
    receivers: Vec<Receiver>,
}

impl<'s> Stream<'s> {
    pub(super) fn new(shared: &'s Shared, client: LinkClient) -> Self {
        Self {
            shared,
            client,
            flights: VecDeque::new(),
            urgent_bytes: 0,
            large_bytes: 0,
            was_useful: false,
            failure: None,
            heard: now(),
            timer: None,
        }
    }

    /// One turn. Ready when the connection is over.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let now = now();
        loop {
            self.collect_answers(context, now);
            if self.client.is_closed() {
                return Poll::Ready(self.end_closed());
            }
            if !self.send_batch(now) {
                break;
            }
            if should_yield() {
                context.waker().wake_by_ref();
                break;
            }
        }
        if self.poll_silence(context, now) {
            let silence_max = self.shared.limits.silence_max;
            return Poll::Ready(self.end(ClientError::TimedOut(silence_max)));
        }
        Poll::Pending
    }

    /// Takes the answers that came. Leaves the task to be woken by the next one.
    fn collect_answers(&mut self, context: &mut Context<'_>, now: Instant) {
        while let Some(flight) = self.flights.front_mut() {
            let Poll::Ready(reply) = Pin::new(&mut flight.pending).poll(context) else { return };
            let Some(flight) = self.flights.pop_front() else { return };
            self.urgent_bytes -= flight.urgent_bytes;
            self.large_bytes -= flight.large_bytes;
            match taken(reply) {
                Ok(()) => {
                    self.heard = now;
                    self.was_useful = true;
                }
                Err(error) => {
                    self.shared.lose(flight.receivers);
                    if self.client.is_closed() {
                        self.failure.get_or_insert(error);
                    } else {
                        // The other end refused this call alone: the batch is lost, the connection is not.
                        self.heard = now;
                        self.shared.note(error);
                    }
                }
            }
        }
    }

    /// Sends a batch of what waits, if a window is open. Says whether there was anything.
    fn send_batch(&mut self, now: Instant) -> bool {
        let limits = &self.shared.limits;
        let may_send_urgent = self.urgent_bytes < limits.urgent_bytes_max;
        let may_send_large = self.large_bytes < limits.bytes_in_flight_max;
        let batch = self.shared.take(may_send_urgent, may_send_large);
        if batch.messages.is_empty() {
            return false;
        }
        let receivers: Vec<_> = batch.messages.iter().map(receiver).collect();
        match self.client.begin_messages(&batch.messages) {
            Ok(pending) => {
                let (urgent_bytes, large_bytes) = (batch.urgent_bytes, batch.large_bytes);
                self.urgent_bytes += urgent_bytes;
                self.large_bytes += large_bytes;
                self.flights.push_back(Flight { pending, sent: now, urgent_bytes, large_bytes, receivers });
                self.shared.count_sent(batch.messages.len(), urgent_bytes + large_bytes);
            }
            Err(error) => {
                self.shared.lose(receivers);
                self.shared.note(error);
            }
        }
        true
    }

    /// Whether the other end has said nothing for too long, with a batch under way. Sees to it that the task is woken when that may be.
    fn poll_silence(&mut self, context: &mut Context<'_>, now: Instant) -> bool {
        let silence_max = self.shared.limits.silence_max;
        let Some(oldest) = self.flights.front() else { return false };
        let deadline = oldest.sent.max(self.heard) + silence_max;
        if now >= deadline {
            return true;
        }
        // The timer may stand at an earlier deadline: it is set anew when it goes off, not with each answer.
        while self
            .timer
            .get_or_insert_with(|| Box::pin(sleep(deadline.since(now))))
            .as_mut()
            .poll(context)
            .is_ready()
        {
            self.timer = None;
        }
        false
    }

    /// The other end closed the connection, or the network did; by now every batch under way has its answer.
    fn end_closed(&mut self) -> End {
        match self.failure.take() {
            None if self.was_useful => End::Idle,
            None => self.end(ClientError::Closed("before it was of any use".into())),
            Some(error) => self.end(error),
        }
    }

    /// Counts what is under way as lost.
    fn end(&mut self, error: ClientError) -> End {
        for flight in self.flights.drain(..) {
            self.shared.lose(flight.receivers);
        }
        End::Failed { was_useful: self.was_useful, error }
    }
}
