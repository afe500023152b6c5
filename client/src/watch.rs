//! Deadlines of calls. One task ticks for all of them: a timer for each call would cost more than the call.

use pinion_runtime::{Instant, now, sleep, spawn};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// How late a deadline may be noticed.
const TICK: Duration = Duration::from_millis(10);

/// Who waits until when.
#[derive(Clone, Default)]
pub(crate) struct Watch(Rc<RefCell<Seats>>);

#[derive(Default)]
struct Seats {
    all: Vec<Seat>,
    free: Vec<usize>,
    ticks: bool,
}

enum Seat {
    Free,
    Taken { deadline: Instant, waker: Waker },
    Over,
}

impl Watch {
    /// The future's result, or `None` when the deadline comes first.
    pub(crate) async fn until<T>(&self, deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut taken: Option<Taken> = None;
        poll_fn(|context| {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            let seat = taken.get_or_insert_with(|| self.take(deadline, context.waker()));
            if seat.is_over(context.waker()) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    fn take(&self, deadline: Instant, waker: &Waker) -> Taken {
        let mut seats = self.0.borrow_mut();
        let seat = Seat::Taken { deadline, waker: waker.clone() };
        let place = match seats.free.pop() {
            Some(place) => {
                seats.all[place] = seat;
                place
            }
            None => {
                seats.all.push(seat);
                seats.all.len() - 1
            }
        };
        if !seats.ticks {
            seats.ticks = true;
            drop(spawn(tick(self.clone())));
        }
        Taken { watch: self.clone(), place }
    }
}

/// A seat that is given back when this is dropped.
struct Taken {
    watch: Watch,
    place: usize,
}

impl Taken {
    fn is_over(&self, now_waits: &Waker) -> bool {
        match &mut self.watch.0.borrow_mut().all[self.place] {
            Seat::Taken { waker, .. } => {
                if !waker.will_wake(now_waits) {
                    waker.clone_from(now_waits);
                }
                false
            }
            Seat::Over | Seat::Free => true,
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut seats = self.watch.0.borrow_mut();
        seats.all[self.place] = Seat::Free;
        seats.free.push(self.place);
    }
}

/// Ends the waiting of those whose time is over, for as long as anybody waits.
async fn tick(watch: Watch) {
    loop {
        sleep(TICK).await;
        let now = now();
        let mut seats = watch.0.borrow_mut();
        if seats.free.len() == seats.all.len() {
            seats.ticks = false;
            return;
        }
        for seat in &mut seats.all {
            if let Seat::Taken { deadline, .. } = seat
                && *deadline <= now
                && let Seat::Taken { waker, .. } = std::mem::replace(seat, Seat::Over)
            {
                waker.wake();
            }
        }
    }
}
