//! The calls that a connection has in flight, polled in place.
//!
//! A call's place, its waker included, is used again for later calls, so that a call costs no allocation and no task. Wakers have to be
//! thread-safe by their contract, hence the atomics: a bit for each place, set by its waker and taken by the connection's turn.

use futures_util::task::{ArcWake, AtomicWaker, waker};
use pinion_types::map::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

/// Calls in flight, each known by its question.
pub(super) struct Calls<F> {
    places: Vec<Place<F>>,
    free: Vec<usize>,
    by_question: HashMap<u32, usize>,
    /// Places of calls that were never polled, in the order of the calls.
    fresh: Vec<usize>,
    /// Places of calls that are to be polled; the next one last.
    due: Vec<usize>,
    woken: Arc<Woken>,
    /// Bytes that all calls are charged.
    bytes: usize,
}

struct Place<F> {
    future: Pin<Box<Option<F>>>,
    waker: Waker,
    question: u32,
    bytes: usize,
}

/// Which places were woken, and the task that is to look at them.
struct Woken {
    bits: Vec<AtomicU64>,
    task: AtomicWaker,
}

struct PlaceWaker {
    woken: Arc<Woken>,
    place: usize,
}

impl ArcWake for PlaceWaker {
    fn wake_by_ref(waker: &Arc<Self>) {
        let bit = 1 << (waker.place % 64);
        let before = waker.woken.bits[waker.place / 64].fetch_or(bit, Ordering::AcqRel);
        if before & bit == 0 {
            waker.woken.task.wake();
        }
    }
}

impl<F: Future> Calls<F> {
    /// Room for `max` calls.
    pub(super) fn new(max: usize) -> Self {
        let bits = (0..max.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self {
            places: Vec::new(),
            free: Vec::new(),
            by_question: HashMap::default(),
            fresh: Vec::new(),
            due: Vec::new(),
            woken: Arc::new(Woken { bits, task: AtomicWaker::new() }),
            bytes: 0,
        }
    }

    /// How many calls are in flight.
    pub(super) fn len(&self) -> usize {
        self.by_question.len()
    }

    /// Bytes that they are charged.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the question is in flight.
    pub(super) fn contains(&self, question: u32) -> bool {
        self.by_question.contains_key(&question)
    }

    /// Adds a call, to be polled in the next turn.
    ///
    /// # Panics
    /// When there are as many as there is room for, or the question is in flight already: the caller looks first.
    pub(super) fn start(&mut self, question: u32, bytes: usize, future: F) {
        let index = self.free.pop().unwrap_or_else(|| self.add_place());
        let place = &mut self.places[index];
        place.question = question;
        place.bytes = bytes;
        place.future.as_mut().set(Some(future));
        self.bytes += bytes;
        let before = self.by_question.insert(question, index);
        assert!(before.is_none(), "question {question} is in flight already");
        self.fresh.push(index);
    }

    fn add_place(&mut self) -> usize {
        let place = self.places.len();
        assert!(place < self.woken.bits.len() * 64, "no more calls than there is room for");
        self.places.push(Place {
            future: Box::pin(None),
            waker: waker(Arc::new(PlaceWaker { woken: self.woken.clone(), place })),
            question: 0,
            bytes: 0,
        });
        place
    }

    /// Drops a call. Says whether it was in flight.
    pub(super) fn cancel(&mut self, question: u32) -> bool {
        let Some(index) = self.by_question.get(&question).copied() else { return false };
        self.remove(index);
        true
    }

    fn remove(&mut self, index: usize) {
        let place = &mut self.places[index];
        place.future.as_mut().set(None);
        self.bytes -= place.bytes;
        self.by_question.remove(&place.question);
        // A call canceled before its first turn leaves its place in `fresh`, where it must not be found twice.
        self.fresh.retain(|&fresh| fresh != index);
        self.free.push(index);
    }

    /// The next call that is done: its question and its result. New calls are polled first, in their order. `Pending` when every
    /// call that was woken has been polled; the task is woken when there is more to do.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<(u32, F::Output)> {
        loop {
            if self.due.is_empty() && !self.find_due(context) {
                return Poll::Pending;
            }
            while let Some(index) = self.due.pop() {
                let place = &mut self.places[index];
                let Some(future) = place.future.as_mut().as_pin_mut() else { continue };
                if let Poll::Ready(output) = future.poll(&mut Context::from_waker(&place.waker)) {
                    let question = place.question;
                    self.remove(index);
                    return Poll::Ready((question, output));
                }
            }
        }
    }

    /// Fills `due`, which is empty. Says whether there is anything in it.
    fn find_due(&mut self, context: &mut Context<'_>) -> bool {
        std::mem::swap(&mut self.due, &mut self.fresh);
        self.due.reverse();
        if !self.due.is_empty() {
            return true;
        }
        self.woken.task.register(context.waker());
        let used = self.places.len().div_ceil(64);
        for (word, bits) in self.woken.bits[..used].iter().enumerate() {
            if bits.load(Ordering::Acquire) == 0 {
                continue;
            }
            let mut left = bits.swap(0, Ordering::AcqRel);
            while left != 0 {
                self.due.push(word * 64 + left.trailing_zeros() as usize);
                left &= left - 1;
            }
        }
        !self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker;
    use pinion_runtime::mailbox::oneshot;

    fn poll<F: Future>(calls: &mut Calls<F>) -> Poll<(u32, F::Output)> {
        calls.poll_next(&mut Context::from_waker(&noop_waker()))
    }

    #[test]
    fn new_calls_are_polled_in_their_order() {
        let mut calls = Calls::new(100);
        for question in [5, 3, 9] {
            calls.start(question, 10, std::future::ready(question * 2));
        }
        assert_eq!(calls.bytes(), 30);
        for question in [5, 3, 9] {
            assert_eq!(poll(&mut calls), Poll::Ready((question, question * 2)));
        }
        assert!(poll(&mut calls).is_pending());
        assert_eq!((calls.len(), calls.bytes()), (0, 0));
    }

    #[test]
    fn only_woken_calls_are_polled_and_places_are_used_again() {
        let mut calls = Calls::new(200);
        for round in 0..3 {
            let senders: Vec<_> = (0..200)
                .map(|question| {
                    let (sender, receiver) = oneshot::channel();
                    calls.start(question, 1, receiver);
                    sender
                })
                .collect();
            assert!(poll(&mut calls).is_pending());
            for (question, sender) in (0..200).zip(senders).rev() {
                sender.send(round).unwrap();
                assert_eq!(poll(&mut calls), Poll::Ready((question, Ok(round))));
            }
        }
        assert_eq!(calls.places.len(), 200);
    }

    #[test]
    fn a_canceled_call_is_dropped_and_its_place_is_free() {
        let mut calls = Calls::new(64);
        let (sender, receiver) = oneshot::channel::<()>();
        calls.start(1, 7, receiver);
        assert!(calls.cancel(1) && !calls.cancel(1));
        assert!(sender.is_canceled());
        assert_eq!((calls.len(), calls.bytes()), (0, 0));
        let (sender, receiver) = oneshot::channel::<()>();
        calls.start(1, 7, receiver);
        assert!(poll(&mut calls).is_pending());
        drop(sender);
        assert_eq!(poll(&mut calls), Poll::Ready((1, Err(oneshot::Canceled))));
        assert!(poll(&mut calls).is_pending());
    }
}
