//! The operating system's clocks and glommio's timers.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the process first asked, by the clock that goes on while the machine sleeps: a lease must not outlast a suspension.
pub(crate) fn monotonic_nanos() -> u64 {
    static START: OnceLock<u64> = OnceLock::new();
    let now = boot_nanos();
    now.saturating_sub(*START.get_or_init(|| now))
}

fn boot_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// Wall-clock time since the Unix epoch.
pub(crate) fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Waits at least `duration`.
pub(crate) async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}
