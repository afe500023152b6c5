//! Signals that ask the process to stop.

use futures_channel::oneshot;
use std::future::Future;

/// Resolves when SIGTERM or SIGINT arrives. To be called once, on the process's main thread, before any other thread starts: the
/// signals are then blocked in every thread and taken by one that only waits for them. A thread that is there before may get
/// the signal, which then ends the process.
pub fn stop_requested() -> impl Future<Output = &'static str> + Send {
    let (sender, receiver) = oneshot::channel();
    // SAFETY: the set is initialised by sigemptyset before use, and both calls get valid pointers.
    let set = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        set
    };
    std::thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: both pointers are valid through the call.
        unsafe { libc::sigwait(&raw const set, &raw mut signal) };
        let _ = sender.send(if signal == libc::SIGINT { "SIGINT" } else { "SIGTERM" });
    });
    async { receiver.await.unwrap_or("lost signal thread") }
}
