//! Tasks in glommio's two queues.

use crate::Instant;
use crate::task::Lane;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

thread_local! {
    /// When the running task last yielded.
    static SLICE_START: Cell<Instant> = const { Cell::new(Instant::from_nanos(0)) };
    /// How long it may run from then on.
    static SLICE: Cell<Duration> = const { Cell::new(SLICE_LATENCY) };
    /// The queues of this thread's executor, once `executor` has made them.
    pub(super) static LANES: Cell<Option<Lanes>> = const { Cell::new(None) };
}

/// The executor's queue for each lane.
#[derive(Clone, Copy)]
pub(super) struct Lanes {
    pub(super) latency: glommio::TaskQueueHandle,
    pub(super) throughput: glommio::TaskQueueHandle,
}

/// A running task. Dropping the handle leaves the task running.
pub(crate) struct JoinHandle<T>(glommio::task::JoinHandle<T>);

impl<T> Future for JoinHandle<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// Starts a task in `lane`.
pub(crate) fn spawn_in<T: 'static>(lane: Lane, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    let lanes = LANES.get().expect("tasks are spawned on a core's thread");
    let queue = match lane {
        Lane::Latency => lanes.latency,
        Lane::Throughput => lanes.throughput,
    };
    let task = glommio::spawn_local_into(future, queue).expect("the queues live as long as the executor");
    JoinHandle(task.detach())
}

/// How long a task of the latency lane may run before it should let others run.
const SLICE_LATENCY: Duration = Duration::from_micros(100);
/// How long one of the throughput lane may while the latency lane has something to do, and while it has not. A call takes several turns of the
/// reactor and waits that long at each: with 100 us, a flush beside 38,000 puts a second left no room to make up for a pause.
const SLICE_BESIDE: Duration = Duration::from_micros(40);
const SLICE_ALONE: Duration = Duration::from_micros(200);
/// A timer that is not over before the task waits for it, and is over when the reactor has looked at its rings.
const NEXT_TURN: Duration = Duration::from_micros(1);

/// Lets the other ready tasks of this core run, and those that become ready when the reactor looks at what has completed. Where one task
/// alone is ready, glommio's own yielding goes on with it, without a look, until the preemption timer fires.
///
/// The operating system's threads come first: where the device has no durable single writes, a synced write is completed by a kernel
/// thread, and a core that never sleeps would let it wait for the next tick of the scheduler, up to 4 ms.
pub(crate) async fn yield_now() {
    std::thread::yield_now();
    glommio::timer::Timer::new(NEXT_TURN).await;
    SLICE_START.set(crate::now());
    SLICE.set(next_slice());
}

/// How long the running task may run.
fn next_slice() -> Duration {
    let executor = glommio::executor();
    let lanes = LANES.get().expect("tasks run on a core's thread");
    if executor.current_task_queue() != lanes.throughput {
        return SLICE_LATENCY;
    }
    // The counters begin anew whenever they are asked for.
    let has_run = executor.task_queue_stats(lanes.latency).is_ok_and(|since| since.queue_selected() > 0);
    if has_run { SLICE_BESIDE } else { SLICE_ALONE }
}

/// Whether this task has run long enough that it should yield. A task that waited for something else than [`yield_now`] is told so once
/// more than need be.
pub(crate) fn should_yield() -> bool {
    crate::now().since(SLICE_START.get()) >= SLICE.get()
}
