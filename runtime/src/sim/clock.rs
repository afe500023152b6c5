//! A host's clocks: its monotonic clock may run fast or slow, its wall clock may jump besides.

use std::cell::Cell;

const MILLION: i64 = 1_000_000;
/// Wall-clock time of the world's beginning, in nanoseconds since the Unix epoch.
const WORLD_BEGINS: u64 = 1_800_000_000_000_000_000;

#[derive(Default)]
pub(super) struct Clock {
    /// World time and hardware time when the rate last changed.
    since: Cell<(u64, u64)>,
    /// Parts per million by which hardware time runs fast.
    drift_ppm: Cell<i64>,
    /// Hardware time and monotonic time when the host last started.
    started: Cell<(u64, u64)>,
    /// By how much the wall clock was moved.
    jumped: Cell<i64>,
}

impl Clock {
    /// The host starts at world time `now`; its monotonic clock then shows `reading`.
    pub(super) fn start(&self, now: u64, reading: u64) {
        self.started.set((self.hardware(now), reading));
    }

    pub(super) fn set_drift(&self, now: u64, ppm: i64) {
        assert!(ppm.abs() < MILLION / 2, "a clock that is off by {ppm} parts per million is no clock");
        self.since.set((now, self.hardware(now)));
        self.drift_ppm.set(ppm);
    }

    pub(super) fn jump(&self, nanos: i64) {
        self.jumped.set(self.jumped.get().saturating_add(nanos));
    }

    pub(super) fn monotonic(&self, now: u64) -> u64 {
        let (hardware, reading) = self.started.get();
        self.hardware(now).saturating_sub(hardware).saturating_add(reading)
    }

    pub(super) fn wall(&self, now: u64) -> u64 {
        (WORLD_BEGINS + self.hardware(now)).saturating_add_signed(self.jumped.get())
    }

    /// The world time at which this clock's monotonic reading will be `reading`, unless its rate changes.
    pub(super) fn world_time_of(&self, now: u64, reading: u64) -> u64 {
        let ahead = u128::from(reading.saturating_sub(self.monotonic(now)));
        let rate = u128::try_from(MILLION + self.drift_ppm.get()).expect("a clock runs forward");
        let world = (ahead * 1_000_000).div_ceil(rate);
        now.saturating_add(u64::try_from(world).unwrap_or(u64::MAX))
    }

    fn hardware(&self, now: u64) -> u64 {
        let (world, hardware) = self.since.get();
        let passed = u128::from(now - world);
        let rate = u128::try_from(MILLION + self.drift_ppm.get()).expect("a clock runs forward");
        hardware + u64::try_from(passed * rate / 1_000_000).expect("the world does not last that long")
    }
}
