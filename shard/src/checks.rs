//! What a call says of its region, held against what the region is; in the order in which the course checks.

use crate::peer::Peer;
use pinion_capnp::{Context, WireError};
use pinion_types::key::Zone;
use pinion_types::{Epoch, Region, StoreId, Term};

/// Which parts of the epoch a kind of request depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochCheck {
    /// None: compaction of the log.
    Nothing,
    /// The range: reads and writes.
    Version,
    /// The members: a change of peers.
    ConfVer,
    /// Both: a split, a transfer of leadership.
    Both,
}

/// Holds a request's epoch against the region's. Either way of differing is a mismatch; the answer carries the present region.
pub fn epoch(region: &Region, requested: Epoch, check: EpochCheck) -> Result<(), WireError> {
    let version =
        !matches!(check, EpochCheck::Version | EpochCheck::Both) || requested.version == region.epoch.version;
    let conf_ver = !matches!(check, EpochCheck::ConfVer | EpochCheck::Both)
        || requested.conf_ver == region.epoch.conf_ver;
    match version && conf_ver {
        true => Ok(()),
        false => Err(WireError::EpochNotMatch { current: vec![region.clone()] }),
    }
}

/// Demands that a stored key lies in `[start, end)` of the region.
pub fn key_in_region(region: &Region, stored_key: &[u8]) -> Result<(), WireError> {
    if region.contains(stored_key) {
        return Ok(());
    }
    Err(not_in_region(region, stored_key))
}

/// Demands that a stored key lies in `(start, end)` of the region: where it may be split.
pub fn key_in_region_exclusive(region: &Region, stored_key: &[u8]) -> Result<(), WireError> {
    if region.contains_exclusive(stored_key) {
        return Ok(());
    }
    Err(not_in_region(region, stored_key))
}

/// Demands that a stored key lies in `[start, end]` of the region: where a range may end.
pub fn key_in_region_inclusive(region: &Region, stored_key: &[u8]) -> Result<(), WireError> {
    if region.contains_inclusive(stored_key) {
        return Ok(());
    }
    Err(not_in_region(region, stored_key))
}

fn not_in_region(region: &Region, stored_key: &[u8]) -> WireError {
    WireError::KeyNotInRegion {
        key: Zone::Raw.caller_key(stored_key).unwrap_or(stored_key).to_vec(),
        region: region.id,
        start: region.start.clone(),
        end: region.end.clone(),
    }
}

/// Checks a call's context: store, leadership, peer, term, epoch.
pub(crate) fn context(peer: &Peer, store: StoreId, context: Option<&Context>) -> Result<(), WireError> {
    checked(peer, store, context, true)
}

/// The same for a read that any peer may answer.
pub(crate) fn replica_context(
    peer: &Peer,
    store: StoreId,
    context: Option<&Context>,
) -> Result<(), WireError> {
    checked(peer, store, context, false)
}

fn checked(peer: &Peer, store: StoreId, context: Option<&Context>, must_lead: bool) -> Result<(), WireError> {
    if let Some(addressed) = context.and_then(|context| context.peer)
        && addressed.store != store
    {
        return Err(WireError::StoreNotMatch { requested: addressed.store, actual: store });
    }
    let region = peer.region();
    if must_lead && !peer.is_leader() {
        return Err(peer.not_leader());
    }
    let Some(context) = context else { return Ok(()) };
    if let Some(addressed) = context.peer
        && addressed.id != peer.peer().id
    {
        return Err(WireError::invalid(format!(
            "peer {} was addressed; this store's peer of region {} is {}",
            addressed.id,
            region.id,
            peer.peer().id
        )));
    }
    if context.term != Term(0) && peer.term().0 > context.term.0 + 1 {
        return Err(WireError::StaleCommand);
    }
    context.epoch.map_or(Ok(()), |requested| epoch(&region, requested, EpochCheck::Version))
}
