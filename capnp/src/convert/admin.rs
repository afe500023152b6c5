//! Admin calls and answers.

use super::refusal::{read_error, write_error};
use super::region::{read_peer, read_region, write_peer, write_region};
use super::request::too_large;
use super::{DecodeError, list_length, read_addresses, text, write_addresses};
use crate::generated::admin_capnp as schema;
use crate::{
    JoinRequest, Joined, PeerChange, PeerChangeKind, RegionInfo, RegionPage, RequestLimits, StoreInfo,
    StoreRecord, WireError,
};
use capnp::struct_list;
use pinion_types::{CoreId, LogIndex, PeerId, RegionId, StoreId, Term};
use std::time::Duration;

/// Most regions in one answer.
pub(crate) const REGIONS_MAX: u32 = 1000;
/// Most stores in one answer, more than any cluster has.
const STORES_MAX: u32 = 65_536;
/// Most changes of peers in one call, and most peers that may be pending.
const PEERS_MAX: u32 = 64;
/// Most keys to split at in one call.
const SPLIT_KEYS_MAX: u32 = 1000;

pub(crate) fn read_regions_request(
    reader: schema::regions_request::Reader<'_>,
) -> Result<(Vec<u8>, usize), DecodeError> {
    let limit = match reader.get_limit() {
        0 => REGIONS_MAX,
        limit => limit.min(REGIONS_MAX),
    };
    Ok((reader.get_start()?.to_vec(), limit as usize))
}

pub(crate) fn read_split_request(
    reader: schema::split_request::Reader<'_>,
    limits: &RequestLimits,
) -> Result<Vec<Vec<u8>>, DecodeError> {
    let keys = reader.get_keys()?;
    if keys.is_empty() {
        return Err(WireError::invalid("no key to split at").into());
    }
    if keys.len() > SPLIT_KEYS_MAX {
        return Err(WireError::TooLarge {
            what: "the number of keys to split at".into(),
            limit: SPLIT_KEYS_MAX.into(),
            got: keys.len().into(),
        }
        .into());
    }
    keys.iter()
        .map(|key| match key? {
            [] => Err(WireError::invalid("the key is empty").into()),
            key if key.len() > limits.key_bytes_max => {
                Err(too_large("a key's bytes", limits.key_bytes_max, key.len()).into())
            }
            key => Ok(key.to_vec()),
        })
        .collect()
}

pub(crate) fn write_regions_answer(
    mut builder: schema::regions_answer::Builder<'_>,
    answer: &Result<RegionPage, WireError>,
) {
    let page = match answer {
        Ok(page) => page,
        Err(error) => return write_error(builder.init_error(), error),
    };
    let mut group = builder.reborrow().init_page();
    if let Some(resume) = &page.resume {
        group.set_resume_key(resume);
    }
    let mut regions = group.init_regions(list_length(page.regions.len()));
    for (index, info) in (0..).zip(&page.regions) {
        write_region_info(regions.reborrow().get(index), info);
    }
}

pub(crate) fn read_regions_answer(
    reader: schema::regions_answer::Reader<'_>,
) -> Result<Result<RegionPage, WireError>, DecodeError> {
    match reader.which()? {
        schema::regions_answer::Error(error) => Ok(Err(read_error(error?)?)),
        schema::regions_answer::Page(page) => {
            let regions = page.get_regions()?;
            let regions = regions.iter().map(read_region_info).collect::<Result<_, _>>()?;
            let resume = page.has_resume_key().then(|| page.get_resume_key()).transpose()?;
            Ok(Ok(RegionPage { regions, resume: resume.map(<[u8]>::to_vec) }))
        }
    }
}

fn write_region_info(mut builder: schema::region_info::Builder<'_>, info: &RegionInfo) {
    write_region(builder.reborrow().init_region(), &info.region);
    builder.set_core(info.core.0);
    if let Some(leader) = info.leader {
        write_peer(builder.reborrow().init_leader(), leader);
    }
    builder.set_term(info.term.0);
    builder.set_applied_index(info.applied.0);
    builder.set_approximate_size_bytes(info.approximate_size_bytes);
    builder.set_approximate_keys(info.approximate_keys);
    builder.set_is_leader(info.is_leader);
    if !info.peers_pending.is_empty() {
        let mut pending = builder.init_peers_pending(list_length(info.peers_pending.len()));
        for (index, peer) in (0..).zip(&info.peers_pending) {
            pending.set(index, peer.0);
        }
    }
}

