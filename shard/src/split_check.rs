//! A region that has grown too large is split in two by its leader.
//!
//! To look costs a sum over the region's tables, of what is known of them in memory; nothing is read. Only of a region that is too large a key is
//! looked for: the tables' indexes say where half of the bytes lie, and one seek brings the key behind. Each core splits one region at a time, and
//! begins one in [`LOOK_EVERY`] at most. What counts is what compaction would leave: a region whose keys are written over and over would
//! otherwise be split for ever.
//!
//! What belongs together stays so: all versions of a transactional key, and the whole of the system's zone.

use crate::core::Shard;
use crate::error::ShardError;
use crate::peer::Peer;
use crate::service::wire_error;
use pinion_capnp::WireError;
use pinion_engine::tree::{Tree, TreeSize};
use pinion_runtime::Instant;
use pinion_types::key::{Escaped, Zone, inseparable};
use pinion_types::map::HashMap;
use pinion_types::{Region, RegionId};
use std::rc::Rc;
use std::time::Duration;

/// How often regions are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a region is left alone that could not be parted: one of few and giant keys, say.
const REST: Duration = Duration::from_mins(1);
/// Each half has at least one part in so many of the bytes; a split that leaves less is none.
const PARTS_MAX: u64 = 8;

impl Shard {
    /// Splits the regions that are too large and that this core leads, the largest first; for ever, unless
    /// the limits want no splits.
    pub(crate) async fn split_large_regions(self) {
        if self.0.limits.region_split_bytes == 0 && self.0.limits.region_split_keys == 0 {
            return;
        }
        let mut resting: HashMap<RegionId, Instant> = HashMap::default();
        while !self.0.stopping.get() {
            pinion_runtime::sleep(LOOK_EVERY).await;
            resting.retain(|_, begun| begun.elapsed() < REST);
            let Some(peer) = self.largest_of_large(&resting).await else { continue };
            match self.split_in_two(&peer).await {
                Ok(true) => {}
                Ok(false) => {
                    log::debug!("region {} is too large and can't be parted", peer.id());
                    resting.insert(peer.id(), pinion_runtime::now());
                }
                // The next look tries again.
                Err(error) => log::debug!("region {} is too large and is not split: {error}", peer.id()),
            }
        }
    }

    async fn largest_of_large(&self, resting: &HashMap<RegionId, Instant>) -> Option<Rc<Peer>> {
        let mut largest: Option<(u64, Rc<Peer>)> = None;
        for peer in self.peers() {
            if pinion_runtime::should_yield() {
                pinion_runtime::yield_now().await;
            }
            if !resting.contains_key(&peer.id()) && self.is_large(&peer) {
                let bytes = peer.tree().size().lasting_bytes;
                if largest.as_ref().is_none_or(|(most, _)| bytes > *most) {
                    largest = Some((bytes, peer));
                }
            }
        }
        largest.map(|(_, peer)| peer)
    }

    /// Whether this core leads the region, may split it now, and should.
    fn is_large(&self, peer: &Peer) -> bool {
        let is_ours = peer.serves() && !peer.is_joint() && !peer.is_gone() && !peer.is_installing();
        let is_over = |size: TreeSize| {
            let limits = &self.0.limits;
            (limits.region_split_bytes > 0 && size.lasting_bytes >= limits.region_split_bytes)
                || (limits.region_split_keys > 0 && size.lasting_keys >= limits.region_split_keys)
        };
        is_ours && is_over(peer.tree().size()) && may_be_split(&peer.region())
    }

    /// Splits a region near its middle. Whether it needs no rest: it was split, or is not that large after all.
    async fn split_in_two(&self, peer: &Rc<Peer>) -> Result<bool, WireError> {
        // What a memtable holds many versions of a table holds once; and the split itself then finds little to flush.
        let flushed = self.0.engine.flush_region(peer.id()).await;
        flushed.map_err(|error| wire_error(&error.into()))?;
        if !self.is_large(peer) {
            return Ok(true);
        }
        let region = peer.region().clone();
        let found = split_key(&peer.tree(), &region).await.map_err(|error| wire_error(&error))?;
        let Some(key) = found else { return Ok(false) };
        log::info!("region {} is too large and is split at {}", peer.id(), Escaped(&key));
        let made = self.split_here(peer.id(), vec![key]).await?;
        self.0.regions_split.update(|count| count + 1);
        self.spread(&made).await;
        Ok(true)
    }
}

/// Whether regions of the region's zone are split at all: what the system keeps is asked of one region's leader.
fn may_be_split(region: &Region) -> bool {
    let zones = [Zone::Raw, Zone::Transactional];
    region.start.first().is_some_and(|first| zones.iter().any(|zone| zone.prefix() == *first))
}

/// Where the region may be split so that both halves have their part of the bytes; `None` where it can't.
async fn split_key(tree: &Tree, region: &Region) -> Result<Option<Vec<u8>>, ShardError> {
    let whole = tree.approximate_size(&region.start, &region.end);
    let parts = |key: &[u8]| {
        let left = tree.approximate_size(&region.start, key);
        region.contains_exclusive(key) && left.min(whole.saturating_sub(left)) >= (whole / PARTS_MAX).max(1)
    };
    let begins = |key: &[u8]| inseparable(key).map(|together| together.start).filter(|start| parts(start));
    let middle = tree.split_key(&region.start, &region.end, 50).await?;
    let mut behind = None;
    if let Some(together) = middle.as_deref().and_then(inseparable) {
        if parts(&together.start) {
            return Ok(Some(together.start));
        }
        // Before the key that has the middle there is too little: behind it there may be enough.
        behind = tree.first_key(&together.end, &region.end).await?;
    }
    if let Some(start) = behind.as_deref().and_then(begins) {
        return Ok(Some(start));
    }
    // Or with the last one before the middle in the right half.
    let before = tree.last_key(&region.start, middle.as_ref().unwrap_or(&region.end)).await?;
    Ok(before.as_deref().and_then(begins))
}

#[cfg(test)]
mod tests;
