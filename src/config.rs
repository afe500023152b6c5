//! Every setting of a store. A flag wins over the environment, the environment over the file, the file over the default.

pub(crate) mod size;
mod sources;

use serde::{Deserialize, Serialize};
use size::Size;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The least memory that a store can be given, for each of its cores.
pub(crate) const MEMORY_PER_CORE_MIN: Size = Size(64 << 20);
/// Voters of a region at most that a store sees to by itself.
pub(crate) const REPLICAS_MAX: usize = 7;
/// Cores that a store may have.
pub(crate) const CORES_MAX: usize = 256;
/// Bytes that a key may be allowed to have: with what stands before and behind it, and encoded for transactions, a table must take it.
const KEY_MAX: u64 = 16 << 10;
const _: () = assert!((KEY_MAX / 8 + 1) * 9 + 16 <= pinion_engine::table::KEY_LEN_MAX as u64);

/// The settings of a store, as its TOML file holds them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the store keeps its data. No default: a server must be told. One directory is one store's alone.
    pub(crate) data_dir: PathBuf,
    /// Address of core 0's listener; core n listens on the port n above. Port 0 picks free ports. Default 127.0.0.1:20160. An
    /// address that others reach gives everybody who reaches it all the data: there is no authentication yet.
    pub(crate) listen: SocketAddr,
    /// Host, an IP address, under which other stores and clients reach this store. Default: that of `listen`. To be set where `listen` is a wildcard
    /// (`0.0.0.0`) or an address that others do not reach. Counterpart: TiKV's `advertise-addr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advertise: Option<IpAddr>,
    /// Address of a store whose cluster a new store is to join. Default: none, a new store makes a cluster of its own. Refused on a
    /// directory that belongs to a cluster already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) join: Option<SocketAddr>,
    /// Cores, each with a thread of its own. Default 0: as many as the machine has processors. Fewer leave processors idle; more than the
    /// machine has are refused unless `cpus` is `none`, because pinned threads would wait for each other.
    pub(crate) cores: usize,
    /// `auto` pins core n to the nth processor that this process may use; `none` pins nothing; a list (`0,2,4-6`) names the processors.
    /// Default `auto`. Unpinned, latencies grow where the machine is busy; pinned, two stores on the same processors slow each other.
    pub(crate) cpus: Cpus,
    /// Memory of the whole process in bytes, shared out to memtables, caches and buffers. Default 1G. Less than 64M a core is refused.
    /// Too small: more reads go to disk and more flushes write smaller tables. Too large: the operating system kills the store.
    /// Counterpart: RocksDB's `block_cache` plus `db_write_buffer_size`.
    pub(crate) memory: Size,
    /// Voters that each region which this store leads is given, where there are as many stores. Default 3; at most 7; 0 gives none, and leaves
    /// who keeps a region to `pinion cluster`. The same on every store of a cluster. It takes no voter away. Too small: a region is lost
    /// with fewer stores (of 1 or 2 voters none may be lost). Too large: each write is made so many times, and waits for most of them.
    /// Counterpart: PD's `max-replicas`.
    pub(crate) replicas: usize,
    /// What is logged to stderr: `error`, `warn`, `info`, `debug` or `trace`. Default `info`.
    pub(crate) log_level: LogLevel,
    /// The log of each core.
    pub(crate) log: LogSection,
    /// The trees.
    pub(crate) tree: TreeSection,
    /// The regions' Raft groups.
    pub(crate) raft: RaftSection,
    /// The regions.
    pub(crate) region: RegionSection,
    /// What callers may ask for.
    pub(crate) limits: LimitsSection,
}

/// Settings of each core's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSection {
    /// Bytes of a segment. Default 64M; at least 1M, and at least four times `limits.value_max`. Too small: segments change often, each
    /// change costing two syncs. Too large: space comes back late. Counterpart: raft-engine's `target-file-size`.
    pub(crate) segment_size: Size,
    /// Groups written at the same time. Default 2. One waits for every sync; more than four split the groups without shortening the wait.
    pub(crate) groups_in_flight: usize,
    /// Bytes of log that a restart may have to replay, for each core. Default 256M. Too small: memtables are flushed before they
    /// are full. Too large: a restart takes longer. While a peer is sent a snapshot, up to twice the snapshot's bytes more are kept.
    /// Counterpart: RocksDB's `max_total_wal_size`.
    pub(crate) replay_max: Size,
}