fn read_region_info(reader: schema::region_info::Reader<'_>) -> Result<RegionInfo, DecodeError> {
    let pending = reader.get_peers_pending()?;
    if pending.len() > PEERS_MAX {
        return Err(WireError::invalid(format!("{} pending peers of one region", pending.len())).into());
    }
    Ok(RegionInfo {
        region: read_region(reader.get_region()?)?,
        core: CoreId(reader.get_core()),
        leader: reader.has_leader().then(|| reader.get_leader()).transpose()?.map(read_peer).transpose()?,
        term: Term(reader.get_term()),
        applied: LogIndex(reader.get_applied_index()),
        approximate_size_bytes: reader.get_approximate_size_bytes(),
        approximate_keys: reader.get_approximate_keys(),
        peers_pending: pending.iter().map(PeerId).collect(),
        is_leader: reader.get_is_leader(),
    })
}

pub(crate) fn write_store_info(mut builder: schema::store_info::Builder<'_>, info: &StoreInfo) {
    builder.set_store_id(info.store.0);
    builder.set_cluster_id(info.cluster);
    builder.set_version(info.version.as_str());
    builder.set_cores(info.cores);
    builder.set_uptime_ms(u64::try_from(info.uptime.as_millis()).unwrap_or(u64::MAX));
    builder.set_replicas(info.replicas);
    write_addresses(builder.init_addresses(list_length(info.addresses.len())), &info.addresses);
}

pub(crate) fn read_store_info(reader: schema::store_info::Reader<'_>) -> Result<StoreInfo, DecodeError> {
    Ok(StoreInfo {
        store: StoreId(reader.get_store_id()),
        cluster: reader.get_cluster_id(),
        version: text(reader.get_version()?),
        cores: reader.get_cores(),
        addresses: read_addresses(reader.get_addresses()?)?,
        uptime: Duration::from_millis(reader.get_uptime_ms()),
        replicas: reader.get_replicas(),
    })
}

pub(crate) fn write_region_answer(
    builder: schema::region_answer::Builder<'_>,
    answer: &Result<Box<RegionInfo>, WireError>,
) {
    match answer {
        Ok(info) => write_region_info(builder.init_region(), info),
        Err(error) => write_error(builder.init_error(), error),
    }
}

pub(crate) fn read_region_answer(
    reader: schema::region_answer::Reader<'_>,
) -> Result<Result<RegionInfo, WireError>, DecodeError> {
    match reader.which()? {
        schema::region_answer::Region(info) => Ok(Ok(read_region_info(info?)?)),
        schema::region_answer::Error(error) => Ok(Err(read_error(error?)?)),
    }
}

fn write_stores(mut list: struct_list::Builder<'_, schema::store_record::Owned>, stores: &[StoreRecord]) {
    for (index, store) in (0..).zip(stores) {
        let mut record = list.reborrow().get(index);
        record.set_id(store.id.0);
        record.set_version(store.version);
        write_addresses(record.init_addresses(list_length(store.addresses.len())), &store.addresses);
    }
}

fn read_stores(
    list: struct_list::Reader<'_, schema::store_record::Owned>,
) -> Result<Vec<StoreRecord>, DecodeError> {
    if list.len() > STORES_MAX {
        return Err(WireError::invalid(format!("{} stores in one answer", list.len())).into());
    }
    list.iter()
        .map(|record| {
            Ok(StoreRecord {
                id: StoreId(record.get_id()),
                addresses: read_addresses(record.get_addresses()?)?,
                version: record.get_version(),
            })
        })
        .collect()
}

pub(crate) fn write_stores_answer(
    builder: schema::stores_answer::Builder<'_>,
    answer: &Result<Vec<StoreRecord>, WireError>,
) {
    match answer {
        Ok(stores) => write_stores(builder.init_stores(list_length(stores.len())), stores),
        Err(error) => write_error(builder.init_error(), error),
    }
}

pub(crate) fn read_stores_answer(
    reader: schema::stores_answer::Reader<'_>,
) -> Result<Result<Vec<StoreRecord>, WireError>, DecodeError> {
    match reader.which()? {
        schema::stores_answer::Stores(stores) => Ok(Ok(read_stores(stores?)?)),
        schema::stores_answer::Error(error) => Ok(Err(read_error(error?)?)),
    }
}

