//! Raw answers.

use super::method::RawMethod;
use super::refusal::{read_error, write_error};
use super::{DecodeError, list_length};
use crate::generated::raw_capnp as schema;
use crate::{OperationResult, Page, Pairs, RawAnswer, RawReply, Remaining, Results, WireError};
use bytes::Bytes;
use capnp::any_pointer;
use std::time::Duration;

/// Words of memory that an answer will take, roughly: enough that its message is of one piece.
pub(crate) fn answer_words(answer: &RawAnswer) -> usize {
    const FRAME: usize = 24;
    let bytes = match answer {
        Ok(RawReply::Value(value) | RawReply::Swap { previous: value, .. }) => {
            value.as_ref().map_or(0, Bytes::len)
        }
        Ok(RawReply::Done | RawReply::TimeToLive(_)) => 0,
        Ok(RawReply::Results(results)) => results.size_bytes() + results.len() * 24,
        Ok(RawReply::Page(page)) => page.pairs.size_bytes() + page.pairs.len() * 32,
        Err(_) => 1024,
    };
    FRAME + bytes / 8
}

/// Writes the answer to a call of `method`. A reply of another kind than the method asks for is a defect of the service, and is
/// answered as one.
pub(crate) fn write_answer(method: RawMethod, answer: &RawAnswer, mut results: any_pointer::Builder<'_>) {
    let mismatch;
    let error = match answer {
        Err(error) => error,
        Ok(reply) => {
            if write_reply(method, reply, &mut results) {
                return;
            }
            mismatch = WireError::Internal(format!("the answer to {method:?} is of another kind"));
            &mismatch
        }
    };
    write_error_answer(method, error, results);
}

fn write_error_answer(method: RawMethod, error: &WireError, results: any_pointer::Builder<'_>) {
    let builder = match method {
        RawMethod::Get => results.init_as::<schema::get_answer::Builder<'_>>().init_error(),
        RawMethod::Batch => results.init_as::<schema::batch_answer::Builder<'_>>().init_error(),
        RawMethod::BatchGet => results.init_as::<schema::batch_get_answer::Builder<'_>>().init_error(),
        RawMethod::Scan => results.init_as::<schema::scan_answer::Builder<'_>>().init_error(),
        RawMethod::CompareAndSwap => {
            results.init_as::<schema::compare_and_swap_answer::Builder<'_>>().init_error()
        }
        RawMethod::GetTtl => results.init_as::<schema::ttl_answer::Builder<'_>>().init_error(),
        RawMethod::Put
        | RawMethod::Delete
        | RawMethod::BatchPut
        | RawMethod::BatchDelete
        | RawMethod::DeleteRange => results.init_as::<schema::done_answer::Builder<'_>>().init_error(),
    };
    write_error(builder, error);
}

