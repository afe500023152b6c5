//! What a start finds on disk that no core of the store owns: logs of cores that there are no more, directories of regions that never came to be.
//!
//! A store that starts with fewer cores than before finds logs whose cores are gone. Core 0 opens each, applies what was committed, and moves the
//! regions to the cores that there are, as [`crate::relocate`] moves them: the new owner's log decides. When a log is empty its
//! directory gets another name in one step and is then removed, so that a crash in between leaves nothing that looks like a log.
//!
//! A region's directory without a record in any log was left by a step that a crash cut short; the engine removes it.

use crate::core::{Parts, Shard};
use crate::error::ShardError;
use crate::peer::Peer;
use crate::structures::Structures;
use pinion_engine::log::{Durability, Record};
use pinion_engine::{EngineOptions, Opening, core_directory, cores_directory};
use pinion_runtime::fs;
use pinion_types::map::HashMap;
use pinion_types::{CoreId, RegionId};
use std::path::Path;

/// What a directory is called whose removal has begun.
const REMOVED: &str = ".removed";

/// The log of a core that there is no more.
pub(crate) struct Orphan {
    pub(crate) core: CoreId,
    pub(crate) opening: Opening,
}

/// Opens the logs of cores from `cores` on.
pub(crate) async fn open_orphans(options: &EngineOptions, cores: usize) -> Result<Vec<Orphan>, ShardError> {
    let directory = cores_directory(&options.data_dir);
    let mut orphans = Vec::new();
    for name in names(&directory).await? {
        if name.ends_with(REMOVED) {
            remove(&directory.join(&name)).await?;
            continue;
        }
        let Ok(number) = name.parse::<u16>() else {
            log::warn!("{} is not a core's directory, and is left alone", directory.join(&name).display());
            continue;
        };
        if usize::from(number) >= cores {
            let core = CoreId(number);
            let mut options = EngineOptions { core, ..options.clone() };
            options.log.core = core;
            orphans.push(Orphan { core, opening: Opening::open(options).await? });
        }
    }
    orphans.sort_by_key(|orphan| orphan.core);
    Ok(orphans)
}

async fn names(directory: &Path) -> Result<Vec<String>, ShardError> {
    let failed = |error| pinion_engine::Error::io(directory, error);
    if !fs::exists(directory).await.map_err(failed)? {
        return Ok(Vec::new());
    }
    Ok(fs::read_dir(directory).await.map_err(failed)?.into_iter().map(|entry| entry.name).collect())
}

async fn remove(directory: &Path) -> Result<(), ShardError> {
    let failed = |error| pinion_engine::Error::io(directory, error);
    Ok(fs::remove_dir_all(directory).await.map_err(failed)?)
}

impl Shard {
    /// Moves the regions of the orphans' logs to this store's cores, and removes the logs.
    pub(crate) async fn adopt(
        &self,
        orphans: Vec<Orphan>,
        owners: &HashMap<RegionId, CoreId>,
    ) -> Result<(), ShardError> {
        let mut next = 0;
        for Orphan { core, opening } in orphans {
            // What must not come back is known to a log that stays, before the other one goes.
            for tombstone in Structures::decode(opening.structures())?.tombstones {
                let payload = tombstone.encode();
                let record = Record::Structure { payload: &payload };
                self.0.engine.log().append(&[record], Durability::Sync).await?;
            }
            let (engine, recovered) = opening.finish(|region| owners.get(&region) == Some(&core)).await?;
            log::info!("core {core} is gone; its {} regions move to the others", recovered.len());
            let orphan = Self::new(Parts {
                data_dir: self.0.data_dir.clone(),
                core,
                store: self.0.store,
                cluster: self.0.cluster,
                engine,
                limits: self.0.limits,
                mailbox: self.0.mailbox.clone(),
                tombstones: HashMap::default(),
                homes: HashMap::default(),
            });
            for region in recovered {
                let peer = Peer::recover(&orphan, region, false).await?;
                orphan.hold_peer(&peer);
            }
            // A split that was applied again has made more.
            for peer in orphan.peers() {
                let to = next % self.0.mailbox.cores();
                next += 1;
                let to = CoreId(u16::try_from(to).expect("cores are counted in u16"));
                orphan.hand_to(&peer, to, Some(self)).await?;
            }
            orphan.0.engine.close().await?;
            self.remove_core(core).await?;
        }
        Ok(())
    }

    async fn remove_core(&self, core: CoreId) -> Result<(), ShardError> {
        let data_dir = &self.0.engine.options().data_dir;
        let (directory, cores) = (core_directory(data_dir, core), cores_directory(data_dir));
        let removed = cores.join(format!("{core}{REMOVED}"));
        fs::rename(&directory, &removed)
            .await
            .map_err(|error| pinion_engine::Error::io(&directory, error))?;
        fs::sync_dir(&cores).await.map_err(|error| pinion_engine::Error::io(&cores, error))?;
        remove(&removed).await
    }
}
