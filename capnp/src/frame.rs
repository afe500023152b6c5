//! Messages in a stream of bytes: Cap'n Proto's standard framing.
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | number of segments, less one |
//! | 4 each | length of each segment in words of 8 bytes |
//! | 0 or 4 | padding to a whole word |
//! | 8 each word | the segments |
//!
//! All integers are little-endian. Received bytes stay where the socket put them: readers stand on the buffer.

use capnp::Word;
use capnp::message::{Allocator, Builder, ReaderOptions};
use capnp::serialize::NoAllocSliceSegments;

/// Bytes that a connection's buffers begin with.
const BUFFER_BYTES: usize = 16 << 10;
/// A buffer that grew beyond this goes back to its first size when it is empty.
const BUFFER_KEPT_BYTES_MAX: usize = 256 << 10;
/// Segments of a message at most; as the Cap'n Proto library has it.
const SEGMENTS_MAX: u32 = 512;
/// How much of a message may be read over again before it counts as an attack: a multiple of its size, and a little for small ones.
const TRAVERSAL_FACTOR: usize = 4;
const TRAVERSAL_WORDS_MIN: usize = 1024;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The message is larger than the limit.
    #[error("a message of {got} bytes is over the limit of {limit}")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
        /// The message's size in bytes.
        got: u64,
    },
    /// The message has more segments than any writer makes, or this is no Cap'n Proto.
    #[error("a message of {0} segments; this does not look like Cap'n Proto")]
    TooManySegments(u64),
}

/// A message's reader over the buffer that it came in.
pub(crate) type MessageReader<'a> = capnp::message::Reader<NoAllocSliceSegments<'a>>;

/// Bytes that came and are not yet understood. Messages begin on whole words.
#[derive(Default)]
pub(crate) struct ReceiveBuffer {
    words: Vec<Word>,
    /// What came and is not yet taken: `start..end`, in bytes. `start` is a multiple of a word.
    start: usize,
    end: usize,
}

impl ReceiveBuffer {
    /// Room for the socket to write to, never empty. Grows as bytes come, not as headers promise.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.words.len() * 8 > BUFFER_KEPT_BYTES_MAX || self.words.is_empty() {
                self.words = Word::allocate_zeroed_vec(BUFFER_BYTES / 8);
            }
        } else if self.start > 0 {
            Word::words_to_bytes_mut(&mut self.words).copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.words.len() * 8 {
            let mut larger = Word::allocate_zeroed_vec(self.words.len() * 2);
            larger[..self.words.len()].copy_from_slice(&self.words);
            self.words = larger;
        }
        &mut Word::words_to_bytes_mut(&mut self.words)[self.end..]
    }

    /// The socket wrote `count` bytes to the room.
    pub(crate) fn filled(&mut self, count: usize) {
        self.end += count;
        assert!(self.end <= self.words.len() * 8, "a socket writes no more than it was given room for");
    }

    /// The length in bytes of the first message, if it is there whole.
    pub(crate) fn first(&self, message_bytes_max: usize) -> Result<Option<usize>, FrameError> {
        let bytes = &Word::words_to_bytes(&self.words)[self.start..self.end];
        let Some(length) = message_length(bytes, message_bytes_max)? else { return Ok(None) };
        Ok((length <= bytes.len()).then_some(length))
    }

    /// A reader of the first `length` bytes, which `first` found to be a message.
    pub(crate) fn reader(&self, length: usize) -> capnp::Result<MessageReader<'_>> {
        let mut bytes = &Word::words_to_bytes(&self.words)[self.start..self.start + length];
        let options = ReaderOptions {
            traversal_limit_in_words: Some(length / 8 * TRAVERSAL_FACTOR + TRAVERSAL_WORDS_MIN),
            nesting_limit: 64,
        };
        capnp::serialize::read_message_from_flat_slice_no_alloc(&mut bytes, options)
    }

    /// Forgets the first `length` bytes.
    pub(crate) fn take(&mut self, length: usize) {
        self.start += length;
        assert!(self.start <= self.end, "only what came is taken");
    }
}

/// The length in bytes of the message that `bytes` begins with, header and all, once enough of the header is there.
fn message_length(bytes: &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
    let number = |index: usize| {
        let field: Option<[u8; 4]> =
            bytes.get(index * 4..index * 4 + 4).and_then(|field| field.try_into().ok());
        field.map(u32::from_le_bytes)
    };
    let Some(last) = number(0) else { return Ok(None) };
    if last >= SEGMENTS_MAX {
        return Err(FrameError::TooManySegments(u64::from(last) + 1));
    }
    let segments = last as usize + 1;
    let mut length = (segments / 2 + 1) as u64 * 8;
    for index in 1..=segments {
        let Some(words) = number(index) else { return Ok(None) };
        length += u64::from(words) * 8;
        if length > limit as u64 {
            return Err(FrameError::TooLarge { limit, got: length });
        }
    }
    Ok(usize::try_from(length).ok())
}

