//! Tasks of this core. A task stays on the core that spawned it, and is dropped when the core's main future ends.

use crate::glommio_machine::task as real;
use crate::sim::{self, task as simulated};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Which of the core's two task queues a task runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    /// Requests, Raft, the log: whoever waits for an answer waits for these.
    #[default]
    Latency,
    /// Flush, compaction, snapshots, garbage collection.
    Throughput,
}

/// A running task. Dropping the handle leaves the task running.
pub struct JoinHandle<T>(Handle<T>);

enum Handle<T> {
    Real(real::JoinHandle<T>),
    Simulated(simulated::JoinHandle<T>),
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    /// The task's result.
    ///
    /// # Panics
    /// When the task panicked: a core does not go on without one of its tasks.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let polled = match &mut self.0 {
            Handle::Real(handle) => Pin::new(handle).poll(cx),
            Handle::Simulated(handle) => handle.poll(cx),
        };
        match polled {
            Poll::Ready(Some(value)) => Poll::Ready(value),
            Poll::Ready(None) => panic!("a task was ended before its time"),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Starts a task in the latency lane. It runs on whether or not the handle is kept, as long as its core's main future runs.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    spawn_in(Lane::Latency, future)
}

/// Starts a task in `lane`. It runs on whether or not the handle is kept, as long as its core's main future runs.
pub fn spawn_in<T: 'static>(lane: Lane, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    match sim::current() {
        // Virtual time knows no shares: any ready task may be next.
        Some(here) => JoinHandle(Handle::Simulated(here.spawn(future))),
        None => JoinHandle(Handle::Real(real::spawn_in(lane, future))),
    }
}

/// Lets the other ready tasks of this core run.
pub async fn yield_now() {
    if sim::is_simulated() { simulated::yield_now().await } else { real::yield_now().await }
}

/// Whether this task has run long enough that it should yield. Cheap enough for inner loops.
pub fn should_yield() -> bool {
    match sim::current() {
        Some(here) => here.should_yield(),
        None => real::should_yield(),
    }
}