/// Writes a reply if it is of the kind that the method asks for.
fn write_reply(method: RawMethod, reply: &RawReply, results: &mut any_pointer::Builder<'_>) -> bool {
    let results = results.reborrow();
    match (method, reply) {
        (RawMethod::Get, RawReply::Value(value)) => {
            let mut builder = results.init_as::<schema::get_answer::Builder<'_>>();
            match value {
                None => builder.set_not_found(()),
                Some(value) => builder.set_value(value),
            }
        }
        (RawMethod::Put | RawMethod::Delete | RawMethod::DeleteRange, RawReply::Done) => {
            write_done(results.init_as(), &Ok(()));
        }
        (RawMethod::BatchPut | RawMethod::BatchDelete, RawReply::Results(list)) => {
            write_done(results.init_as(), &list.first_error().cloned().map_or(Ok(()), Err));
        }
        (RawMethod::Batch, RawReply::Results(list)) => {
            let builder = results.init_as::<schema::batch_answer::Builder<'_>>();
            write_results(builder.init_results(list_length(list.len())), list);
        }
        (RawMethod::BatchGet, RawReply::Results(list)) => {
            let builder = results.init_as::<schema::batch_get_answer::Builder<'_>>();
            write_values(builder.init_results(list_length(list.len())), list);
        }
        (RawMethod::Scan, RawReply::Page(page)) => {
            write_page(results.init_as::<schema::scan_answer::Builder<'_>>().init_page(), page);
        }
        (RawMethod::CompareAndSwap, RawReply::Swap { swapped, previous }) => {
            let builder = results.init_as::<schema::compare_and_swap_answer::Builder<'_>>();
            let mut outcome = builder.init_outcome();
            outcome.set_swapped(*swapped);
            match previous {
                None => outcome.init_previous().set_absent(()),
                Some(value) => outcome.init_previous().set_value(value),
            }
        }
        (RawMethod::GetTtl, RawReply::TimeToLive(remaining)) => {
            let mut builder = results.init_as::<schema::ttl_answer::Builder<'_>>();
            match remaining {
                Remaining::NotFound => builder.set_not_found(()),
                Remaining::Forever => builder.set_forever(()),
                Remaining::For(time) => {
                    builder.set_remaining_ms(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                }
            }
        }
        _ => return false,
    }
    true
}

pub(crate) fn write_done(mut builder: schema::done_answer::Builder<'_>, answer: &Result<(), WireError>) {
    match answer {
        Ok(()) => builder.set_done(()),
        Err(error) => write_error(builder.init_error(), error),
    }
}

fn write_results(
    mut list: capnp::struct_list::Builder<'_, schema::operation_result::Owned>,
    results: &Results,
) {
    for (index, result) in (0..).zip(results.iter()) {
        let mut entry = list.reborrow().get(index);
        match result {
            OperationResult::Done => entry.set_done(()),
            OperationResult::NotFound => entry.set_not_found(()),
            OperationResult::Value(value) => entry.set_value(value),
            OperationResult::Error(error) => write_error(entry.init_error(), error),
        }
    }
}

fn write_values(mut list: capnp::struct_list::Builder<'_, schema::get_answer::Owned>, results: &Results) {
    for (index, result) in (0..).zip(results.iter()) {
        let mut entry = list.reborrow().get(index);
        match result {
            OperationResult::Done | OperationResult::NotFound => entry.set_not_found(()),
            OperationResult::Value(value) => entry.set_value(value),
            OperationResult::Error(error) => write_error(entry.init_error(), error),
        }
    }
}

fn write_page(mut builder: schema::scan_answer::page::Builder<'_>, page: &Page) {
    if let Some(resume) = &page.resume {
        builder.set_resume_key(resume);
    }
    let mut list = builder.init_pairs(list_length(page.pairs.len()));
    for (index, (key, value)) in (0..).zip(page.pairs.iter()) {
        let mut pair = list.reborrow().get(index);
        pair.set_key(key);
        if !value.is_empty() {
            pair.set_value(value);
        }
    }
}

/// Reads the answer to a call of `method`.
pub(crate) fn read_answer(
    method: RawMethod,
    results: any_pointer::Reader<'_>,
) -> Result<RawAnswer, DecodeError> {
    let answer = match method {
        RawMethod::Get => match results.get_as::<schema::get_answer::Reader<'_>>()?.which()? {
            schema::get_answer::NotFound(()) => Ok(RawReply::Value(None)),
            schema::get_answer::Value(value) => Ok(RawReply::Value(Some(Bytes::copy_from_slice(value?)))),
            schema::get_answer::Error(error) => Err(read_error(error?)?),
        },
        RawMethod::Put | RawMethod::Delete | RawMethod::DeleteRange => {
            read_done(results.get_as()?)?.map(|()| RawReply::Done)
        }
        // The wire says it of the list as a whole; how many there were, the caller knows.
        RawMethod::BatchPut | RawMethod::BatchDelete => {
            read_done(results.get_as()?)?.map(|()| RawReply::Results(Results::default()))
        }
        RawMethod::Batch => match results.get_as::<schema::batch_answer::Reader<'_>>()?.which()? {
            schema::batch_answer::Results(list) => Ok(RawReply::Results(read_results(list?)?)),
            schema::batch_answer::Error(error) => Err(read_error(error?)?),
        },
        RawMethod::BatchGet => match results.get_as::<schema::batch_get_answer::Reader<'_>>()?.which()? {
            schema::batch_get_answer::Results(list) => Ok(RawReply::Results(read_values(list?)?)),
            schema::batch_get_answer::Error(error) => Err(read_error(error?)?),
        },
        RawMethod::Scan => match results.get_as::<schema::scan_answer::Reader<'_>>()?.which()? {
            schema::scan_answer::Page(page) => Ok(RawReply::Page(read_page(page)?)),
            schema::scan_answer::Error(error) => Err(read_error(error?)?),
        },
        RawMethod::CompareAndSwap => read_swap(results.get_as()?)?,
        RawMethod::GetTtl => match results.get_as::<schema::ttl_answer::Reader<'_>>()?.which()? {
            schema::ttl_answer::NotFound(()) => Ok(RawReply::TimeToLive(Remaining::NotFound)),
            schema::ttl_answer::Forever(()) => Ok(RawReply::TimeToLive(Remaining::Forever)),
            schema::ttl_answer::RemainingMs(ms) => {
                Ok(RawReply::TimeToLive(Remaining::For(Duration::from_millis(ms))))
            }
            schema::ttl_answer::Error(error) => Err(read_error(error?)?),
        },
    };
    Ok(answer)
}

