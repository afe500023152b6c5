//! The asking end of a connection: questions, and the task that sends them and reads the answers.
//!
//! All calls made in one turn of the core leave with one write; all answers of one read wake their callers together.

use super::ClientError;
use crate::convert::DecodeError;
use crate::convert::admin::{
    read_join_answer, read_region_answer, read_regions_answer, read_store_info, read_stores_answer,
};
use crate::convert::answer::{read_answer, read_done};
use crate::convert::link::{read_ids_answer, read_offer_answer};
use crate::convert::method::{AdminMethod, LinkMethod, Method};
use crate::convert::refusal::read_error;
use crate::frame::{MessageReader, ReceiveBuffer, SendBuffer};
use crate::generated::{admin_capnp, link_capnp, raw_capnp};
use crate::{Joined, RawAnswer, RegionInfo, RegionPage, StoreInfo, StoreRecord, WireError, rpc};
use capnp::any_pointer;
use capnp_rpc::rpc_capnp::{cap_descriptor, exception, message, payload, return_};
use futures_util::io::{AsyncRead, AsyncWrite};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Calls in flight at most; one more is refused.
const CALLS_MAX: usize = 1 << 16;
/// Bytes of an answer at most: what a server may put in one, with room.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Words of a message that only says something about another one.
const NOTE_WORDS: usize = 32;

/// What a question is answered with.
#[derive(Debug)]
pub(crate) enum Reply {
    Raw(RawAnswer),
    Capability(u32),
    Chunk,
    Load(Result<u64, WireError>),
    Regions(Result<RegionPage, WireError>),
    Info(StoreInfo),
    Statistics(String),
    Stores(Result<Vec<StoreRecord>, WireError>),
    Joined(Result<Joined, WireError>),
    Region(Result<RegionInfo, WireError>),
    Link(Result<u32, WireError>),
    Empty,
    Done(Result<(), WireError>),
    There(Result<Vec<(u64, u64)>, WireError>),
    Ids(Result<u64, WireError>),
}

/// What the callers and the connection's task share.
#[derive(Default)]
pub(super) struct Shared(RefCell<State>);

#[derive(Default)]
struct State {
    send: SendBuffer,
    questions: Vec<Question>,
    free: Vec<u32>,
    task: Option<Waker>,
    /// Why no call can be made any more.
    closed: Option<ClientError>,
    /// The last caller is gone: what is to be sent is sent, and that is all.
    ending: bool,
    /// The connection is to end at once.
    aborted: bool,
}

enum Question {
    Free,
    /// `None` asks for the bootstrap object.
    Waiting {
        method: Option<Method>,
        waker: Option<Waker>,
    },
    Answered(Result<Reply, ClientError>),
    /// The caller gave up; the answer is still to come.
    Abandoned,
}

impl Shared {
    /// Asks for the server's bootstrap object.
    pub(super) fn bootstrap(self: &Rc<Self>) -> Result<Pending, ClientError> {
        let mut state = self.0.borrow_mut();
        let id = state.ask(None)?;
        let mut builder = rpc::message(NOTE_WORDS);
        builder.init_root::<message::Builder<'_>>().init_bootstrap().set_question_id(id);
        state.push(&builder);
        Ok(Pending { shared: self.clone(), id })
    }

    /// Calls a method of a capability; `write` writes the parameters. `words` is what the message will take.
    pub(super) fn call(
        self: &Rc<Self>,
        capability: u32,
        method: Method,
        words: usize,
        write: impl FnOnce(any_pointer::Builder<'_>),
    ) -> Result<Pending, ClientError> {
        let mut builder = rpc::message(words);
        let mut call = builder.init_root::<message::Builder<'_>>().init_call();
        let mut state = self.0.borrow_mut();
        let id = state.ask(Some(method))?;
        call.set_question_id(id);
        let (interface, number) = method.numbers();
        call.set_interface_id(interface);
        call.set_method_id(number);
        call.reborrow().init_target().set_imported_cap(capability);
        write(call.init_params().get_content());
        state.push(&builder);
        Ok(Pending { shared: self.clone(), id })
    }

    /// Gives a capability back.
    pub(super) fn release(&self, capability: u32) {
        let mut builder = rpc::message(NOTE_WORDS);
        let mut release = builder.init_root::<message::Builder<'_>>().init_release();
        release.set_id(capability);
        release.set_reference_count(1);
        self.0.borrow_mut().push(&builder);
    }

    /// Lets the connection's task end once everything is sent.
    pub(super) fn end(&self) {
        let mut state = self.0.borrow_mut();
        state.ending = true;
        state.wake();
    }

    /// Ends the connection at once, whatever is under way.
    pub(super) fn abort(&self) {
        let mut state = self.0.borrow_mut();
        state.aborted = true;
        state.close(&aborted());
        state.wake();
    }

    /// Whether no call can be made any more.
    pub(super) fn is_closed(&self) -> bool {
        self.0.borrow().closed.is_some()
    }
}

impl State {
    fn ask(&mut self, method: Option<Method>) -> Result<u32, ClientError> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        let question = Question::Waiting { method, waker: None };
        if let Some(id) = self.free.pop() {
            self.questions[id as usize] = question;
            return Ok(id);
        }
        if self.questions.len() >= CALLS_MAX {
            return Err(ClientError::TooManyCalls(CALLS_MAX));
        }
        self.questions.push(question);
        Ok(u32::try_from(self.questions.len() - 1).expect("fewer calls than CALLS_MAX"))
    }

