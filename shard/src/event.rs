//! A bell for one waiting task of the same core.

use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};

/// Rung by anybody, heard by one task. Ringing twice before it is heard is ringing once.
#[derive(Debug, Default)]
pub(crate) struct Event {
    rung: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Event {
    /// Wakes the task that waits, or the next that will.
    pub(crate) fn ring(&self) {
        self.rung.set(true);
        let waiting = self.waiting.borrow_mut().take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// Waits for the next ring, or returns at once when it rang since the last wait.
    pub(crate) async fn wait(&self) {
        std::future::poll_fn(|cx| {
            if self.rung.take() {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
