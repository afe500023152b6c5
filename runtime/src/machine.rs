//! Starting the real machine: one glommio executor, on a thread of its own, for every core.
//!
//! A core ends when its main future does: tasks that it spawned and that still run are **dropped** then, not awaited. A core that
//! stops cleanly joins its tasks before its main future returns.

use crate::glommio_machine::{check, executor};
use pinion_types::CoreId;
use std::future::Future;
use std::io;

/// Settings of the executors.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// The processor of each core; `None` leaves the thread where the operating system puts it.
    pub cpus: Vec<Option<usize>>,
    /// Bytes of memory that each core registers with io_uring, once for each of its three rings. Counts against RLIMIT_MEMLOCK.
    pub io_memory_bytes: usize,
}

impl MachineConfig {
    /// `cores` executors, none of them pinned.
    pub fn unpinned(cores: usize) -> Self {
        Self { cpus: vec![None; cores], io_memory_bytes: 1 << 20 }
    }
}

/// Why the real machine cannot start, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// The configuration names no core.
    #[error("no cores are configured; at least one is needed")]
    NoCores,
    /// A core is to be pinned to a processor that is not there, or that this process may not use.
    #[error(
        "there is no processor {cpu} for this process, which may use {allowed:?}; \
         name one of these, or leave the cores unpinned (--cpus none)"
    )]
    NoSuchProcessor {
        /// The processor asked for.
        cpu: usize,
        /// Those that the process may use.
        allowed: Vec<usize>,
    },
    /// The kernel opens no io_uring for this process.
    #[error("io_uring is refused ({source}): {}", io_uring_advice(source))]
    IoUringRefused {
        /// What the kernel said.
        source: io::Error,
    },
    /// RLIMIT_MEMLOCK is below what any executor needs.
    #[error(
        "only {limit} bytes may be locked in memory and at least {needed} are needed; raise RLIMIT_MEMLOCK: `ulimit -l` in a \
         shell, LimitMEMLOCK= in a systemd unit, memlock in /etc/security/limits.conf, --ulimit memlock=-1 for a container"
    )]
    MemlockTooSmall {
        /// RLIMIT_MEMLOCK in bytes.
        limit: u64,
        /// The least, in bytes.
        needed: u64,
    },
    /// The kernel does not register the executors' buffers.
    #[error(
        "the kernel refused to register buffers ({source}): {cores} cores lock {needed} bytes and RLIMIT_MEMLOCK is {limit}; {}",
        registration_advice(source)
    )]
    RegistrationRefused {
        /// What the kernel said.
        source: io::Error,
        /// Bytes that all cores lock together.
        needed: u64,
        /// RLIMIT_MEMLOCK in bytes.
        limit: u64,
        /// How many cores.
        cores: usize,
    },
    /// The operating system does not tell its limits.
    #[error("the process's limits cannot be read: {source}")]
    Limits {
        /// What the kernel said.
        source: io::Error,
    },
}

fn registration_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "allow io_uring_register in the container's seccomp profile, beside io_uring_setup and io_uring_enter"
        }
        _ => {
            "raise it (`ulimit -l`, LimitMEMLOCK= in a systemd unit, memlock in /etc/security/limits.conf, --ulimit memlock=-1 for a \
             container) or lower the cores' registered memory"
        }
    }
}

fn io_uring_advice(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "set the sysctl kernel.io_uring_disabled to 0, and allow io_uring_setup, io_uring_enter and io_uring_register in the \
             container's seccomp profile"
        }
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring; Linux 5.8 or newer with CONFIG_IO_URING is needed, and a sandbox that emulates the kernel does not do"
        }
        Some(libc::ENOMEM) => "raise RLIMIT_MEMLOCK, to which the rings' memory counts",
        Some(libc::EMFILE | libc::ENFILE) => "raise the number of open files, RLIMIT_NOFILE",
        _ => "see io_uring_setup(2)",
    }
}

impl From<MachineError> for io::Error {
    fn from(error: MachineError) -> Self {
        Self::other(error)
    }
}

/// Whether one unpinned core of default size can start on this machine; the error says what to set.
pub fn check() -> Result<(), MachineError> {
    check_config(&MachineConfig::unpinned(1))
}

/// Whether the cores of `config` can start on this machine, by trying; the error says what to set.
pub fn check_config(config: &MachineConfig) -> Result<(), MachineError> {
    check::check(config)
}

/// The processors that this process may run on; none where the system does not tell.
pub fn allowed_processors() -> Vec<usize> {
    check::allowed_processors().unwrap_or_default()
}

/// Runs `core` once for each core, on its executor; returns when all have ended, with their results in the order of the cores.
///
/// # Errors
/// When an executor cannot start: io_uring refused, too little lockable memory, no such processor. The error holds a [`MachineError`].
pub fn run<T, F, G>(config: &MachineConfig, core: G) -> io::Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
    G: FnOnce(CoreId) -> F + Clone + Send + 'static,
{
    refuse_in_simulator();
    check_config(config)?;
    executor::run(config, &core)
}

/// Runs one future on an unpinned executor on this thread: for tools and tests. Unlike [`run`] it also starts where the kernel
/// refuses to register buffers, only slower.
pub fn block_on<T: 'static>(future: impl Future<Output = T> + 'static) -> io::Result<T> {
    refuse_in_simulator();
    let config = MachineConfig::unpinned(1);
    match check_config(&config) {
        // Tests that run side by side share the limit on locked memory.
        Ok(()) | Err(MachineError::RegistrationRefused { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    executor::block_on(config.io_memory_bytes, future)
}

fn refuse_in_simulator() {
    assert!(!crate::sim::is_simulated(), "the simulator starts cores itself; see sim::Host::spawn_core");
}
