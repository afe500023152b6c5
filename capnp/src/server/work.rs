//! What a connection has in flight: calls to the services, each as one future.

use super::Services;
use super::admin::{AdminReply, AdminTask};
use super::link::{LinkReply, LinkTask};
use crate::convert::method::RawMethod;
use crate::{
    AdminService, Atomicity, LinkService, Operations, RawAnswer, RawCall, RawReply, RawRequest, RawService,
    WireError,
};
use pinion_runtime::mailbox::oneshot;
use pinion_runtime::{Instant, now, sleep};
use pinion_types::ColumnFamily;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

/// How often a chunk of a bulk load is tried while the store is busy.
const BUSY_TRIES_MAX: u32 = 100;

/// A call to do.
pub(super) enum Task {
    Raw { method: RawMethod, request: RawRequest },
    Chunk { loader: Rc<Loader>, turn: Turn, operations: Operations },
    LoadDone { loader: Rc<Loader>, turn: Turn },
    Admin(AdminTask),
    Link(LinkTask),
}

/// What a call came to.
pub(super) enum Answer {
    Raw(RawMethod, RawAnswer),
    Chunk(Result<(), WireError>),
    Load(Result<u64, WireError>),
    Admin(AdminReply),
    Link(LinkReply),
}

/// A stream of writes that one peer opened.
pub(super) struct Loader {
    pub(super) family: ColumnFamily,
    pub(super) ttl_ms: u64,
    pairs: Cell<u64>,
    failure: RefCell<Option<WireError>>,
    /// Ends when the last call so far is done.
    last: Cell<Option<oneshot::Receiver<()>>>,
}

/// A call's place in its stream: it waits for the one before it, and its own end lets the next one go.
pub(super) struct Turn {
    previous: Option<oneshot::Receiver<()>>,
    _done: oneshot::Sender<()>,
}

impl Loader {
    pub(super) fn new(family: ColumnFamily, ttl_ms: u64) -> Self {
        Self { family, ttl_ms, pairs: Cell::new(0), failure: RefCell::new(None), last: Cell::new(None) }
    }

    /// The next place in the stream.
    pub(super) fn turn(&self) -> Turn {
        let (sender, receiver) = oneshot::channel();
        Turn { previous: self.last.replace(Some(receiver)), _done: sender }
    }

    /// Ends the stream. Only the first failure counts.
    pub(super) fn fail(&self, error: WireError) {
        self.failure.borrow_mut().get_or_insert(error);
    }

    fn outcome(&self) -> Result<u64, WireError> {
        self.failure.borrow().clone().map_or(Ok(self.pairs.get()), Err)
    }
}

impl Turn {
    async fn wait(&mut self) {
        if let Some(previous) = self.previous.take() {
            // An error means that the call before this one was given up; it is this one's turn all the same.
            let _ = previous.await;
        }
    }
}

/// Does a call.
pub(super) async fn run<R, A, L>(services: Rc<Services<R, A, L>>, task: Task) -> Answer
where
    R: RawService,
    A: AdminService,
    L: LinkService,
{
    match task {
        Task::Raw { method, request } => {
            let deadline = request.deadline;
            let call = services.raw.call(request);
            let answer = match deadline {
                None => call.await,
                Some(deadline) => within(deadline, call).await,
            };
            Answer::Raw(method, answer)
        }
        Task::Chunk { loader, mut turn, operations } => {
            turn.wait().await;
            Answer::Chunk(write_chunk(&services.raw, &loader, operations).await)
        }
        Task::LoadDone { loader, mut turn } => {
            turn.wait().await;
            Answer::Load(loader.outcome())
        }
        Task::Admin(task) => Answer::Admin(task.run(&services.admin).await),
        Task::Link(task) => Answer::Link(task.run(&services.link).await),
    }
}

/// The call's answer, or `TimedOut` when the deadline comes first.
async fn within(deadline: Instant, call: impl Future<Output = RawAnswer>) -> RawAnswer {
    let mut call = pin!(call);
    let mut timer = pin!(sleep(deadline.since(now())));
    std::future::poll_fn(|context| match call.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(answer),
        Poll::Pending => timer.as_mut().poll(context).map(|()| Err(WireError::TimedOut)),
    })
    .await
}

/// Writes a chunk, waiting while the store is busy; keeps the stream's first failure.
async fn write_chunk<R: RawService>(
    raw: &R,
    loader: &Loader,
    operations: Operations,
) -> Result<(), WireError> {
    loader.outcome()?;
    let pairs = operations.len() as u64;
    let mut tries = 0;
    let answer = loop {
        let call = RawCall::Batch { operations: operations.clone(), atomicity: Atomicity::PerRegion };
        tries += 1;
        match chunk_outcome(raw.call(RawRequest::new(call)).await) {
            Err(WireError::ServerBusy { retry_after }) if tries < BUSY_TRIES_MAX => sleep(retry_after).await,
            answer => break answer,
        }
    };
    match &answer {
        Ok(()) => loader.pairs.set(loader.pairs.get() + pairs),
        Err(error) => loader.fail(error.clone()),
    }
    answer
}

fn chunk_outcome(answer: RawAnswer) -> Result<(), WireError> {
    match answer? {
        RawReply::Results(results) => results.first_error().cloned().map_or(Ok(()), Err),
        _ => Err(WireError::Internal("the answer to a batch is of another kind".into())),
    }
}
