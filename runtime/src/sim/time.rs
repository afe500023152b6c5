//! Virtual time as the code on a host sees it.

use super::random::nanos;
use super::world::{Event, Here};
use std::cell::Cell;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// A sleep. The sleeper holds it too: when only the event is left, nobody waits.
pub(super) struct Timer {
    fired: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Timer {
    pub(super) fn fire(self: Rc<Self>) {
        self.fired.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn is_cancelled(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) == 1
    }
}

impl Here {
    pub(crate) fn monotonic_nanos(self) -> u64 {
        self.world.host(self.place.host).clock.monotonic(self.world.now())
    }

    pub(crate) fn wall_clock(self) -> Duration {
        Duration::from_nanos(self.world.host(self.place.host).clock.wall(self.world.now()))
    }

    pub(crate) fn random_u64(self) -> u64 {
        self.world.numbers.next()
    }

    /// Waits `duration` by the host's own clock.
    pub(crate) async fn sleep(self, duration: Duration) {
        let host = self.world.host(self.place.host);
        let deadline = host.clock.monotonic(self.world.now()).saturating_add(nanos(duration));
        // A clock that was slowed down meanwhile has not come to the deadline yet.
        loop {
            let at = host.clock.world_time_of(self.world.now(), deadline);
            let timer = Rc::new(Timer { fired: Cell::new(false), waker: Cell::new(None) });
            self.world.schedule(at, Event::Timer(timer.clone()));
            std::future::poll_fn(|cx| {
                if timer.fired.get() {
                    return Poll::Ready(());
                }
                timer.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            })
            .await;
            if host.clock.monotonic(self.world.now()) >= deadline {
                return;
            }
        }
    }
}
