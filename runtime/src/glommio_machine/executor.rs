//! Starting the executors.

use super::nudge::{Nudge, Started};
use super::task::{LANES, Lanes};
use crate::machine::MachineConfig;
use glommio::{CpuSet, Latency, LocalExecutorBuilder, Placement, PoolPlacement, Shares};
use pinion_types::CoreId;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::time::Duration;

/// Shares of the latency lane against those of the throughput lane.
const LATENCY_SHARES: usize = 1000;
const THROUGHPUT_SHARES: usize = 200;
/// When the reactor looks at the latest, while tasks go on that make each other ready; who asks `should_yield` lets it look earlier. The
/// timer is armed at each turn. Where it would be the processor's next one, as with 1 ms, arming it is a hardware access, on a virtual machine
/// one that the host must serve: a synced write of one writer cost 72 us of processor time instead of 58.
const PREEMPT_AFTER: Duration = Duration::from_millis(10);
/// When an idle core wakes although nothing happened: after the first of these, or after the next when that did not help.
///
/// glommio goes to sleep with tasks that could run when its preemption timer fires after it was armed and before the first task has run,
/// for it then takes it that there was none to run (`run_task_queues` answers false). That happens whenever the operating system takes the
/// processor away in between, and on a busy machine the sleep would last until the next completion: with none to come, for ever. A
/// timer ends it. The task that renews the timer may be among those that were not run, so that one timer is not enough. Before the first turn
/// there is no timer yet: [`Nudge`] sees to that.
const WAKE_AFTER: [Duration; 6] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(80),
    Duration::from_millis(320),
    Duration::from_millis(1280),
    Duration::from_millis(5120),
];
/// Helper threads of a core, for metadata work.
const HELPER_THREADS: usize = 1;

/// One thread with an executor for each core; returns when all have ended.
pub(crate) fn run<T, F, G>(config: &MachineConfig, core: &G) -> io::Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
    G: FnOnce(CoreId) -> F + Clone + Send + 'static,
{
    let mut handles = Vec::new();
    for (index, cpu) in config.cpus.iter().enumerate() {
        let id = CoreId(u16::try_from(index).map_err(io::Error::other)?);
        let (core, cpu, io_memory_bytes) = (core.clone(), *cpu, config.io_memory_bytes);
        let handle = std::thread::Builder::new().name(format!("core-{index}")).spawn(move || {
            let builder = LocalExecutorBuilder::new(cpu.map_or(Placement::Unbound, Placement::Fixed))
                .io_memory(io_memory_bytes)
                .blocking_thread_pool_placement(helper_placement(cpu));
            run_here(builder, async move { core(id).await })
        })?;
        handles.push(handle);
    }
    let ended = handles.into_iter().map(|handle| match handle.join() {
        Ok(ended) => ended,
        Err(panic) => std::panic::resume_unwind(panic),
    });
    ended.collect()
}

/// One executor, on this thread.
pub(crate) fn block_on<T: 'static>(
    io_memory_bytes: usize,
    future: impl Future<Output = T> + 'static,
) -> io::Result<T> {
    run_here(LocalExecutorBuilder::new(Placement::Unbound).io_memory(io_memory_bytes), future)
}

/// Runs `future` on this thread to its end.
fn run_here<T: 'static>(
    builder: LocalExecutorBuilder,
    future: impl Future<Output = T> + 'static,
) -> io::Result<T> {
    let executor = builder.preempt_timer(PREEMPT_AFTER).make().map_err(io::Error::from)?;
    let nudge = Nudge::this_thread()?;
    let started = nudge.started();
    Ok(executor.run(in_lanes(started, future)))
}

/// Where a core's helper thread runs: on any processor but the core's own, where glommio would put it, and where it would take the
/// core's time.
fn helper_placement(cpu: Option<usize>) -> PoolPlacement {
    let Some(own) = cpu else {
        return PoolPlacement::Unbound(HELPER_THREADS);
    };
    let allowed = super::check::allowed_processors().unwrap_or_default();
    let others = CpuSet::online()
        .map(|online| online.filter(|location| location.cpu != own && allowed.contains(&location.cpu)));
    match others {
        Ok(others) if others.iter().next().is_some() => PoolPlacement::Fenced(HELPER_THREADS, others),
        // The only processor is the core's.
        _ => PoolPlacement::Unbound(HELPER_THREADS),
    }
}

/// Makes the thread's two queues and runs `future` in the latency lane.
async fn in_lanes<T: 'static>(started: Started, future: impl Future<Output = T> + 'static) -> T {
    let executor = glommio::executor();
    let latency =
        executor.create_task_queue(Shares::Static(LATENCY_SHARES), Latency::NotImportant, "latency");
    let throughput =
        executor.create_task_queue(Shares::Static(THROUGHPUT_SHARES), Latency::NotImportant, "throughput");
    LANES.set(Some(Lanes { latency, throughput }));
    // Ends with the core, as every task does.
    drop(crate::spawn(wake_idle_core(started)));
    crate::spawn(future).await
}

/// Keeps timers running; see [`WAKE_AFTER`].
async fn wake_idle_core(started: Started) {
    let mut started = Some(started);
    loop {
        let mut timers = WAKE_AFTER.map(glommio::timer::Timer::new);
        poll_fn(|context| {
            let [first, later @ ..] = &mut timers;
            // Polled so that they run; that one of them is over is no news.
            for timer in later {
                let _ = Pin::new(timer).poll(context);
            }
            let is_over = Pin::new(first).poll(context).map(drop);
            // From here on there are timers.
            if let Some(started) = started.take() {
                started.tell();
            }
            is_over
        })
        .await;
    }
}
