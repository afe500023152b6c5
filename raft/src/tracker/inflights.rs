//! Append messages that were sent to a follower and not yet answered.

use std::collections::VecDeque;

use pinion_types::LogIndex;

/// Room that an idle window keeps, so that a steady flow allocates nothing.
const CAPACITY_KEPT: usize = 64;

/// A sliding window over unanswered append messages, bounded by their number and by their bytes.
#[derive(Clone, Debug, Default)]
pub struct Inflights {
    /// The last index and the bytes of each, in the order of sending.
    window: VecDeque<(LogIndex, u64)>,
    bytes: u64,
    messages_max: usize,
    bytes_max: u64,
}

impl Inflights {
    /// An empty window with these bounds.
    pub fn new(messages_max: usize, bytes_max: u64) -> Self {
        Self { window: VecDeque::new(), bytes: 0, messages_max, bytes_max }
    }

    /// Notes a message whose last entry is `index`. The window must not be full.
    pub fn add(&mut self, index: LogIndex, bytes: u64) {
        assert!(!self.is_full(), "an append was sent past a full window");
        self.window.push_back((index, bytes));
        self.bytes += bytes;
    }

    /// Frees all messages that end at or before `index`.
    pub fn free_through(&mut self, index: LogIndex) {
        while let Some((_, bytes)) = self.window.pop_front_if(|(last, _)| *last <= index) {
            self.bytes -= bytes;
        }
        if self.window.is_empty() && self.window.capacity() > CAPACITY_KEPT {
            self.window.shrink_to(CAPACITY_KEPT);
        }
    }

    /// Whether nothing more may be sent.
    pub fn is_full(&self) -> bool {
        self.window.len() >= self.messages_max || self.bytes >= self.bytes_max
    }

    /// How many messages are on their way.
    pub fn len(&self) -> usize {
        self.window.len()
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    /// Forgets all of them.
    pub fn reset(&mut self) {
        self.window.clear();
        self.window.shrink_to(CAPACITY_KEPT);
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_fills_by_number_or_bytes_and_frees_from_the_front() {
        let mut by_number = Inflights::new(3, u64::MAX);
        for index in 1..=3 {
            assert!(!by_number.is_full());
            by_number.add(LogIndex(index), 10);
        }
        assert!(by_number.is_full());
        by_number.free_through(LogIndex(2));
        assert_eq!(by_number.len(), 1);
        by_number.free_through(LogIndex(2));
        assert_eq!(by_number.len(), 1);

        let mut by_bytes = Inflights::new(100, 25);
        by_bytes.add(LogIndex(1), 20);
        assert!(!by_bytes.is_full());
        by_bytes.add(LogIndex(2), 20);
        assert!(by_bytes.is_full());
        by_bytes.free_through(LogIndex(1));
        assert!(!by_bytes.is_full());
        by_bytes.reset();
        assert!(by_bytes.is_empty());
    }
}