/// Bytes that are to go and that the socket has not taken yet.
#[derive(Default)]
pub(crate) struct SendBuffer {
    bytes: Vec<u8>,
    /// How many of them the socket has taken.
    taken: usize,
}

impl SendBuffer {
    /// Appends a message.
    pub(crate) fn push<A: Allocator>(&mut self, message: &Builder<A>) {
        let segments = message.get_segments_for_output();
        let number =
            |number: usize| u32::try_from(number).expect("segments are bounded by 32 bits").to_le_bytes();
        self.bytes.extend_from_slice(&number(segments.len() - 1));
        for segment in &*segments {
            self.bytes.extend_from_slice(&number(segment.len() / 8));
        }
        if segments.len().is_multiple_of(2) {
            self.bytes.extend_from_slice(&[0; 4]);
        }
        for segment in &*segments {
            self.bytes.extend_from_slice(segment);
        }
    }

    /// What the socket has not taken yet.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// How many bytes the socket has not taken yet.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// The socket took `count` bytes.
    pub(crate) fn taken(&mut self, count: usize) {
        self.taken += count;
        assert!(self.taken <= self.bytes.len(), "a socket takes no more than it was given");
        if self.taken < self.bytes.len() {
            return;
        }
        self.taken = 0;
        self.bytes.clear();
        if self.bytes.capacity() > BUFFER_KEPT_BYTES_MAX {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Builder<capnp::message::HeapAllocator> {
        let mut message = Builder::new_default();
        message.set_root::<capnp::text::Owned>(text).unwrap();
        message
    }

    fn text(buffer: &ReceiveBuffer, length: usize) -> String {
        let reader = buffer.reader(length).unwrap();
        reader.get_root::<capnp::text::Reader<'_>>().unwrap().to_string().unwrap()
    }

    #[test]
    fn messages_come_out_whole_whatever_the_pieces_they_came_in() {
        let mut sent = SendBuffer::default();
        let texts: Vec<String> = (0..40).map(|length| "x".repeat(length * 97)).collect();
        for text in &texts {
            sent.push(&message(text));
        }
        for piece in [1, 7, 8, 1000, 1 << 20] {
            let mut received = ReceiveBuffer::default();
            let mut read = Vec::new();
            for chunk in sent.pending().chunks(piece) {
                let mut rest = chunk;
                while !rest.is_empty() {
                    let spare = received.spare();
                    let count = rest.len().min(spare.len());
                    spare[..count].copy_from_slice(&rest[..count]);
                    received.filled(count);
                    rest = &rest[count..];
                    while let Some(length) = received.first(1 << 20).unwrap() {
                        read.push(text(&received, length));
                        received.take(length);
                    }
                }
            }
            assert_eq!(read, texts, "pieces of {piece}");
        }
    }

    #[test]
    fn a_message_of_several_segments_is_read() {
        let allocator = capnp::message::HeapAllocator::new()
            .first_segment_words(1)
            .allocation_strategy(capnp::message::AllocationStrategy::FixedSize);
        let mut message = Builder::new(allocator);
        message.set_root::<capnp::text::Owned>("two segments").unwrap();
        assert!(message.get_segments_for_output().len() > 1);
        let mut sent = SendBuffer::default();
        sent.push(&message);
        let mut received = ReceiveBuffer::default();
        received.spare()[..sent.len()].copy_from_slice(sent.pending());
        received.filled(sent.len());
        let length = received.first(1000).unwrap().unwrap();
        assert_eq!(length, sent.len());
        assert_eq!(text(&received, length), "two segments");
    }

    #[test]
    fn a_header_is_judged_before_its_message_is_there() {
        let header =
            |numbers: &[u32]| -> Vec<u8> { numbers.iter().flat_map(|number| number.to_le_bytes()).collect() };
        assert_eq!(message_length(&[], 100), Ok(None));
        assert_eq!(message_length(&header(&[1, 2]), 100), Ok(None));
        assert_eq!(message_length(&header(&[0, 2]), 100), Ok(Some(24)));
        assert_eq!(message_length(&header(&[1, 2, 3]), 100), Ok(Some(56)));
        assert_eq!(
            message_length(&header(&[0, 100]), 100),
            Err(FrameError::TooLarge { limit: 100, got: 808 })
        );
        assert_eq!(message_length(b"GET / HTTP/1.1", 100), Err(FrameError::TooManySegments(0x2054_4547 + 1)));
    }
}
