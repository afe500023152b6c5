//! A better flag for glommio's rings.
//!
//! glommio opens its rings without flags. The kernel then interrupts a core for every completion, even while it runs and would look at
//! its rings soon anyway: each message that one core sends to another costs an interrupt between processors. With
//! `IORING_SETUP_COOP_TASKRUN` a running core is left alone and takes its completions on its next way out of the kernel.
//! The preemption timer's own interrupt is such a way, so that `should_yield` stays true to its time.
//!
//! glommio has no setting for it. Its C library opens rings through `__sys_io_uring_setup`, and a binary that is linked with
//! `--wrap=__sys_io_uring_setup` (the root package's build script does it) opens them through the function here instead. A binary
//! linked without it works as glommio left it, at about twice the cost of a message.

use std::ffi::{c_int, c_uint, c_void};

/// linux/io_uring.h; since Linux 5.19.
const IORING_SETUP_COOP_TASKRUN: u32 = 1 << 8;
/// A ring that is polled for completions interrupts nobody.
const IORING_SETUP_IOPOLL: u32 = 1 << 0;

/// The beginning of `struct io_uring_params`: all that is read or changed here.
#[repr(C)]
struct Parameters {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
}

/// `io_uring_setup` with the flag, and without it where the kernel does not know it. As the C library's own, it answers the
/// descriptor or -1 with `errno` set.
///
/// # Safety
/// `parameters` points to a whole `struct io_uring_params`, as the system call asks.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap___sys_io_uring_setup(entries: c_uint, parameters: *mut c_void) -> c_int {
    let setup = || {
        // SAFETY: the caller's promise is the system call's.
        let descriptor = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, parameters) };
        c_int::try_from(descriptor).unwrap_or(-1)
    };
    // SAFETY: the struct is whole, so its beginning is, and nobody else has it during the call.
    let flags = unsafe { &mut (*parameters.cast::<Parameters>()).flags };
    let asked = *flags;
    if asked & IORING_SETUP_IOPOLL == 0 {
        *flags |= IORING_SETUP_COOP_TASKRUN;
        let descriptor = setup();
        if descriptor >= 0 {
            return descriptor;
        }
        // SAFETY: as above; the kernel may have written to the struct meanwhile.
        unsafe { (*parameters.cast::<Parameters>()).flags = asked };
    }
    setup()
}