pub(crate) fn write_join_request(mut builder: schema::join_request::Builder<'_>, request: &JoinRequest) {
    builder.set_token(request.token);
    write_addresses(builder.init_addresses(list_length(request.addresses.len())), &request.addresses);
}

pub(crate) fn read_join_request(
    reader: schema::join_request::Reader<'_>,
) -> Result<JoinRequest, DecodeError> {
    if reader.get_token() == 0 {
        return Err(WireError::invalid("a join without a token").into());
    }
    let addresses = read_some_addresses(reader.get_addresses()?)?;
    Ok(JoinRequest { token: reader.get_token(), addresses })
}

fn read_some_addresses(list: capnp::text_list::Reader<'_>) -> Result<Vec<String>, DecodeError> {
    if list.is_empty() {
        return Err(WireError::invalid("a store without addresses").into());
    }
    read_addresses(list)
}

pub(crate) fn write_join_answer(
    builder: schema::join_answer::Builder<'_>,
    answer: &Result<Joined, WireError>,
) {
    match answer {
        Ok(joined) => {
            let mut group = builder.init_joined();
            group.set_cluster_id(joined.cluster);
            group.set_store_id(joined.store.0);
            write_stores(group.init_stores(list_length(joined.stores.len())), &joined.stores);
        }
        Err(error) => write_error(builder.init_error(), error),
    }
}

pub(crate) fn read_join_answer(
    reader: schema::join_answer::Reader<'_>,
) -> Result<Result<Joined, WireError>, DecodeError> {
    match reader.which()? {
        schema::join_answer::Joined(joined) => Ok(Ok(Joined {
            cluster: joined.get_cluster_id(),
            store: StoreId(joined.get_store_id()),
            stores: read_stores(joined.get_stores()?)?,
        })),
        schema::join_answer::Error(error) => Ok(Err(read_error(error?)?)),
    }
}

pub(crate) fn write_announce_request(
    mut builder: schema::announce_request::Builder<'_>,
    store: StoreId,
    addresses: &[String],
) {
    builder.set_store_id(store.0);
    write_addresses(builder.init_addresses(list_length(addresses.len())), addresses);
}

pub(crate) fn read_announce_request(
    reader: schema::announce_request::Reader<'_>,
) -> Result<(StoreId, Vec<String>), DecodeError> {
    Ok((StoreId(reader.get_store_id()), read_some_addresses(reader.get_addresses()?)?))
}

pub(crate) fn write_change_peers_request(
    mut builder: schema::change_peers_request::Builder<'_>,
    region: RegionId,
    changes: &[PeerChange],
) {
    builder.set_region_id(region.0);
    let mut list = builder.init_changes(list_length(changes.len()));
    for (index, change) in (0..).zip(changes) {
        let mut entry = list.reborrow().get(index);
        entry.set_store_id(change.store.0);
        entry.set_kind(match change.kind {
            PeerChangeKind::AddVoter => schema::peer_change::Kind::AddVoter,
            PeerChangeKind::AddLearner => schema::peer_change::Kind::AddLearner,
            PeerChangeKind::Remove => schema::peer_change::Kind::Remove,
        });
    }
}

pub(crate) fn read_change_peers_request(
    reader: schema::change_peers_request::Reader<'_>,
) -> Result<(RegionId, Vec<PeerChange>), DecodeError> {
    let list = reader.get_changes()?;
    if list.is_empty() || list.len() > PEERS_MAX {
        return Err(WireError::invalid(format!("{} changes, not 1 to {PEERS_MAX}", list.len())).into());
    }
    let mut changes: Vec<PeerChange> = Vec::with_capacity(list.len() as usize);
    for entry in list {
        let kind = match entry.get_kind()? {
            schema::peer_change::Kind::AddVoter => PeerChangeKind::AddVoter,
            schema::peer_change::Kind::AddLearner => PeerChangeKind::AddLearner,
            schema::peer_change::Kind::Remove => PeerChangeKind::Remove,
        };
        let store = StoreId(entry.get_store_id());
        if changes.iter().any(|change| change.store == store) {
            return Err(WireError::invalid(format!("two changes of the peer on store {store}")).into());
        }
        changes.push(PeerChange { store, kind });
    }
    Ok((RegionId(reader.get_region_id()), changes))
}
