//! What a connection does with the calls of another store.

use super::dispatch::ANSWER_WORDS;
use super::work::{Answer, Task};
use crate::convert::DecodeError;
use crate::convert::answer::write_done;
use crate::convert::link::{
    read_chunk, read_key, read_messages, read_offer, write_ids_answer, write_offer_answer,
};
use crate::convert::method::LinkMethod;
use crate::convert::refusal::write_error;
use crate::generated::link_capnp as schema;
use crate::{LinkService, RegionMessage, SnapshotChunk, SnapshotKey, SnapshotOffer, WireError};
use capnp::any_pointer;

/// Words of an answer for each file that it names.
const FILE_WORDS: usize = 2;

/// A call of another store.
pub(super) enum LinkTask {
    Messages(Vec<RegionMessage>),
    SnapshotOffer(Box<SnapshotOffer>),
    SnapshotChunk(Box<SnapshotChunk>),
    SnapshotDone(SnapshotKey),
    SnapshotAbort(SnapshotKey),
    AllocateIds(u64),
}

/// What a call of another store came to.
pub(super) enum LinkReply {
    /// There is nothing to say.
    Empty,
    /// The link itself was refused.
    Refused(WireError),
    There(Result<Vec<(u64, u64)>, WireError>),
    Done(Result<(), WireError>),
    Ids(Result<u64, WireError>),
}

impl LinkTask {
    /// Reads a call's parameters.
    pub(super) fn read(method: LinkMethod, params: any_pointer::Reader<'_>) -> Result<Task, DecodeError> {
        Ok(Task::Link(match method {
            LinkMethod::Messages => {
                let params: schema::link::messages_params::Reader<'_> = params.get_as()?;
                Self::Messages(read_messages(params.get_messages()?)?)
            }
            LinkMethod::SnapshotOffer => Self::SnapshotOffer(Box::new(read_offer(params.get_as()?)?)),
            LinkMethod::SnapshotChunk => Self::SnapshotChunk(Box::new(read_chunk(params.get_as()?)?)),
            LinkMethod::SnapshotDone => Self::SnapshotDone(read_key(params.get_as()?)),
            LinkMethod::SnapshotAbort => Self::SnapshotAbort(read_key(params.get_as()?)),
            LinkMethod::AllocateIds => {
                let params: schema::link::allocate_ids_params::Reader<'_> = params.get_as()?;
                match params.get_count() {
                    0 => return Err(WireError::invalid("no id is asked for").into()),
                    count => Self::AllocateIds(count),
                }
            }
        }))
    }

    /// Does the call.
    pub(super) async fn run(self, link: &impl LinkService) -> LinkReply {
        match self {
            Self::Messages(messages) => {
                link.messages(messages);
                LinkReply::Empty
            }
            Self::SnapshotOffer(offer) => LinkReply::There(link.snapshot_offer(*offer).await),
            Self::SnapshotChunk(chunk) => LinkReply::Done(link.snapshot_chunk(*chunk).await),
            Self::SnapshotDone(key) => LinkReply::Done(link.snapshot_done(key).await),
            Self::SnapshotAbort(key) => {
                link.snapshot_abort(key);
                LinkReply::Empty
            }
            Self::AllocateIds(count) => LinkReply::Ids(link.allocate_ids(count).await),
        }
    }
}

impl LinkReply {
    /// The answer to a call that makes no sense: an exception where the method has no place for an error.
    pub(super) fn refusal(method: LinkMethod, error: WireError) -> Answer {
        match method {
            LinkMethod::Messages | LinkMethod::SnapshotAbort => Answer::Chunk(Err(error)),
            LinkMethod::SnapshotOffer => Answer::Link(Self::There(Err(error))),
            LinkMethod::SnapshotChunk | LinkMethod::SnapshotDone => Answer::Link(Self::Done(Err(error))),
            LinkMethod::AllocateIds => Answer::Link(Self::Ids(Err(error))),
        }
    }

    /// Words that the answer will take, roughly.
    pub(super) fn words(&self) -> usize {
        match self {
            Self::There(Ok(files)) => ANSWER_WORDS + FILE_WORDS * files.len(),
            _ => ANSWER_WORDS,
        }
    }

    /// Writes the answer.
    pub(super) fn write(&self, results: any_pointer::Builder<'_>) {
        match self {
            // A struct without fields, which a null pointer stands for.
            Self::Empty => {}
            Self::Refused(error) => {
                write_error(results.init_as::<schema::link_answer::Builder<'_>>().init_error(), error);
            }
            Self::There(answer) => write_offer_answer(results.init_as(), answer),
            Self::Done(answer) => write_done(results.init_as(), answer),
            Self::Ids(answer) => write_ids_answer(results.init_as(), answer),
        }
    }
}
