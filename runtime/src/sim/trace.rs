//! What happened, as a hash that two runs can compare, and on demand as text.

use super::random::mix;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// What an event was.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Poll = 1,
    Spawn,
    End,
    Submit,
    Complete,
    Connect,
    Packet,
    Send,
    Receive,
    Close,
    Crash,
    Start,
    Pause,
    Resume,
    Fault,
}

/// The running hash of all events; the last of them as text.
pub(super) struct Trace {
    hash: Cell<u64>,
    events: Cell<u64>,
    lines_max: usize,
    lines: RefCell<VecDeque<String>>,
}

impl Trace {
    pub(super) fn new(lines_max: usize) -> Self {
        Self { hash: Cell::new(0), events: Cell::new(0), lines_max, lines: RefCell::default() }
    }

    /// An event at virtual time `now`. What the numbers mean is the event's business.
    pub(super) fn event(&self, now: u64, kind: Kind, numbers: [u64; 3]) {
        let mut hash = self.hash.get() ^ now;
        for number in [kind as u64, numbers[0], numbers[1], numbers[2]] {
            hash = (hash.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.hash.set(hash);
        self.events.set(self.events.get() + 1);
        if self.lines_max > 0 {
            self.line(now, &format!("{kind:?} {:x} {:x} {:x}", numbers[0], numbers[1], numbers[2]));
        }
    }

    /// Text alone, for whoever reads: the hash has it in numbers.
    pub(super) fn note(&self, now: u64, text: impl FnOnce() -> String) {
        if self.lines_max > 0 {
            self.line(now, &text());
        }
    }

    fn line(&self, now: u64, text: &str) {
        let mut lines = self.lines.borrow_mut();
        if lines.len() == self.lines_max {
            lines.pop_front();
        }
        lines.push_back(format!("{:>6}.{:09} {text}", now / 1_000_000_000, now % 1_000_000_000));
    }

    pub(super) fn hash(&self) -> u64 {
        mix(self.hash.get())
    }

    pub(super) fn events(&self) -> u64 {
        self.events.get()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.borrow().iter().cloned().collect()
    }
}

/// A checksum of bytes for the trace: fast, and nothing more.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    const K: u64 = 0xd6e8_feb8_6659_fd93;
    let mut lanes = [bytes.len() as u64, 1, 2, 3];
    let (chunks, rest) = bytes.as_chunks::<32>();
    for chunk in chunks {
        let (words, _) = chunk.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = (*lane ^ u64::from_le_bytes(*word)).wrapping_mul(K).rotate_left(29);
        }
    }
    for &byte in rest {
        lanes[0] = (lanes[0] ^ u64::from(byte)).wrapping_mul(K).rotate_left(29);
    }
    lanes.into_iter().fold(0, |hash, lane| mix(hash ^ lane))
}
