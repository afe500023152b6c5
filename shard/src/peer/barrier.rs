//! Which state a read may be answered from: a leader's own at once while its lease lasts, otherwise what was committed when a quorum has
//! confirmed that it still leads.
//!
//! Readers that come in one turn of the core share one question to the quorum. A follower asks the same through its leader; where a caller is
//! content with a state of bounded age, it remembers when it last asked.

use super::Peer;
use bytes::Bytes;
use pinion_raft::ReadState;
use pinion_runtime::Instant;
use pinion_runtime::mailbox::oneshot;
use pinion_types::LogIndex;
use std::time::Duration;

/// Ticks after which a question that nobody answered is given up; its readers ask again, perhaps elsewhere.
const PATIENCE_TICKS: u32 = 40;

type Reader = oneshot::Sender<()>;

/// Readers that wait for their index. Dropping one tells it to ask again.
pub(super) struct Reads {
    /// The number of the last question.
    questions: u64,
    unasked: Vec<Reader>,
    /// By the question's number, oldest first.
    asked: Vec<Question>,
    /// Readers whose index is known and not applied here yet, and when it was asked for.
    waiting: Vec<(LogIndex, Instant, Vec<Reader>)>,
    /// The tree has all that was acknowledged before this moment.
    fresh: Option<Instant>,
}

struct Question {
    number: u64,
    asked: Instant,
    ticks_left: u32,
    readers: Vec<Reader>,
}

impl Reads {
    /// No readers. The numbers of questions begin anywhere: an answer to this peer's life before, of the same store or on another core, must
    /// not be taken for one to a question of this life, which was asked later.
    pub(super) fn new() -> Self {
        Self {
            questions: pinion_runtime::random_u64(),
            unasked: Vec::new(),
            asked: Vec::new(),
            waiting: Vec::new(),
            fresh: None,
        }
    }

    /// Time passes.
    pub(super) fn tick(&mut self) {
        for question in &mut self.asked {
            question.ticks_left -= 1;
        }
        self.asked.retain(|question| question.ticks_left > 0);
    }

    fn tell(readers: Vec<Reader>) {
        for reader in readers {
            // Who gave up does not hear it.
            let _ = reader.send(());
        }
    }
}

impl Peer {
    /// Whether a read that begins now may be answered from the tree as it is.
    pub(crate) fn reads_at_once(&self) -> bool {
        if self.is_alone() {
            return true;
        }
        let lease = self.node.borrow().lease_read_index();
        lease.is_some_and(|index| index <= self.applied.get().0)
    }

    /// Whether the tree has all that was acknowledged up to `age_max` ago. It knows so of the moment at which it last asked.
    pub(crate) fn is_fresh(&self, age_max: Duration) -> bool {
        self.reads.borrow().fresh.is_some_and(|fresh| fresh.elapsed() <= age_max)
    }

    /// Asks for the word of a quorum. Resolves when the tree has all that was acknowledged before this call; canceled when leadership was lost,
    /// or nobody answered. The peer needs a turn.
    pub(crate) fn confirm_read(&self) -> oneshot::Receiver<()> {
        let (reader, confirmed) = oneshot::channel();
        self.reads.borrow_mut().unasked.push(reader);
        confirmed
    }

    /// Whether readers wait for the peer's next turn.
    pub(super) fn has_unasked_reads(&self) -> bool {
        !self.reads.borrow().unasked.is_empty()
    }

    /// Asks for the index of everybody who came since the last turn.
    pub(super) fn ask_reads(&self) {
        let mut reads = self.reads.borrow_mut();
        if reads.unasked.is_empty() {
            return;
        }
        reads.questions = reads.questions.wrapping_add(1);
        let (number, asked) = (reads.questions, pinion_runtime::now());
        let readers = std::mem::take(&mut reads.unasked);
        let context = Bytes::copy_from_slice(&number.to_le_bytes());
        // Who can't be asked for is dropped with its readers. A follower asks its leader.
        if self.node.borrow_mut().read_index(context).is_ok() {
            reads.asked.push(Question { number, asked, ticks_left: PATIENCE_TICKS, readers });
        }
    }

    /// Takes the answers.
    pub(super) fn take_read_states(&self, states: impl Iterator<Item = ReadState>) {
        let mut reads = self.reads.borrow_mut();
        for ReadState { index, context } in states {
            let Ok(number) = <[u8; 8]>::try_from(&context[..]).map(u64::from_le_bytes) else { continue };
            let Some(place) = reads.asked.iter().position(|question| question.number == number) else {
                continue;
            };
            let Question { asked, readers, .. } = reads.asked.remove(place);
            if index <= self.applied.get().0 {
                reads.fresh = reads.fresh.max(Some(asked));
                Reads::tell(readers);
            } else {
                reads.waiting.push((index, asked, readers));
            }
        }
    }

    /// Lets those read whose index is applied now.
    pub(super) fn release_reads(&self) {
        let mut reads = self.reads.borrow_mut();
        if reads.waiting.is_empty() {
            return;
        }
        let applied = self.applied.get().0;
        let mut fresh = reads.fresh;
        for (_, asked, readers) in reads.waiting.extract_if(.., |(index, ..)| *index <= applied) {
            fresh = fresh.max(Some(asked));
            Reads::tell(readers);
        }
        reads.fresh = fresh;
    }

    /// Sends every reader away: this peer applies nothing more that they could wait for.
    pub(super) fn drop_all_reads(&self) {
        self.drop_reads();
        self.reads.borrow_mut().waiting.clear();
    }

    /// Sends those away whose index is not known: this peer no longer leads.
    pub(super) fn drop_reads(&self) {
        let mut reads = self.reads.borrow_mut();
        reads.unasked.clear();
        reads.asked.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_a_life_before_belongs_to_no_question() {
        let numbers: std::collections::BTreeSet<_> = (0..100).map(|_| Reads::new().questions).collect();
        assert_eq!(numbers.len(), 100);
    }
}
