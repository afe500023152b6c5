//! Removing regions, and what nobody owns.
//!
//! A region's stream goes from the log, and its owner's tombstone into it, in one append. Then its directory gets a name that no region has, so
//! that one of the same id may be made at once; and what is in it goes in the background, each table when nobody reads it any more. What a
//! crash leaves of it is in a directory without a record, or under that other name: a start removes both.

use super::incoming::incoming_directory;
use super::region::OpenRegion;
use super::snapshot::snapshots_directory;
use super::statistics::count;
use super::{Engine, regions_directory};
use crate::Error;
use crate::log::{Durability, Record};
use crate::tree::Files;
use bytes::Bytes;
use pinion_runtime::{Lane, fs, spawn_in};
use pinion_types::RegionId;
use std::io::ErrorKind::NotFound;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// What follows the id in the name of a directory whose region is gone.
const REMOVED: &str = ".removed";
/// How often it is looked whether the last reader of what is to be removed is gone.
const READERS_LOOK_EVERY: Duration = Duration::from_millis(20);

impl Engine {
    /// Removes a region: from here on nothing of it is in the log, and `tombstone`, what its owner wants to know of it ever after, is among the
    /// log's structure records. Waits until nothing flushes or compacts it. The caller has stopped appending to the region's stream; its tree
    /// can be read on, and what is written to it goes nowhere.
    ///
    /// A log of another core, where the region was before it came here, may not have heard that it left when the power goes: the tombstone
    /// should say the region's generation, and a start should not own a stream of the same or a lower one.
    ///
    /// # Errors
    /// When the region is not on this core, or the append fails. The region is then there as before.
    pub async fn remove_region(&self, id: RegionId, tombstone: Bytes) -> Result<(), Error> {
        let region = self.region(id).ok_or(Error::NoSuchRegion { region: id })?;
        let _held = self.hold(&region).await?;
        // Whoever looks for it meanwhile finds nothing, and so appends nothing behind its end.
        self.0.regions.borrow_mut().remove(&id);
        let records = [Record::Remove { stream: id }, Record::Structure { payload: &tombstone }];
        if let Err(error) = self.0.log.append(&records, Durability::Sync).await {
            self.0.regions.borrow_mut().insert(id, region.clone());
            return Err(error);
        }
        count(&self.0.counters.regions_removed);
        self.0.log.reclaim();
        self.set_aside(&region).await;
        Ok(())
    }

    /// Lets the files of a region that is no more go.
    async fn set_aside(&self, region: &Rc<OpenRegion>) {
        let files = region.tree.retire().await;
        self.remove_incoming(region.id).await;
        match self.rename_removed(region.id).await {
            Ok(directory) => {
                files.move_to(directory.clone());
                self.clear_in_background(files, Some(directory));
            }
            Err(error) => {
                // The directory has no record: a start removes it, and so does who makes a region of this id.
                files.give_up();
                log::warn!("region {} is removed, and its directory could not be: {error}", region.id);
            }
        }
    }

    async fn rename_removed(&self, id: RegionId) -> Result<PathBuf, Error> {
        let directory = self.region_directory(id);
        let failed = |source| Error::io(&directory, source);
        let mut number = 0;
        loop {
            let removed = directory.with_file_name(format!("{id}{REMOVED}{number}"));
            if !fs::exists(&removed).await.map_err(failed)? {
                fs::rename(&directory, &removed).await.map_err(failed)?;
                return Ok(removed);
            }
            number += 1;
        }
    }

    /// Removes what a retired tree leaves, each table when its last reader is gone, and then a directory, if one is given.
    pub(crate) fn clear_in_background(&self, files: Rc<Files>, directory: Option<PathBuf>) {
        let engine = self.clone();
        self.0.maintenance.begin_task();
        spawn_in(Lane::Throughput, async move {
            if let Err(error) = engine.clear(&files, directory.as_deref()).await {
                log::warn!(
                    "{}: what was removed will go with the next start: {error}",
                    error_place(directory)
                );
            }
            engine.0.maintenance.end_task();
        });
    }

    async fn clear(&self, files: &Rc<Files>, directory: Option<&Path>) -> Result<(), Error> {
        // Tables and the tree share the files' list until the last of them is gone.
        while Rc::strong_count(files) > 1 || files.has_obsolete() {
            if self.0.closing.get() {
                return Ok(());
            }
            files.purge().await?;
            pinion_runtime::sleep(READERS_LOOK_EVERY).await;
        }
        match directory {
            Some(directory) => remove_directory(directory).await,
            None => Ok(()),
        }
    }
}

fn error_place(directory: Option<PathBuf>) -> String {
    directory.map_or_else(|| "a region".to_owned(), |directory| directory.display().to_string())
}

/// Removes a directory and the files in it, which nobody has open, the large ones a part at a time. One that is not there is removed already.
pub(crate) async fn remove_directory(directory: &Path) -> Result<(), Error> {
    let failed = |source| Error::io(directory, source);
    let entries = match fs::read_dir(directory).await {
        Err(error) if error.kind() == NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
        match fs::remove_large_file(directory.join(&entry.name)).await {
            Err(error) if error.kind() != NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    fs::remove_dir_all(directory).await.map_err(failed)
}

/// Removes directories below `data_dir` that belong to no region that a log holds: left by steps that a crash cut short, and by removals.
/// To be called at a start, when all logs are open and before any region is made.
///
/// # Errors
/// When a directory cannot be read or removed.
pub async fn remove_strays(data_dir: &Path, is_owned: impl Fn(RegionId) -> bool) -> Result<(), Error> {
    let directory = regions_directory(data_dir);
    for name in names(&directory).await? {
        let path = directory.join(&name);
        let is_removed = name
            .split_once('.')
            .is_some_and(|(id, rest)| id.parse::<u64>().is_ok() && rest.starts_with(&REMOVED[1..]));
        match name.parse::<u64>() {
            Ok(id) if is_owned(RegionId(id)) => {}
            Err(_) if !is_removed => {
                log::warn!("{} is not a region's directory, and is left alone", path.display());
            }
            _ => remove_directory(&path).await?,
        }
    }
    // Whoever was sent them has to be sent others.
    let directory = snapshots_directory(data_dir);
    for name in names(&directory).await? {
        remove_directory(&directory.join(name)).await?;
    }
    let directory = incoming_directory(data_dir);
    for name in names(&directory).await? {
        if !name.parse().is_ok_and(|id| is_owned(RegionId(id))) {
            remove_directory(&directory.join(name)).await?;
        }
    }
    Ok(())
}

/// The names in a directory; none when it is not there.
pub(super) async fn names(directory: &Path) -> Result<Vec<String>, Error> {
    match fs::read_dir(directory).await {
        Err(error) if error.kind() == NotFound => Ok(Vec::new()),
        Ok(entries) => Ok(entries.into_iter().map(|entry| entry.name).collect()),
        Err(error) => Err(Error::io(directory, error)),
    }
}
