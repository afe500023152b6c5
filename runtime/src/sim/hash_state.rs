//! The source of std's random hash state, overridden on simulator threads.
//!
//! Libraries iterate over std's hash maps, whose order comes from two numbers that std asks the operating system for, once for each thread.
//! It asks through the C library's `getrandom`, and a program that defines this symbol is asked instead. A thread that runs a simulation
//! gives seeded bytes; every other thread, and so every thread of a real store, gives those of the kernel.

use super::random::mix;
use std::cell::Cell;

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// Makes this thread's random bytes come from `seed`. To be called before the thread has made its first hash map.
pub(super) fn seed_this_thread(seed: u64) {
    SEED.set(Some(seed));
    let asked = ASKED.get();
    let _state = std::hash::RandomState::new();
    assert!(
        ASKED.get() > asked,
        "std did not ask the simulator for its random hash state: a hash map was made before, or std has another source by now"
    );
}

/// getrandom(2) for the whole program.
///
/// # Safety
/// As for getrandom(2): `buffer` is valid for writes of `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(
    buffer: *mut libc::c_void,
    len: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    let Some(seed) = SEED.get() else {
        // SAFETY: the caller's promise is the kernel's.
        let got = unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) };
        return libc::ssize_t::try_from(got).unwrap_or(-1);
    };
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<std::mem::MaybeUninit<u8>>(), len) };
    let mut asked = ASKED.get();
    for chunk in bytes.chunks_mut(8) {
        asked += 1;
        let number = mix(seed ^ mix(asked)).to_le_bytes();
        for (byte, random) in chunk.iter_mut().zip(number) {
            byte.write(random);
        }
    }
    ASKED.set(asked);
    libc::ssize_t::try_from(len).unwrap_or(libc::ssize_t::MAX)
}
