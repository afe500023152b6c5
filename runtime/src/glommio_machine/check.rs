//! Whether this machine lets the executors start, asked before they do: glommio itself goes on without registered buffers and only
//! logs it.

use crate::machine::{MachineConfig, MachineError};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Rings that glommio opens for an executor.
const RINGS: usize = 3;
/// What glommio asks of RLIMIT_MEMLOCK at the least.
const MEMLOCK_MIN_BYTES: u64 = 512 << 10;
/// What glommio registers at the least.
const IO_MEMORY_MIN_BYTES: usize = 64 << 10;
const PAGE_BYTES: usize = 4096;
/// `opcode`s of io_uring_register(2).
const REGISTER_BUFFERS: libc::c_long = 0;
const UNREGISTER_BUFFERS: libc::c_long = 1;
/// Size of `struct io_uring_params` in bytes, and of entries in the trial rings.
const PARAMS_BYTES: usize = 120;
const TRIAL_ENTRIES: libc::c_long = 8;

/// Tries what the executors of `config` will do: processors, rings, registered buffers.
pub(crate) fn check(config: &MachineConfig) -> Result<(), MachineError> {
    check_processors(config)?;
    let limit = memlock_limit()?;
    if limit < MEMLOCK_MIN_BYTES {
        return Err(MachineError::MemlockTooSmall { limit, needed: MEMLOCK_MIN_BYTES });
    }
    let bytes = config.io_memory_bytes.next_multiple_of(PAGE_BYTES).max(IO_MEMORY_MIN_BYTES);
    let cores = config.cpus.len();
    let memory = vec![0_u8; bytes];
    let mut rings = Vec::new();
    let mut result = Ok(());
    for _ in 0..cores * RINGS {
        let ring = open_ring()?;
        if let Err(source) = register(&ring, &memory) {
            let needed = (cores * RINGS * bytes) as u64;
            result = Err(MachineError::RegistrationRefused { source, needed, limit, cores });
            break;
        }
        rings.push(ring);
    }
    // Closing a ring gives its locked memory back some time later, unregistering at once; and the executors need it next.
    for ring in &rings {
        unregister(ring);
    }
    result
}

fn check_processors(config: &MachineConfig) -> Result<(), MachineError> {
    if config.cpus.is_empty() {
        return Err(MachineError::NoCores);
    }
    let allowed = allowed_processors().map_err(|source| MachineError::Limits { source })?;
    match config.cpus.iter().flatten().find(|cpu| !allowed.contains(cpu)) {
        Some(&cpu) => Err(MachineError::NoSuchProcessor { cpu, allowed }),
        None => Ok(()),
    }
}

/// The processors that this process may run on.
pub(crate) fn allowed_processors() -> io::Result<Vec<usize>> {
    // SAFETY: a zeroed set is an empty set; the call gets its address and size, and CPU_ISSET indexes below CPU_SETSIZE.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            return Err(io::Error::last_os_error());
        }
        let count = usize::try_from(libc::CPU_SETSIZE).unwrap_or_default();
        Ok((0..count).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect())
    }
}

fn memlock_limit() -> Result<u64, MachineError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is valid through the call.
    match unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } {
        0 => Ok(limit.rlim_cur),
        _ => Err(MachineError::Limits { source: io::Error::last_os_error() }),
    }
}

fn open_ring() -> Result<OwnedFd, MachineError> {
    let mut params = [0_u8; PARAMS_BYTES];
    // SAFETY: the kernel reads and writes one `struct io_uring_params`, all zeros asking for nothing special.
    let descriptor = unsafe { libc::syscall(libc::SYS_io_uring_setup, TRIAL_ENTRIES, params.as_mut_ptr()) };
    let descriptor = RawFd::try_from(descriptor).unwrap_or(-1);
    if descriptor < 0 {
        return Err(MachineError::IoUringRefused { source: io::Error::last_os_error() });
    }
    // SAFETY: the kernel has just opened this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn register(ring: &OwnedFd, memory: &[u8]) -> io::Result<()> {
    let buffer = libc::iovec { iov_base: memory.as_ptr().cast_mut().cast(), iov_len: memory.len() };
    // SAFETY: the kernel pins the memory that `buffer` describes; it outlives the registration, and no operation is ever
    // submitted on this ring.
    let result = unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), REGISTER_BUFFERS, &raw const buffer, 1)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn unregister(ring: &OwnedFd) {
    // SAFETY: the call takes no memory. A failure leaves the work to the descriptor's closing.
    unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            UNREGISTER_BUFFERS,
            std::ptr::null::<libc::iovec>(),
            0,
        );
    }
}