    fn push(&mut self, builder: &capnp::message::Builder<capnp::message::HeapAllocator>) {
        self.send.push(builder);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    fn finish(&mut self, id: u32) {
        let mut builder = rpc::message(NOTE_WORDS);
        let mut finish = builder.init_root::<message::Builder<'_>>().init_finish();
        finish.set_question_id(id);
        finish.set_release_result_caps(false);
        finish.set_require_early_cancellation_workaround(false);
        self.push(&builder);
    }

    /// Answers every question that waits, and every one to come.
    fn close(&mut self, error: &ClientError) {
        self.closed = Some(error.clone());
        for question in &mut self.questions {
            if let Question::Waiting { waker, .. } = question {
                let waker = waker.take();
                *question = Question::Answered(Err(error.clone()));
                waker.into_iter().for_each(Waker::wake);
            }
        }
    }

    fn handle(&mut self, reader: &MessageReader<'_>) -> Result<(), ClientError> {
        match reader.get_root::<message::Reader<'_>>()?.which() {
            Ok(message::Return(returned)) => self.handle_return(returned?),
            Ok(message::Abort(exception)) => Err(exception_error(exception?)?),
            Ok(message::Unimplemented(_)) => {
                Err(ClientError::Protocol("the server does not implement a message of this client".into()))
            }
            // This end keeps no promises that could be resolved, and exports nothing that could be called.
            _ => Ok(()),
        }
    }

    fn handle_return(&mut self, returned: return_::Reader<'_>) -> Result<(), ClientError> {
        let id = returned.get_answer_id();
        let question = self.questions.get_mut(id as usize);
        let Some(question) = question else {
            return Err(ClientError::Protocol(format!("an answer to question {id}, which was never asked")));
        };
        match std::mem::replace(question, Question::Free) {
            Question::Waiting { method, waker } => {
                *question = Question::Answered(read_return(method, returned));
                waker.into_iter().for_each(Waker::wake);
                if !returned.get_no_finish_needed() {
                    self.finish(id);
                }
            }
            // Its `Finish` went when the caller gave up.
            Question::Abandoned => self.free.push(id),
            Question::Free | Question::Answered(_) => {
                return Err(ClientError::Protocol(format!("a second answer to question {id}")));
            }
        }
        Ok(())
    }
}

fn read_return(method: Option<Method>, returned: return_::Reader<'_>) -> Result<Reply, ClientError> {
    match returned.which()? {
        return_::Results(payload) => read_reply(method, payload?),
        return_::Exception(exception) => Err(exception_error(exception?)?),
        return_::Canceled(()) => Err(ClientError::Protocol("the server canceled a call by itself".into())),
        _ => Err(ClientError::Protocol("an answer that is said to be elsewhere".into())),
    }
}

fn read_reply(method: Option<Method>, payload: payload::Reader<'_>) -> Result<Reply, ClientError> {
    let content = payload.get_content();
    let reply = match method {
        None | Some(Method::PinionRaw | Method::PinionAdmin | Method::BulkLoad) => {
            Reply::Capability(read_capability(payload)?)
        }
        Some(Method::Raw(method)) => Reply::Raw(read_answer(method, content)?),
        Some(Method::LoaderPut) => Reply::Chunk,
        Some(Method::LoaderDone) => match content.get_as::<raw_capnp::load_answer::Reader<'_>>()?.which()? {
            raw_capnp::load_answer::Pairs(pairs) => Reply::Load(Ok(pairs)),
            raw_capnp::load_answer::Error(error) => Reply::Load(Err(read_error(error?)?)),
        },
        Some(Method::Admin(method)) => read_admin_reply(method, content)?,
        Some(Method::PinionLink) => {
            match content.get_as::<link_capnp::link_answer::Reader<'_>>()?.which()? {
                link_capnp::link_answer::Link(_) => Reply::Link(Ok(read_capability(payload)?)),
                link_capnp::link_answer::Error(error) => Reply::Link(Err(read_error(error?)?)),
            }
        }
        Some(Method::Link(method)) => read_link_reply(method, content)?,
    };
    Ok(reply)
}

fn read_admin_reply(method: AdminMethod, content: any_pointer::Reader<'_>) -> Result<Reply, ClientError> {
    Ok(match method {
        AdminMethod::Regions | AdminMethod::Split => Reply::Regions(read_regions_answer(content.get_as()?)?),
        AdminMethod::Info => Reply::Info(read_store_info(content.get_as()?)?),
        AdminMethod::Statistics => {
            let results: admin_capnp::admin::statistics_results::Reader<'_> = content.get_as()?;
            Reply::Statistics(crate::convert::text(results.get_text()?))
        }
        AdminMethod::Stores => Reply::Stores(read_stores_answer(content.get_as()?)?),
        AdminMethod::Join => Reply::Joined(read_join_answer(content.get_as()?)?),
        AdminMethod::Announce | AdminMethod::TransferLeader => Reply::Done(read_done(content.get_as()?)?),
        AdminMethod::ChangePeers | AdminMethod::Region => {
            Reply::Region(read_region_answer(content.get_as()?)?)
        }
    })
}

