//! Getting an executor over its first turn.
//!
//! An executor that glommio puts to sleep with tasks that could run is woken by timers (`executor.rs`). The first of them is started by a
//! task, and that task may be the one that was not run. So until it was, a thread sends the executor's thread a signal from time to
//! time, which ends the wait in the kernel. The signal does nothing else.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The default is to ignore it, and so it is free for this.
const SIGNAL: libc::c_int = libc::SIGURG;
/// How long an executor's start takes at most where the machine is idle.
const NUDGE_EVERY: Duration = Duration::from_millis(20);

/// Nudges a thread until it is told that the executor has started, or is dropped.
pub(super) struct Nudge {
    started: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// To be told that the executor has started.
pub(super) struct Started {
    started: Arc<AtomicBool>,
    nudging: thread::Thread,
}

impl Started {
    pub(super) fn tell(self) {
        self.started.store(true, Ordering::Release);
        self.nudging.unpark();
    }
}

impl Nudge {
    /// Nudges the thread that calls this.
    pub(super) fn this_thread() -> io::Result<Self> {
        handle_signal()?;
        let started = Arc::new(AtomicBool::new(false));
        // SAFETY: it has no requirements.
        let target = unsafe { libc::pthread_self() };
        let is_over = started.clone();
        let nudging = thread::Builder::new().name("nudge".to_owned()).spawn(move || {
            loop {
                thread::park_timeout(NUDGE_EVERY);
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                // SAFETY: the thread is there, because it waits for this one before it ends (`drop`).
                unsafe { libc::pthread_kill(target, SIGNAL) };
            }
        })?;
        Ok(Self { started, thread: Some(nudging) })
    }

    pub(super) fn started(&self) -> Started {
        let nudging = self.thread.as_ref().expect("it runs until it is dropped").thread().clone();
        Started { started: self.started.clone(), nudging }
    }
}

impl Drop for Nudge {
    fn drop(&mut self) {
        self.started.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to say.
            drop(thread.join());
        }
    }
}

/// A handler that does nothing: a signal that is ignored ends no wait.
fn handle_signal() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeros are a valid `sigaction`; without SA_RESTART, so that the wait ends. The handler touches nothing.
    let set = unsafe {
        (*action.as_mut_ptr()).sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigaction(SIGNAL, action.as_ptr(), ptr::null_mut())
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
