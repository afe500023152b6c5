//! Starting the executors.

use super::task::{LANES, Lanes};
use crate::machine::MachineConfig;
use glommio::{CpuSet, Latency, LocalExecutorBuilder, Placement, PoolPlacement, Shares};
use pinion_types::CoreId;
use std::future::Future;
use std::io;

/// Shares of the latency lane against those of the throughput lane.
const LATENCY_SHARES: usize = 1000;
const THROUGHPUT_SHARES: usize = 200;
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
        let core = core.clone();
        let handle = LocalExecutorBuilder::new(cpu.map_or(Placement::Unbound, Placement::Fixed))
            .name(&format!("core-{index}"))
            .io_memory(config.io_memory_bytes)
            .blocking_thread_pool_placement(helper_placement(*cpu))
            .spawn(move || async move { in_lanes(core(id)).await })
            .map_err(io::Error::from)?;
        handles.push(handle);
    }
    handles.into_iter().map(|handle| handle.join().map_err(io::Error::from)).collect()
}

/// One executor, on this thread.
pub(crate) fn block_on<T: 'static>(
    io_memory_bytes: usize,
    future: impl Future<Output = T> + 'static,
) -> io::Result<T> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(io_memory_bytes)
        .make()
        .map_err(io::Error::from)?;
    Ok(executor.run(in_lanes(future)))
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
async fn in_lanes<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
    let executor = glommio::executor();
    // Not `Latency::Matters`: its operations go to a ring of their own, which the sleeping executor watches by polling one ring from
    // another, and on a busy machine a completion there was missed about once in ten thousand sleeps: the core slept for ever.
    let latency =
        executor.create_task_queue(Shares::Static(LATENCY_SHARES), Latency::NotImportant, "latency");
    let throughput =
        executor.create_task_queue(Shares::Static(THROUGHPUT_SHARES), Latency::NotImportant, "throughput");
    LANES.set(Some(Lanes { latency, throughput }));
    crate::spawn(future).await
}