fn read_link_reply(method: LinkMethod, content: any_pointer::Reader<'_>) -> Result<Reply, ClientError> {
    Ok(match method {
        LinkMethod::Messages | LinkMethod::SnapshotAbort => Reply::Empty,
        LinkMethod::SnapshotOffer => Reply::There(read_offer_answer(content.get_as()?)?),
        LinkMethod::SnapshotChunk | LinkMethod::SnapshotDone => Reply::Done(read_done(content.get_as()?)?),
        LinkMethod::AllocateIds => Reply::Ids(read_ids_answer(content.get_as()?)?),
    })
}

/// The one capability that an answer carries.
fn read_capability(payload: payload::Reader<'_>) -> Result<u32, ClientError> {
    let table = payload.get_cap_table()?;
    let first = table.try_get(0).map(cap_descriptor::Reader::which).transpose()?;
    match first {
        Some(cap_descriptor::SenderHosted(id) | cap_descriptor::SenderPromise(id)) => Ok(id),
        _ => Err(ClientError::Protocol("an answer without the capability that was asked for".into())),
    }
}

fn exception_error(reader: exception::Reader<'_>) -> Result<ClientError, ClientError> {
    let reason = crate::convert::text(reader.get_reason()?);
    Ok(match reader.get_type() {
        Ok(exception::Type::Overloaded) => ClientError::Overloaded(reason),
        Ok(exception::Type::Disconnected) => ClientError::Closed(reason),
        Ok(exception::Type::Unimplemented) => ClientError::Unimplemented(reason),
        _ => ClientError::Exception(reason),
    })
}

impl From<DecodeError> for ClientError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Malformed(error) => error.into(),
            DecodeError::Refused(error) => Self::Protocol(error.to_string()),
        }
    }
}

/// A question that is on its way. Dropping it tells the server that nobody waits.
pub(crate) struct Pending {
    shared: Rc<Shared>,
    id: u32,
}

impl Future for Pending {
    type Output = Result<Reply, ClientError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.0.borrow_mut();
        match &mut state.questions[self.id as usize] {
            Question::Waiting { waker, .. } => {
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    *waker = Some(context.waker().clone());
                }
                Poll::Pending
            }
            question @ Question::Answered(_) => {
                let Question::Answered(reply) = std::mem::replace(question, Question::Free) else {
                    unreachable!("it was just seen to be answered")
                };
                state.free.push(self.id);
                Poll::Ready(reply)
            }
            Question::Free | Question::Abandoned => panic!("a question is polled after its answer"),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut state = self.shared.0.borrow_mut();
        let closed = state.closed.is_some();
        match &mut state.questions[self.id as usize] {
            question @ Question::Waiting { .. } if !closed => {
                *question = Question::Abandoned;
                state.finish(self.id);
            }
            question @ (Question::Answered(_) | Question::Waiting { .. }) => {
                *question = Question::Free;
                state.free.push(self.id);
            }
            Question::Free | Question::Abandoned => {}
        }
    }
}

fn aborted() -> ClientError {
    ClientError::Closed("this end closed it".into())
}

/// Sends and receives until the connection ends or the last caller is gone.
pub(super) async fn drive<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, shared: Rc<Shared>) {
    let mut receive = ReceiveBuffer::default();
    let end = std::future::poll_fn(|context| {
        let mut state = shared.0.borrow_mut();
        poll(&mut stream, &mut receive, &mut state, context)
    })
    .await;
    let error = end.err().unwrap_or_else(aborted);
    shared.0.borrow_mut().close(&error);
}

fn poll<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    receive: &mut ReceiveBuffer,
    state: &mut State,
    context: &mut Context<'_>,
) -> Poll<Result<(), ClientError>> {
    if state.aborted {
        return Poll::Ready(Ok(()));
    }
    loop {
        while state.send.len() > 0 {
            match Pin::new(&mut *stream).poll_write(context, state.send.pending()) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ClientError::Closed("the server left".into()))),
                Poll::Ready(Ok(count)) => state.send.taken(count),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            }
        }
        if state.ending && state.send.len() == 0 {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut *stream).poll_read(context, receive.spare()) {
            Poll::Pending => break,
            Poll::Ready(Ok(0)) => {
                return Poll::Ready(Err(ClientError::Closed("the server closed it".into())));
            }
            Poll::Ready(Ok(count)) => receive.filled(count),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
        }
        while let Some(length) = receive.first(MESSAGE_BYTES_MAX)? {
            state.handle(&receive.reader(length)?)?;
            receive.take(length);
        }
    }
    match &mut state.task {
        Some(task) if task.will_wake(context.waker()) => {}
        task => *task = Some(context.waker().clone()),
    }
    Poll::Pending
}
