//! What a simulated world is like.

use std::ops::Range;
use std::time::Duration;

/// Settings of a simulation. Every choice that these leave open comes from the seed.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where every random choice comes from.
    pub seed: u64,
    /// What one poll of a task costs in virtual time; 200 ns by default. Besides this, time passes only when nothing is ready. With
    /// zero, a task that yields until a deadline never sees it.
    pub poll_cost: Duration,
    /// How long an operation of a disk takes; 20 to 200 µs by default. [`super::Host::set_io_latency`] changes it for one disk.
    pub io_latency: Range<Duration>,
    /// How much longer a write takes whose future was dropped; up to 20 ms by default, so that whoever uses its offset or its
    /// file too early is found out.
    pub dropped_write_delay: Range<Duration>,
    /// How long a packet travels between hosts; 50 to 500 µs by default.
    pub network_delay: Range<Duration>,
    /// How long it travels within a host; 5 to 20 µs by default.
    pub loopback_delay: Range<Duration>,
    /// Bytes that a connection holds in one direction, on the way and unread; 64 KiB by default.
    pub socket_buffer_bytes: usize,
    /// How often a read or a write of a socket transfers less than it could, in percent; 25 by default.
    pub short_transfer_percent: u32,
    /// How long a connection attempt waits for a host that does not answer; 10 s by default.
    pub connect_timeout: Duration,
    /// What a power cut does to what was not synced.
    pub crash: CrashOdds,
    /// Virtual time after which the run is given up, with a panic; one day by default.
    pub time_max: Duration,
    /// How many of the last events are kept as text; none by default. It costs most of the speed.
    pub trace_lines_max: usize,
}

impl Config {
    /// The default world, with all its choices from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            poll_cost: Duration::from_nanos(200),
            io_latency: Duration::from_micros(20)..Duration::from_micros(200),
            dropped_write_delay: Duration::ZERO..Duration::from_millis(20),
            network_delay: Duration::from_micros(50)..Duration::from_micros(500),
            loopback_delay: Duration::from_micros(5)..Duration::from_micros(20),
            socket_buffer_bytes: 64 << 10,
            short_transfer_percent: 25,
            connect_timeout: Duration::from_secs(10),
            crash: CrashOdds::default(),
            time_max: Duration::from_hours(24),
            trace_lines_max: 0,
        }
    }
}

/// What a power cut does, in percent. Each unsynced piece is decided by itself: this is what reorders them.
#[derive(Clone, Copy, Debug)]
pub struct CrashOdds {
    /// Unsynced writes that are lost whole; 35 by default.
    pub lost_percent: u32,
    /// Unsynced writes that are torn at sectors of 512 bytes; 30 by default. The others are kept.
    pub torn_percent: u32,
    /// Unsynced changes of a file's length that are lost; 50 by default.
    pub length_lost_percent: u32,
    /// Unsynced changes of names (creations, renames, links, removals) that are lost; 50 by default.
    pub entry_lost_percent: u32,
    /// Operations in flight that the disk had not begun; 50 by default. The others count as unsynced.
    pub in_flight_lost_percent: u32,
}

impl Default for CrashOdds {
    fn default() -> Self {
        Self {
            lost_percent: 35,
            torn_percent: 30,
            length_lost_percent: 50,
            entry_lost_percent: 50,
            in_flight_lost_percent: 50,
        }
    }
}

impl CrashOdds {
    /// All that was not synced is lost.
    pub fn lose_everything() -> Self {
        Self {
            lost_percent: 100,
            torn_percent: 0,
            length_lost_percent: 100,
            entry_lost_percent: 100,
            in_flight_lost_percent: 100,
        }
    }
}
