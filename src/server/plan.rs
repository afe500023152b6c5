//! Settings made into what each core gets.
//!
//! Memory is shared out so that the sum stays within the setting: of a core's part, a sixth is the memtables' budget (which writers
//! may pass by as much again, ever more slowly), two fifths are the block cache, an eighth at most is for calls under way, a
//! sixteenth at most for cached log entries; the rest is for compaction's buffers, connections and the program itself.

use crate::config::{Config, Cpus, processors};
use pinion_capnp::{Limits, RequestLimits};
use pinion_engine::EngineOptions;
use pinion_engine::log::LogConfig;
use pinion_engine::table::Compression;
use pinion_engine::tree::TreeOptions;
use pinion_runtime::machine::MachineConfig;
use pinion_shard::{AdmissionLimits, RaftTiming, ShardLimits};
use pinion_types::CoreId;
use std::time::Duration;

/// Bytes of buffers that each core registers with io_uring.
const IO_MEMORY_BYTES: usize = 512 << 10;
/// Bytes of a memtable at most, where no setting says otherwise.
const MEMTABLE_BYTES_MAX: usize = 64 << 20;
/// Bytes of cached log entries at most.
const ENTRY_CACHE_BYTES_MAX: usize = 16 << 20;
/// Manifest edits in the log before a tree's manifest file is written anew.
const EDITS_MAX: usize = 32;

/// Where the cores run.
pub(super) fn machine(config: &Config) -> MachineConfig {
    let cores = config.core_count();
    let cpus = match &config.cpus {
        Cpus::None => vec![None; cores],
        Cpus::List(list) => list.iter().copied().map(Some).take(cores).collect(),
        Cpus::Auto => {
            allowed_processors().into_iter().map(Some).chain(std::iter::repeat(None)).take(cores).collect()
        }
    };
    MachineConfig { cpus, io_memory_bytes: IO_MEMORY_BYTES }
}

/// The processors that this process may run on.
fn allowed_processors() -> Vec<usize> {
    let allowed = pinion_runtime::machine::allowed_processors();
    if allowed.is_empty() { (0..processors()).collect() } else { allowed }
}

fn part_of_core(config: &Config) -> usize {
    config.memory.bytes() / config.core_count()
}

/// The storage of one core.
pub(super) fn engine(config: &Config, core: CoreId) -> EngineOptions {
    let part = part_of_core(config);
    let memtable_bytes = match config.tree.memtable_size.bytes() {
        0 => (part / 12).min(MEMTABLE_BYTES_MAX),
        set => set.min(part / 6),
    };
    EngineOptions {
        data_dir: config.data_dir.clone(),
        core,
        log: LogConfig {
            core,
            segment_bytes: config.log.segment_size.0,
            groups_in_flight_max: config.log.groups_in_flight,
            cache_bytes: (part / 16).min(ENTRY_CACHE_BYTES_MAX),
            segments_kept: usize::try_from(config.log.replay_max.0 / config.log.segment_size.0)
                .unwrap_or(usize::MAX),
            ..LogConfig::default()
        },
        tree: TreeOptions {
            memtable_bytes,
            table_bytes: (memtable_bytes as u64).max(4 << 20),
            block_size_bytes: config.tree.block_size.bytes(),
            compression_bottom: if config.tree.compress { Compression::Lz4 } else { Compression::None },
            ..TreeOptions::default()
        },
        cache_bytes: part / 5 * 2,
        memtables_bytes_max: part / 6,
        replay_bytes_max: config.log.replay_max.0,
        edits_max: EDITS_MAX,
    }
}

/// What one core accepts.
pub(super) fn shard(config: &Config) -> ShardLimits {
    let limits = &config.limits;
    ShardLimits {
        admission: AdmissionLimits {
            calls_max: limits.inflight_calls_max,
            bytes_max: limits
                .inflight_bytes_max
                .bytes()
                .min(part_of_core(config) / 8)
                .max(limits.message_max.bytes()),
        },
        log_entries_max: config.raft.log_entries_max,
        log_bytes_max: config.raft.log_size_max.0,
        scan_bytes_max: limits.scan_bytes_max.bytes(),
        snapshot_bytes_per_second: config.raft.snapshot_rate.0,
        region_split_bytes: config.region.split_size.0,
        region_split_keys: config.region.split_keys,
        replicas: config.replicas,
        raft: RaftTiming::default(),
    }
}

/// What one connection may do.
pub(super) fn connection(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        request: RequestLimits {
            key_bytes_max: limits.key_max.bytes(),
            value_bytes_max: limits.value_max.bytes(),
            scan_bytes_max: limits.scan_bytes_max.bytes(),
            ..RequestLimits::default()
        },
        message_bytes_max: limits.message_max.bytes(),
        calls_in_flight_max: limits.connection_calls_max,
        bytes_in_flight_max: limits.message_max.bytes(),
        idle_timeout: Duration::from_secs(limits.idle_seconds_max),
        ..Limits::default()
    }
}
