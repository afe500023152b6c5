//! One connection's task: receive, start, collect, send.
//!
//! Hot path. What must not happen here for each call: a system call, a task switch, a timer, a copy of the message.

use super::ConnectionError;
use super::calls::Calls;
use super::exports::Exports;
use super::work::{Answer, Task};
use crate::frame::{ReceiveBuffer, SendBuffer};
use crate::rpc;
use crate::{Limits, LinkHello, WireError};
use futures_util::io::{AsyncRead, AsyncWrite};
use pinion_runtime::{Instant, now, should_yield, sleep};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How often a turn goes round at most before other tasks of the core get theirs.
const ROUNDS_MAX: usize = 16;
/// How often the watch looks at least and at most.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);

pub(super) struct Connection<S, F, M, J> {
    stream: S,
    pub(super) limits: Rc<Limits>,
    receive: ReceiveBuffer,
    pub(super) send: SendBuffer,
    /// Makes a task's future.
    start: M,
    /// Says whether a link may be opened.
    pub(super) judge: J,
    pub(super) calls: Calls<F>,
    pub(super) exports: Exports,
    watch: Watch,
    ended: bool,
}

/// Ends connections that nothing happens on.
struct Watch {
    /// Set to wake the task at `check`.
    timer: Option<Pin<Box<dyn Future<Output = ()>>>>,
    check: Instant,
    /// When something last came.
    received: Instant,
    /// Since when the peer has taken nothing of what there is for it.
    unsent_since: Option<Instant>,
}

impl<S, F, M, J> Connection<S, F, M, J>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Answer>,
    M: Fn(Task) -> F,
    J: Fn(&LinkHello) -> Result<(), WireError>,
{
    pub(super) fn new(stream: S, limits: Rc<Limits>, start: M, judge: J) -> Self {
        let now = now();
        Self {
            stream,
            receive: ReceiveBuffer::default(),
            send: SendBuffer::default(),
            start,
            judge,
            calls: Calls::new(limits.calls_in_flight_max),
            exports: Exports::new(),
            watch: Watch { timer: None, check: now, received: now, unsent_since: None },
            limits,
            ended: false,
        }
    }

    /// One turn. Ready when the connection is over.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let now = now();
        match self.poll_rounds(context, now) {
            Poll::Ready(Err(error)) => {
                self.say_why(context, &error);
                Poll::Ready(Err(error))
            }
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Pending => self.poll_watch(context, now),
        }
    }

    fn poll_rounds(&mut self, context: &mut Context<'_>, now: Instant) -> Poll<Result<(), ConnectionError>> {
        for _ in 0..ROUNDS_MAX {
            let started = self.start_calls(now)?;
            let received = self.poll_receive(context, now)?;
            if received {
                self.start_calls(now)?;
            }
            let collected = self.collect_answers(context);
            let sent = self.poll_send(context, now)?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if !(started || received || collected || sent) {
                return Poll::Pending;
            }
            if should_yield() {
                break;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once, unless a bound is reached. Says whether something came.
    fn poll_receive(&mut self, context: &mut Context<'_>, now: Instant) -> Result<bool, ConnectionError> {
        if self.is_at_bound() {
            return Ok(false);
        }
        let spare = self.receive.spare();
        match Pin::new(&mut self.stream).poll_read(context, spare) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => {
                self.ended = true;
                Ok(false)
            }
            Poll::Ready(Ok(count)) => {
                self.receive.filled(count);
                self.watch.received = now;
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(error.into()),
        }
    }

    fn is_at_bound(&self) -> bool {
        self.calls.len() >= self.limits.calls_in_flight_max
            || self.calls.bytes() >= self.limits.bytes_in_flight_max
            || self.send.len() >= self.limits.answer_bytes_max
    }

    /// Handles the messages that are there whole, up to a bound. Says whether there were any.
    fn start_calls(&mut self, now: Instant) -> Result<bool, ConnectionError> {
        let mut any = false;
        // The buffer goes out and back, so that readers on it and the rest of the connection are apart.
        let mut receive = std::mem::take(&mut self.receive);
        let outcome = loop {
            if self.is_at_bound() {
                break Ok(any);
            }
            match receive.first(self.limits.message_bytes_max) {
                Ok(Some(length)) => {
                    any = true;
                    let handled = receive
                        .reader(length)
                        .map_err(ConnectionError::from)
                        .and_then(|message| self.handle(&message, length, now));
                    receive.take(length);
                    if let Err(error) = handled {
                        break Err(error);
                    }
                }
                Ok(None) => break Ok(any),
                Err(error) => break Err(error.into()),
            }
        };
        self.receive = receive;
        outcome
    }

    /// Starts a call that is charged `bytes` bytes.
    pub(super) fn start(&mut self, question: u32, bytes: usize, task: Task) {
        self.calls.start(question, bytes, (self.start)(task));
    }

    /// Writes the answers of calls that are done to the send buffer, while it has room. Says whether there were any.
    fn collect_answers(&mut self, context: &mut Context<'_>) -> bool {
        let mut any = false;
        while self.send.len() < self.limits.answer_bytes_max {
            let Poll::Ready((question, answer)) = self.calls.poll_next(context) else { break };
            self.answer(question, &answer);
            any = true;
            if should_yield() {
                break;
            }
        }
        any
    }

    /// Sends what there is to send. Says whether the peer took something.
    fn poll_send(&mut self, context: &mut Context<'_>, now: Instant) -> Result<bool, ConnectionError> {
        let mut any = false;
        while self.send.len() > 0 {
            match Pin::new(&mut self.stream).poll_write(context, self.send.pending()) {
                Poll::Pending => {
                    self.watch.unsent_since.get_or_insert(now);
                    return Ok(any);
                }
                Poll::Ready(Ok(0)) => return Err(std::io::Error::from(std::io::ErrorKind::WriteZero).into()),
                Poll::Ready(Ok(count)) => self.send.taken(count),
                Poll::Ready(Err(error)) => return Err(error.into()),
            }
            any = true;
            self.watch.unsent_since = None;
        }
        Ok(any)
    }

    /// Tells the peer why the connection ends, if the socket takes it at once.
    fn say_why(&mut self, context: &mut Context<'_>, error: &ConnectionError) {
        if matches!(
            error,
            ConnectionError::Frame(_) | ConnectionError::Protocol(_) | ConnectionError::Idle(_)
        ) {
            self.send.push(&rpc::abort(&error.to_string()));
            let _ = Pin::new(&mut self.stream).poll_write(context, self.send.pending());
        }
    }

    /// Ends the connection when nothing has happened for too long.
    fn poll_watch(&mut self, context: &mut Context<'_>, now: Instant) -> Poll<Result<(), ConnectionError>> {
        if now < self.watch.check {
            return Poll::Pending;
        }
        let (write, idle) = (self.limits.write_timeout, self.limits.idle_timeout);
        if self.watch.unsent_since.is_some_and(|since| now.since(since) >= write) {
            return Poll::Ready(Err(ConnectionError::SlowReader(write)));
        }
        let is_quiet = self.calls.len() == 0 && self.send.len() == 0;
        if is_quiet && !idle.is_zero() && now.since(self.watch.received) >= idle {
            return Poll::Ready(Err(ConnectionError::Idle(idle)));
        }
        let shorter = if idle.is_zero() { write } else { write.min(idle) };
        let pause = (shorter / 4).clamp(PAUSE_MIN, PAUSE_MAX);
        self.watch.check = now + pause;
        let timer = self.watch.timer.insert(Box::pin(sleep(pause)));
        if timer.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
