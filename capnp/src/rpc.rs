//! Messages of Cap'n Proto's RPC protocol (rpc.capnp, level 1) as both ends of a connection write them.

use capnp::message::{Builder, HeapAllocator};
use capnp_rpc::rpc_capnp::{exception, message, return_};

/// A message with room for `words` words in its first segment.
pub(crate) fn message(words: usize) -> Builder<HeapAllocator> {
    let words = u32::try_from(words).unwrap_or(u32::MAX).min(1 << 24);
    Builder::new(HeapAllocator::new().first_segment_words(words))
}

/// Words of an exception's message, its text aside.
const EXCEPTION_WORDS: usize = 32;
/// Bytes of an exception's text at most.
const REASON_BYTES_MAX: usize = 4096;

/// An `Abort`: the connection ends, and why.
pub(crate) fn abort(reason: &str) -> Builder<HeapAllocator> {
    let mut builder = message(EXCEPTION_WORDS + reason.len() / 8);
    let exception = builder.init_root::<message::Builder<'_>>().init_abort();
    write_exception(exception, exception::Type::Failed, reason);
    builder
}

/// A `Return` with an exception.
pub(crate) fn exception(answer: u32, kind: exception::Type, reason: &str) -> Builder<HeapAllocator> {
    let mut builder = message(EXCEPTION_WORDS + reason.len() / 8);
    let mut returned = begin_return(&mut builder, answer);
    returned.set_no_finish_needed(true);
    write_exception(returned.init_exception(), kind, reason);
    builder
}

/// A `Return` of a call that its caller gave up.
pub(crate) fn canceled(answer: u32) -> Builder<HeapAllocator> {
    let mut builder = message(EXCEPTION_WORDS);
    let mut returned = begin_return(&mut builder, answer);
    returned.set_no_finish_needed(true);
    returned.set_canceled(());
    builder
}

/// The beginning of a `Return`.
pub(crate) fn begin_return(builder: &mut Builder<HeapAllocator>, answer: u32) -> return_::Builder<'_> {
    let mut returned = builder.init_root::<message::Builder<'_>>().init_return();
    returned.set_answer_id(answer);
    returned
}

fn write_exception(mut builder: exception::Builder<'_>, kind: exception::Type, reason: &str) {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    builder.set_reason(&reason[..end]);
    builder.set_type(kind);
}