pub(crate) fn read_done(
    reader: schema::done_answer::Reader<'_>,
) -> Result<Result<(), WireError>, DecodeError> {
    match reader.which()? {
        schema::done_answer::Done(()) => Ok(Ok(())),
        schema::done_answer::Error(error) => Ok(Err(read_error(error?)?)),
    }
}

fn read_swap(reader: schema::compare_and_swap_answer::Reader<'_>) -> Result<RawAnswer, DecodeError> {
    use schema::compare_and_swap_answer::outcome::previous::{Absent, Value};
    match reader.which()? {
        schema::compare_and_swap_answer::Error(error) => Ok(Err(read_error(error?)?)),
        schema::compare_and_swap_answer::Outcome(outcome) => {
            let previous = match outcome.get_previous().which()? {
                Absent(()) => None,
                Value(value) => Some(Bytes::copy_from_slice(value?)),
            };
            Ok(Ok(RawReply::Swap { swapped: outcome.get_swapped(), previous }))
        }
    }
}

fn read_results(
    list: capnp::struct_list::Reader<'_, schema::operation_result::Owned>,
) -> Result<Results, DecodeError> {
    use schema::operation_result::{Done, Error, NotFound, Value};
    let mut results = Results::new(list.len() as usize);
    for (index, entry) in list.iter().enumerate() {
        match entry.which()? {
            Done(()) => results.set_done(index),
            NotFound(()) => results.set_not_found(index),
            Value(value) => results.set_value(index, value?),
            Error(error) => results.set_error(index, read_error(error?)?),
        }
    }
    Ok(results)
}

fn read_values(
    list: capnp::struct_list::Reader<'_, schema::get_answer::Owned>,
) -> Result<Results, DecodeError> {
    use schema::get_answer::{Error, NotFound, Value};
    let mut results = Results::new(list.len() as usize);
    for (index, entry) in list.iter().enumerate() {
        match entry.which()? {
            NotFound(()) => results.set_not_found(index),
            Value(value) => results.set_value(index, value?),
            Error(error) => results.set_error(index, read_error(error?)?),
        }
    }
    Ok(results)
}

fn read_page(reader: schema::scan_answer::page::Reader<'_>) -> Result<Page, DecodeError> {
    let mut pairs = Pairs::default();
    for pair in reader.get_pairs()? {
        pairs.push(pair.get_key()?, pair.get_value()?);
    }
    let resume = reader.has_resume_key().then(|| reader.get_resume_key()).transpose()?;
    Ok(Page { pairs, resume: resume.map(<[u8]>::to_vec) })
}
