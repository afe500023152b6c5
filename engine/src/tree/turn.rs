//! Taking turns: one task at a time does what must not be done twice at once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// A right that one task of the core has at a time. Who waits is served in order.
#[derive(Default)]
pub(crate) struct Turn {
    taken: Cell<bool>,
    waiting: RefCell<VecDeque<Waker>>,
}

/// The right, until it is dropped.
pub(crate) struct TurnGuard(Rc<Turn>);

impl Turn {
    /// Waits for the turn.
    pub(crate) async fn take(self: &Rc<Self>) -> TurnGuard {
        std::future::poll_fn(|cx| {
            if self.taken.replace(true) {
                // Bounded by the tasks that exist; each waits with the waker of its last poll.
                self.waiting.borrow_mut().push_back(cx.waker().clone());
                Poll::Pending
            } else {
                Poll::Ready(TurnGuard(self.clone()))
            }
        })
        .await
    }
}

impl Drop for TurnGuard {
    fn drop(&mut self) {
        self.0.taken.set(false);
        // All are woken and the first to come takes it: one that is gone would otherwise lose the turn for all.
        let waiting = self.0.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }
}