/// Settings of the trees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TreeSection {
    /// Bytes of one region's memtable before it is flushed. Default 0: an eighth of the core's memory, at most 64M. Too small: many
    /// small tables, more compaction. Too large: restarts and flushes take longer. Counterpart: RocksDB's `write_buffer_size`.
    pub(crate) memtable_size: Size,
    /// Bytes of a table block before compression. Default 4K. Small blocks make reads from disk cheap, large ones compress better.
    /// Counterpart: RocksDB's `block_size`.
    pub(crate) block_size: Size,
    /// Whether blocks are compressed with LZ4. Default true. Costs processor time on writes, saves disk.
    pub(crate) compress: bool,
}

/// Settings of the regions' Raft groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RaftSection {
    /// Entries that a region's log keeps below its applied index. Default 16384; at least 16. Too small: a follower that was away for a moment
    /// needs a snapshot. Too large: memory for the log's index. Counterpart: TiKV's `raft-log-gc-count-limit`.
    pub(crate) log_entries_max: u64,
    /// Bytes of entries that a region's log keeps below its applied index. Default 16M; at least 64K. As above, and too large: disk, and a
    /// restart takes longer. A slow follower is waited for up to four times as much, one that is sent a snapshot up to twice the snapshot's
    /// bytes more, and up to 16 times `log_entries_max`. Counterpart: TiKV's `raft-log-gc-size-limit`.
    pub(crate) log_size_max: Size,
    /// Bytes a second of each region snapshot that a core sends. Default 100M; 0 is no bound, else at least 1M. Too small: a new peer, or
    /// one that was away for long, is of no use for long. Too large: disk, network and processors are busy with it when callers need
    /// them. Counterpart: TiKV's `snap-io-max-bytes-per-sec`.
    pub(crate) snapshot_rate: Size,
}

/// Settings of the regions; to be the same on all stores of a cluster, since a region's leader goes by its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RegionSection {
    /// Bytes from which on a region is split in two, superseded versions not counted. Default 256M; at least 1M; 0 splits none by its size.
    /// Too small: many regions, each with a log, heartbeats and small tables of its own. Too large: one core and one leader have all the work, and
    /// a new peer waits long for its data. Counterpart: TiKV's `region-split-size`.
    pub(crate) split_size: Size,
    /// Keys from which on a region is split in two, every version of a transactional key counted. Default 2560000; at least 1000; 0 splits none by
    /// its keys. Too small and too large: as above. Counterpart: TiKV's `region-split-keys`.
    pub(crate) split_keys: u64,
}

/// What callers may ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "bounds end in max")]
pub(crate) struct LimitsSection {
    /// Bytes of a key. Default 4K, at most 16K. Longer keys are refused.
    pub(crate) key_max: Size,
    /// Bytes of a value. Default 8M. Longer values are refused. At most a quarter of a log segment.
    pub(crate) value_max: Size,
    /// Bytes of one message of a connection. Default 32M. A longer one closes its connection.
    pub(crate) message_max: Size,
    /// Bytes of a scan's answer. Default 4M. A scan that would bring more ends there and names the key to go on from.
    pub(crate) scan_bytes_max: Size,
    /// Bytes of calls under way on one core before it answers `serverBusy`. Default 64M. Too small: bursts are refused. Too large: a burst
    /// waits long and takes memory.
    pub(crate) inflight_bytes_max: Size,
    /// Calls under way on one core before it answers `serverBusy`. Default 16384.
    pub(crate) inflight_calls_max: usize,
    /// Calls under way on one connection before it is not read any further. Default 1024.
    pub(crate) connection_calls_max: usize,
    /// Seconds after which a connection without a call is closed. Default 3600. 0 keeps idle connections.
    pub(crate) idle_seconds_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 20160)),
            advertise: None,
            join: None,
            cores: 0,
            cpus: Cpus::Auto,
            memory: Size(1 << 30),
            replicas: 3,
            log_level: LogLevel::Info,
            log: LogSection::default(),
            tree: TreeSection::default(),
            raft: RaftSection::default(),
            region: RegionSection::default(),
            limits: LimitsSection::default(),
        }
    }
}

impl Default for LogSection {
    fn default() -> Self {
        Self { segment_size: Size(64 << 20), groups_in_flight: 2, replay_max: Size(256 << 20) }
    }
}

impl Default for TreeSection {
    fn default() -> Self {
        Self { memtable_size: Size(0), block_size: Size(4 << 10), compress: true }
    }
}

impl Default for RaftSection {
    fn default() -> Self {
        Self { log_entries_max: 16 << 10, log_size_max: Size(16 << 20), snapshot_rate: Size(100 << 20) }
    }
}

