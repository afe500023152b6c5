//! Tasks in glommio's two queues.

use crate::Instant;
use crate::task::Lane;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

thread_local! {
    /// When the running task's slice began.
    static SLICE_START: Cell<Instant> = const { Cell::new(Instant::from_nanos(0)) };
    /// This thread's processor time then; nothing once the slice is known to be over.
    static SLICE_START_CPU: Cell<Option<Duration>> = const { Cell::new(Some(Duration::ZERO)) };
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

/// How long a task of the latency lane may run before it should let others run. Such tasks are short but for long scans and batches; letting
/// others run costs 20 to 40 us of processor time, most of it in the reactor's calls of the kernel.
const SLICE_LATENCY: Duration = Duration::from_micros(400);
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
    SLICE_START_CPU.set(Some(cpu_time()));
    SLICE.set(next_slice());
}

/// This thread's processor time.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    // It is never negative, and a clock's nanoseconds are less than a second.
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
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

/// Whether this task has run long enough that it should yield. A thread that slept for more than half of the time had little to do, and the
/// reactor looked then: a task that waits with each step, as one synced write after the other does, would otherwise yield with each step.
pub(crate) fn should_yield() -> bool {
    let now = crate::now();
    let elapsed = now.since(SLICE_START.get());
    if elapsed < SLICE.get() {
        return false;
    }
    let Some(started) = SLICE_START_CPU.get() else { return true };
    // Asking for processor time is a call of the kernel, made once a slice.
    let cpu_time = cpu_time();
    let is_over = cpu_time.saturating_sub(started) * 2 >= elapsed;
    if !is_over {
        SLICE_START.set(now);
    }
    SLICE_START_CPU.set((!is_over).then_some(cpu_time));
    is_over
}
