//! Tasks of this core. A task stays on the core that spawned it.

use std::cell::Cell;
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

thread_local! {
    /// The queues of this thread's executor, once `machine` has made them.
    pub(crate) static LANES: Cell<Option<Lanes>> = const { Cell::new(None) };
}

/// The executor's queue for each lane.
#[derive(Clone, Copy)]
pub(crate) struct Lanes {
    pub(crate) latency: glommio::TaskQueueHandle,
    pub(crate) throughput: glommio::TaskQueueHandle,
}

/// A running task. Dropping the handle leaves the task running.
pub struct JoinHandle<T>(glommio::task::JoinHandle<T>);

impl<T> Future for JoinHandle<T> {
    type Output = T;

    /// The task's result.
    ///
    /// # Panics
    /// When the task panicked: a core does not go on without one of its tasks.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match Pin::new(&mut self.0).poll(cx) {
            Poll::Ready(Some(value)) => Poll::Ready(value),
            Poll::Ready(None) => panic!("a task was ended before its time"),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Starts a task in the latency lane. It runs on whether or not the handle is kept, as long as its core runs.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    spawn_in(Lane::Latency, future)
}

/// Starts a task in `lane`. It runs on whether or not the handle is kept, as long as its core runs.
pub fn spawn_in<T: 'static>(lane: Lane, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    let lanes = LANES.get().expect("tasks are spawned on a core's thread");
    let queue = match lane {
        Lane::Latency => lanes.latency,
        Lane::Throughput => lanes.throughput,
    };
    let task = glommio::spawn_local_into(future, queue).expect("the queues live as long as the executor");
    JoinHandle(task.detach())
}

/// Lets the other ready tasks of this core run.
pub async fn yield_now() {
    glommio::executor().yield_task_queue_now().await;
}

/// Whether this task has run long enough that it should yield. Cheap enough for inner loops.
pub fn should_yield() -> bool {
    glommio::executor().need_preempt()
}