impl Default for RegionSection {
    fn default() -> Self {
        Self { split_size: Size(256 << 20), split_keys: 2_560_000 }
    }
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self {
            key_max: Size(4 << 10),
            value_max: Size(8 << 20),
            message_max: Size(32 << 20),
            scan_bytes_max: Size(4 << 20),
            inflight_bytes_max: Size(64 << 20),
            inflight_calls_max: 16 << 10,
            connection_calls_max: 1024,
            idle_seconds_max: 3600,
        }
    }
}

/// What is logged.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    /// What made something fail.
    Error,
    /// What somebody should look at.
    Warn,
    /// Start, stop, and what changed.
    #[default]
    Info,
    /// What happened on the way.
    Debug,
    /// Everything.
    Trace,
}

/// Which processors the cores run on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Cpus {
    /// Core n on the nth processor that the process may use.
    #[default]
    Auto,
    /// Where the operating system puts them.
    None,
    /// Core n on the nth of these.
    List(Vec<usize>),
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is neither `auto` nor `none` nor a list of processors (0,2,4-6)");
        match text {
            "auto" => return Ok(Self::Auto),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let mut named = Vec::new();
        for range in text.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let first: usize = first.trim().parse().map_err(|_| refused())?;
            let last: usize = last.trim().parse().map_err(|_| refused())?;
            if first > last || last - first >= CORES_MAX {
                return Err(refused());
            }
            named.extend(first..=last);
        }
        Ok(Self::List(named))
    }
}

impl TryFrom<String> for Cpus {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Cpus> for String {
    fn from(cpus: Cpus) -> Self {
        match cpus {
            Cpus::Auto => "auto".to_owned(),
            Cpus::None => "none".to_owned(),
            Cpus::List(list) => list.iter().map(usize::to_string).collect::<Vec<_>>().join(","),
        }
    }
}

/// Processors that this process may use.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl Config {
    /// The cores that the store has: as many as the setting says, or as the machine has.
    pub(crate) fn core_count(&self) -> usize {
        if self.cores == 0 { processors() } else { self.cores }
    }

