//! What a connection does with each message of its peer, and how it answers.

use super::ConnectionError;
use super::admin::{AdminReply, AdminTask};
use super::connection::Connection;
use super::exports::{Grant, Target, grant_message};
use super::link::{LinkReply, LinkTask};
use super::work::{Answer, Loader, Task};
use crate::convert::DecodeError;
use crate::convert::answer::{answer_words, write_answer};
use crate::convert::link::read_hello;
use crate::convert::method::{Method, RawMethod};
use crate::convert::refusal::write_error;
use crate::convert::region::read_family;
use crate::convert::request::{read_pairs, read_request};
use crate::frame::MessageReader;
use crate::generated::raw_capnp;
use crate::{LinkHello, RawCall, WireError, rpc};
use capnp::any_pointer;
use capnp_rpc::rpc_capnp::{call, disembargo, exception, message, message_target};
use futures_util::io::{AsyncRead, AsyncWrite};
use pinion_runtime::Instant;
use std::future::Future;

/// Words of an answer without data of any length.
pub(super) const ANSWER_WORDS: usize = 64;

/// A call as it came: its question, and the bytes of its message.
#[derive(Clone, Copy)]
struct Question {
    id: u32,
    bytes: usize,
    now: Instant,
}

impl<S, F, M, J> Connection<S, F, M, J>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Answer>,
    M: Fn(Task) -> F,
    J: Fn(&LinkHello) -> Result<(), WireError>,
{
    /// Does what the message says. An error ends the connection.
    pub(super) fn handle(
        &mut self,
        reader: &MessageReader<'_>,
        bytes: usize,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let root = reader.get_root::<message::Reader<'_>>()?;
        let Ok(which) = root.which() else { return self.refuse(root) };
        match which {
            message::Call(call) => self.handle_call(call?, bytes, now),
            message::Finish(finish) => {
                let finish = finish?;
                let question = finish.get_question_id();
                if self.calls.cancel(question) {
                    self.send.push(&rpc::canceled(question));
                } else {
                    self.exports.finish(question, finish.get_release_result_caps());
                }
                Ok(())
            }
            message::Bootstrap(bootstrap) => {
                let question = bootstrap?.get_question_id();
                self.check_question(question)?;
                self.grant(question, Grant::Pinion);
                Ok(())
            }
            message::Release(release) => {
                let release = release?;
                self.exports.release(release.get_id(), release.get_reference_count());
                Ok(())
            }
            message::Disembargo(disembargo) => self.echo(disembargo?),
            message::Abort(exception) => {
                let reason = crate::convert::text(exception?.get_reason()?);
                Err(ConnectionError::Aborted(reason))
            }
            // What this end sends and the peer does not know, this end can do without. Capabilities of the peer are never kept.
            message::Unimplemented(_) | message::Resolve(_) => Ok(()),
            message::Return(_) => Err(ConnectionError::Protocol("a return without a call".into())),
            _ => self.refuse(root),
        }
    }

    /// Answers that the message is of a kind that is not implemented.
    fn refuse(&mut self, root: message::Reader<'_>) -> Result<(), ConnectionError> {
        let mut builder = rpc::message(ANSWER_WORDS);
        builder.init_root::<message::Builder<'_>>().set_unimplemented(root)?;
        self.send.push(&builder);
        Ok(())
    }

    fn check_question(&self, question: u32) -> Result<(), ConnectionError> {
        if self.calls.contains(question) || self.exports.has_answer(question) {
            return Err(ConnectionError::Protocol(format!("question {question} is in use already")));
        }
        Ok(())
    }

    /// Every capability here is of this end, so an embargo ends as soon as it comes by.
    fn echo(&mut self, disembargo: disembargo::Reader<'_>) -> Result<(), ConnectionError> {
        let disembargo::context::SenderLoopback(id) = disembargo.get_context().which()? else {
            return Err(ConnectionError::Protocol("an embargo that this end never asked for".into()));
        };
        let mut builder = rpc::message(ANSWER_WORDS);
        let mut echo = builder.init_root::<message::Builder<'_>>().init_disembargo();
        echo.set_target(disembargo.get_target()?)?;
        echo.init_context().set_receiver_loopback(id);
        self.send.push(&builder);
        Ok(())
    }

    fn handle_call(
        &mut self,
        call: call::Reader<'_>,
        bytes: usize,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let question = Question { id: call.get_question_id(), bytes, now };
        self.check_question(question.id)?;
        if !matches!(call.get_send_results_to().which(), Ok(call::send_results_to::Caller(()))) {
            self.fail(question.id, exception::Type::Unimplemented, "answers go to the caller alone");
            return Ok(());
        }
        let target = match call.get_target()?.which()? {
            message_target::ImportedCap(export) => self.exports.imported(export),
            message_target::PromisedAnswer(answer) => self.exports.promised(answer?)?,
        };
        let Some(target) = target else {
            self.fail(question.id, exception::Type::Failed, "there is no such capability");
            return Ok(());
        };
        let params = call.get_params()?.get_content();
        let method = Method::of(call.get_interface_id(), call.get_method_id());
        match self.begin(question, &target, method, params) {
            Ok(()) => {}
            Err(DecodeError::Malformed(error)) => {
                let kind = match error.kind {
                    capnp::ErrorKind::Unimplemented => exception::Type::Unimplemented,
                    capnp::ErrorKind::Overloaded => exception::Type::Overloaded,
                    _ => exception::Type::Failed,
                };
                self.fail(question.id, kind, &error.to_string());
            }
            Err(DecodeError::Refused(error)) => {
                self.refuse_call(question.id, method, error);
            }
        }
        Ok(())
    }

    fn begin(
        &mut self,
        question: Question,
        target: &Target,
        method: Option<Method>,
        params: any_pointer::Reader<'_>,
    ) -> Result<(), DecodeError> {
        let task = match (target, method) {
            (Target::Raw, Some(Method::Raw(method))) => return self.begin_raw(question, method, params),
            (Target::Pinion, Some(Method::PinionRaw)) => {
                self.grant(question.id, Grant::Raw);
                return Ok(());
            }
            (Target::Pinion, Some(Method::PinionAdmin)) => {
                self.grant(question.id, Grant::Admin);
                return Ok(());
            }
            (Target::Pinion, Some(Method::PinionLink)) => return self.open_link(question, params),
            (Target::Link, Some(Method::Link(method))) => LinkTask::read(method, params)?,
            (Target::Raw, Some(Method::BulkLoad)) => return self.open_loader(question, params),
            (Target::Loader(loader), Some(Method::LoaderPut)) => {
                let params: raw_capnp::bulk_loader::put_params::Reader<'_> = params.get_as()?;
                let (family, ttl) = (loader.family, loader.ttl_ms);
                let operations = read_pairs(params.get_pairs()?, family, ttl, &self.limits.request);
                if let Err(DecodeError::Refused(error)) = &operations {
                    loader.fail(error.clone());
                }
                let operations = operations?;
                Task::Chunk { loader: loader.clone(), turn: loader.turn(), operations }
            }
            (Target::Loader(loader), Some(Method::LoaderDone)) => {
                Task::LoadDone { loader: loader.clone(), turn: loader.turn() }
            }
            (Target::Admin, Some(Method::Admin(method))) => {
                AdminTask::read(method, params, &self.limits.request)?
            }
            _ => return Err(capnp::Error::unimplemented("the capability has no such method".into()).into()),
        };
        self.start(question.id, question.bytes, task);
        Ok(())
    }

    fn begin_raw(
        &mut self,
        question: Question,
        method: RawMethod,
        params: any_pointer::Reader<'_>,
    ) -> Result<(), DecodeError> {
        let request = read_request(method, params, &self.limits.request, question.now)?;
        let answer_bytes = if let RawCall::Scan(scan) = &request.call { scan.bytes_max } else { 0 };
        self.start(question.id, question.bytes + answer_bytes, Task::Raw { method, request });
        Ok(())
    }

    fn open_loader(
        &mut self,
        question: Question,
        params: any_pointer::Reader<'_>,
    ) -> Result<(), DecodeError> {
        let params: raw_capnp::bulk_load_request::Reader<'_> = params.get_as()?;
        let family = read_family(params.get_family())?;
        if self.exports.is_full() {
            return Err(capnp::Error::overloaded("too many bulk loads are open".into()).into());
        }
        let grant = self.exports.open(question.id, Loader::new(family, params.get_ttl_ms()));
        self.send.push(&grant_message(question.id, grant));
        Ok(())
    }

    /// Judged at once, so that calls on the link may be sent before its answer came.
    fn open_link(&mut self, question: Question, params: any_pointer::Reader<'_>) -> Result<(), DecodeError> {
        let hello = read_hello(params.get_as()?)?;
        match (self.judge)(&hello) {
            Ok(()) => {
                self.exports.open_link();
                self.grant(question.id, Grant::Link);
            }
            Err(error) => self.answer(question.id, &Answer::Link(LinkReply::Refused(error))),
        }
        Ok(())
    }

    /// Answers with a capability.
    fn grant(&mut self, question: u32, grant: Grant) {
        if self.exports.is_full() {
            return self.fail(question, exception::Type::Overloaded, "too many capabilities are unfinished");
        }
        self.exports.grant(question, grant);
        self.send.push(&grant_message(question, grant));
    }

    /// Answers with an exception.
    fn fail(&mut self, question: u32, kind: exception::Type, reason: &str) {
        self.send.push(&rpc::exception(question, kind, reason));
    }

    /// Answers a call that makes no sense, by an error as data where the method has one.
    fn refuse_call(&mut self, question: u32, method: Option<Method>, error: WireError) {
        let answer = match method {
            Some(Method::Raw(method)) => Answer::Raw(method, Err(error)),
            Some(Method::Admin(method)) => AdminReply::refusal(method, error),
            Some(Method::PinionLink) => Answer::Link(LinkReply::Refused(error)),
            Some(Method::Link(method)) => LinkReply::refusal(method, error),
            _ => Answer::Chunk(Err(error)),
        };
        self.answer(question, &answer);
    }

    /// Writes the answer to a call.
    pub(super) fn answer(&mut self, question: u32, answer: &Answer) {
        let words = match answer {
            Answer::Raw(_, answer) => answer_words(answer),
            Answer::Link(reply) => reply.words(),
            _ => ANSWER_WORDS,
        };
        if let Answer::Chunk(Err(error)) = answer {
            return self.send.push(&rpc::exception(question, exception_type(error), &error.to_string()));
        }
        let mut builder = rpc::message(words);
        let mut returned = rpc::begin_return(&mut builder, question);
        returned.set_no_finish_needed(true);
        let results = returned.init_results().get_content();
        match answer {
            Answer::Raw(method, answer) => write_answer(*method, answer, results),
            Answer::Admin(reply) => reply.write(results),
            Answer::Link(reply) => reply.write(results),
            Answer::Load(answer) => {
                let mut builder: raw_capnp::load_answer::Builder<'_> = results.init_as();
                match answer {
                    Ok(pairs) => builder.set_pairs(*pairs),
                    Err(error) => write_error(builder.init_error(), error),
                }
            }
            // The result of a streaming call is a struct without fields, which a null pointer stands for.
            Answer::Chunk(_) => {}
        }
        self.send.push(&builder);
    }
}

/// How an error looks to a caller whose method has no place for it.
fn exception_type(error: &WireError) -> exception::Type {
    match error {
        WireError::ServerBusy { .. } => exception::Type::Overloaded,
        WireError::ShuttingDown => exception::Type::Disconnected,
        _ => exception::Type::Failed,
    }
}
