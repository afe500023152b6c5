//! A stopped store as a start would find it: nothing is changed, and nothing is opened for writing.

use super::manifest_file::ManifestFile;
use super::open::replay_edits;
use super::options::{core_directory, cores_directory, regions_directory};
use crate::Error;
use crate::log::{self, Examined};
use crate::manifest::TreeState;
use bytes::Bytes;
use pinion_runtime::fs;
use pinion_types::{CoreId, LogIndex, RegionId, Term};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A stopped store.
#[derive(Debug, Default)]
pub struct ExaminedStore {
    /// What each core's log holds, or what is wrong with it.
    pub cores: BTreeMap<CoreId, Result<Examined, Error>>,
    /// The regions that the logs name, or what is wrong with their manifests.
    pub regions: BTreeMap<RegionId, Result<ExaminedRegion, Error>>,
}

/// A region of a stopped store.
#[derive(Debug)]
pub struct ExaminedRegion {
    /// The core whose log has its highest generation.
    pub core: CoreId,
    /// How often it changed cores.
    pub generation: u64,
    /// Where its tables are.
    pub directory: PathBuf,
    /// The owner's description of it.
    pub meta: Bytes,
    /// Raft's hard state: term, vote (0 for none), commit index.
    pub hard_state: (Term, u64, LogIndex),
    /// The first and the last entry of its log.
    pub log: (LogIndex, LogIndex),
    /// Its tree.
    pub state: TreeState,
}

/// Reads logs and manifests of the store in `data_dir`. Tables are named by the regions' states; opening and verifying them is the caller's
/// matter.
///
/// # Errors
/// When the directories cannot be read. Damage of a part is in that part.
pub async fn examine(data_dir: &Path) -> Result<ExaminedStore, Error> {
    let mut store = ExaminedStore::default();
    let directory = cores_directory(data_dir);
    let failed = |source| Error::io(&directory, source);
    if !fs::exists(&directory).await.map_err(failed)? {
        return Ok(store);
    }
    for entry in fs::read_dir(&directory).await.map_err(failed)? {
        let Ok(number) = entry.name.parse() else { continue };
        let core = CoreId(number);
        let log = log::examine(&core_directory(data_dir, core).join("log"), core).await;
        store.cores.insert(core, log);
    }
    let mut owners: BTreeMap<RegionId, (u64, CoreId)> = BTreeMap::new();
    for (core, log) in &store.cores {
        for (region, stream) in log.iter().flat_map(|log| &log.recovered.streams) {
            let there = owners.entry(*region).or_insert((stream.generation, *core));
            if stream.generation > there.0 {
                *there = (stream.generation, *core);
            }
        }
    }
    for (region, (generation, core)) in owners {
        let Some(Ok(log)) = store.cores.get(&core) else { continue };
        let examined = examine_region(data_dir, region, generation, core, log).await;
        store.regions.insert(region, examined);
    }
    Ok(store)
}

async fn examine_region(
    data_dir: &Path,
    region: RegionId,
    generation: u64,
    core: CoreId,
    log: &Examined,
) -> Result<ExaminedRegion, Error> {
    let directory = regions_directory(data_dir).join(region.to_string());
    let stream = &log.recovered.streams[&region];
    let file = ManifestFile::read(&directory).await?.unwrap_or_default();
    let (state, meta) = replay_edits(file, stream)?;
    let log = (stream.compacted.0.next(), stream.last_index);
    Ok(ExaminedRegion { core, generation, directory, meta, hard_state: stream.hard_state, log, state })
}