    /// Reads the text of a configuration file.
    pub(crate) fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// What is wrong with the settings, all of it; empty when nothing is.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut demand = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        let cores = self.core_count();
        demand(cores <= CORES_MAX, format!("cores is {cores}: 1 to {CORES_MAX} are allowed"));
        demand(
            cores <= processors() || self.cpus == Cpus::None,
            format!(
                "cores is {cores}, and this process may use {} processors: use fewer cores, or set cpus to none",
                processors()
            ),
        );
        let least = Size(MEMORY_PER_CORE_MIN.0.saturating_mul(cores as u64));
        demand(
            self.memory >= least,
            format!(
                "memory is {}: {cores} cores need at least {least} ({MEMORY_PER_CORE_MIN} each)",
                self.memory
            ),
        );
        demand(
            self.replicas <= REPLICAS_MAX,
            format!("replicas is {}: 0 to {REPLICAS_MAX} are allowed", self.replicas),
        );
        if let Cpus::List(list) = &self.cpus {
            demand(list.len() >= cores, format!("cpus names {} processors for {cores} cores", list.len()));
        }
        problems.extend(self.storage_problems());
        problems.extend(self.raft_problems());
        problems.extend(self.limits_problems());
        problems
    }

    fn storage_problems(&self) -> Vec<String> {
        let (log, limits) = (&self.log, &self.limits);
        let mut problems = Vec::new();
        let mut demand = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        demand(
            log.segment_size.0 >= 1 << 20 && log.segment_size.0 >= 4 * limits.value_max.0,
            format!("log.segment_size is {}: at least 1M and four times limits.value_max", log.segment_size),
        );
        demand(
            log.segment_size.0.is_multiple_of(4096),
            "log.segment_size is not a multiple of 4096".to_owned(),
        );
        demand(
            (1..=32).contains(&log.groups_in_flight),
            "log.groups_in_flight: 1 to 32 are allowed".to_owned(),
        );
        demand(
            log.replay_max.0 >= 2 * log.segment_size.0,
            format!(
                "log.replay_max is {}: at least two segments ({} each)",
                log.replay_max, log.segment_size
            ),
        );
        demand(
            (1 << 10..=1 << 20).contains(&self.tree.block_size.0),
            format!("tree.block_size is {}: 1K to 1M are allowed", self.tree.block_size),
        );
        let region = &self.region;
        demand(
            region.split_size.0 == 0 || region.split_size.0 >= 1 << 20,
            format!("region.split_size is {}: 0, or at least 1M", region.split_size),
        );
        demand(
            region.split_keys == 0 || region.split_keys >= 1000,
            format!("region.split_keys is {}: 0, or at least 1000", region.split_keys),
        );
        problems
    }

    fn raft_problems(&self) -> Vec<String> {
        let raft = &self.raft;
        let mut problems = Vec::new();
        let mut demand = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        demand(
            raft.log_entries_max >= 16,
            format!("raft.log_entries_max is {}: at least 16", raft.log_entries_max),
        );
        demand(
            raft.log_size_max.0 >= 64 << 10,
            format!("raft.log_size_max is {}: at least 64K", raft.log_size_max),
        );
        demand(
            raft.snapshot_rate.0 == 0 || raft.snapshot_rate.0 >= 1 << 20,
            format!("raft.snapshot_rate is {}: 0, which is no bound, or at least 1M", raft.snapshot_rate),
        );
        problems
    }

    fn limits_problems(&self) -> Vec<String> {
        let limits = &self.limits;
        let mut problems = Vec::new();
        let mut demand = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        demand(
            (1..=KEY_MAX).contains(&limits.key_max.0),
            format!("limits.key_max is {}: 1 to {}", limits.key_max, Size(KEY_MAX)),
        );
        demand(limits.value_max.0 >= 1, "limits.value_max is 0".to_owned());
        demand(
            limits.message_max.0 >= limits.value_max.0 + limits.key_max.0 + 4096,
            format!(
                "limits.message_max is {}: a put of the largest key and value must fit",
                limits.message_max
            ),
        );
        demand(
            limits.inflight_bytes_max >= limits.message_max,
            format!(
                "limits.inflight_bytes_max is {}: the largest message must fit",
                limits.inflight_bytes_max
            ),
        );
        demand(limits.inflight_calls_max > 0, "limits.inflight_calls_max is 0".to_owned());
        demand(limits.connection_calls_max > 0, "limits.connection_calls_max is 0".to_owned());
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_reads_back_from_its_own_text() {
        let text = toml::to_string(&Config::default()).unwrap();
        assert_eq!(Config::from_toml(&text).unwrap(), Config::default());
        assert_eq!(Config { cores: 1, ..Config::default() }.problems(), [""; 0]);
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(Config::from_toml("memry = \"1G\"").is_err());
        assert!(Config::from_toml("[log]\nsegments = 3").is_err());
    }

    #[test]
    fn every_bad_setting_is_named() {
        let config = Config { cores: CORES_MAX + 1, cpus: Cpus::None, ..Config::default() };
        assert!(config.problems()[0].starts_with("cores is 257"));
        let config = Config { cores: 2, cpus: Cpus::None, memory: Size(1), ..Config::default() };
        assert!(config.problems()[0].contains("at least 128M"));
        let config = Config { cores: processors() + 1, memory: Size(1 << 40), ..Config::default() };
        assert!(config.problems()[0].contains("set cpus to none"));
        let region = RegionSection { split_size: Size((1 << 20) - 1), split_keys: 999 };
        let problems = Config { cores: 1, region, ..Config::default() }.problems();
        assert!(problems[0].starts_with("region.split_size") && problems[1].starts_with("region.split_keys"));
        let region = RegionSection { split_size: Size(0), split_keys: 0 };
        assert_eq!(Config { cores: 1, region, ..Config::default() }.problems(), [""; 0]);
        let limits = |key_max| LimitsSection { key_max: Size(key_max), ..LimitsSection::default() };
        assert_eq!(Config { cores: 1, limits: limits(KEY_MAX), ..Config::default() }.problems(), [""; 0]);
        let problems = Config { cores: 1, limits: limits(KEY_MAX + 1), ..Config::default() }.problems();
        assert!(problems[0].starts_with("limits.key_max is 16385: 1 to 16K"), "{problems:?}");
        let config = Config { cores: 1, replicas: REPLICAS_MAX + 1, ..Config::default() };
        assert!(config.problems()[0].starts_with("replicas is 8"));
    }

    #[test]
    fn processors_are_read_as_lists_and_ranges() {
        assert_eq!("0,2,4-6".parse::<Cpus>().unwrap(), Cpus::List(vec![0, 2, 4, 5, 6]));
        assert!("6-4".parse::<Cpus>().is_err() && "x".parse::<Cpus>().is_err());
    }
}
