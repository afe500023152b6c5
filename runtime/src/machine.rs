//! Starting the real machine: one glommio executor, on a thread of its own, for every core.

use crate::task::{LANES, Lanes};
use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};
use pinion_types::CoreId;
use std::future::Future;
use std::io;
use std::time::Duration;

/// Shares of the latency lane against those of the throughput lane.
const LATENCY_SHARES: usize = 1000;
const THROUGHPUT_SHARES: usize = 200;
/// How long a task of the latency lane may run before `should_yield` says so.
const PREEMPT_AFTER: Duration = Duration::from_micros(500);

/// Settings of the executors.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// The processor of each core; `None` leaves the thread where the operating system puts it.
    pub cpus: Vec<Option<usize>>,
    /// Bytes of memory that each core registers with io_uring. Counts against RLIMIT_MEMLOCK.
    pub io_memory_bytes: usize,
}

impl MachineConfig {
    /// `cores` executors, none of them pinned.
    pub fn unpinned(cores: usize) -> Self {
        Self { cpus: vec![None; cores], io_memory_bytes: 1 << 20 }
    }
}

/// Runs `core` once for each core, on its executor; returns when all have ended, with their results in the order of the cores.
///
/// # Errors
/// When an executor cannot start: io_uring refused, too little lockable memory, no such processor.
pub fn run<T, F, G>(config: &MachineConfig, core: G) -> io::Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
    G: FnOnce(CoreId) -> F + Clone + Send + 'static,
{
    let mut handles = Vec::new();
    for (index, cpu) in config.cpus.iter().enumerate() {
        let id = CoreId(u16::try_from(index).map_err(io::Error::other)?);
        let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
        let core = core.clone();
        let handle = LocalExecutorBuilder::new(placement)
            .name(&format!("core-{index}"))
            .io_memory(config.io_memory_bytes)
            .spawn(move || async move { in_lanes(core(id)).await })
            .map_err(io::Error::from)?;
        handles.push(handle);
    }
    handles.into_iter().map(|handle| handle.join().map_err(io::Error::from)).collect()
}

/// Runs one future on an unpinned executor on this thread: for tools and tests.
pub fn block_on<T: 'static>(future: impl Future<Output = T> + 'static) -> io::Result<T> {
    let executor =
        LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 20).make().map_err(io::Error::from)?;
    Ok(executor.run(in_lanes(future)))
}

/// Makes the thread's two queues and runs `future` in the latency lane.
async fn in_lanes<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
    let executor = glommio::executor();
    let latency = executor.create_task_queue(
        Shares::Static(LATENCY_SHARES),
        Latency::Matters(PREEMPT_AFTER),
        "latency",
    );
    let throughput =
        executor.create_task_queue(Shares::Static(THROUGHPUT_SHARES), Latency::NotImportant, "throughput");
    LANES.set(Some(Lanes { latency, throughput }));
    crate::spawn(future).await
}
