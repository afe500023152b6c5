//! Admin calls and answers.

use super::refusal::{read_error, write_error};
use super::region::{read_peer, read_region, write_peer, write_region};
use super::{DecodeError, list_length, read_addresses, text, write_addresses};
use crate::generated::admin_capnp as schema;
use crate::{RegionInfo, RegionPage, StoreInfo, WireError};
use pinion_types::{CoreId, LogIndex, StoreId, Term};
use std::time::Duration;

/// Most regions in one answer.
pub(crate) const REGIONS_MAX: u32 = 1000;
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
}

fn read_region_info(reader: schema::region_info::Reader<'_>) -> Result<RegionInfo, DecodeError> {
    Ok(RegionInfo {
        region: read_region(reader.get_region()?)?,
        core: CoreId(reader.get_core()),
        leader: reader.has_leader().then(|| reader.get_leader()).transpose()?.map(read_peer).transpose()?,
        term: Term(reader.get_term()),
        applied: LogIndex(reader.get_applied_index()),
        approximate_size_bytes: reader.get_approximate_size_bytes(),
        approximate_keys: reader.get_approximate_keys(),
    })
}

pub(crate) fn write_store_info(mut builder: schema::store_info::Builder<'_>, info: &StoreInfo) {
    builder.set_store_id(info.store.0);
    builder.set_cluster_id(info.cluster);
    builder.set_version(info.version.as_str());
    builder.set_cores(info.cores);
    builder.set_uptime_ms(u64::try_from(info.uptime.as_millis()).unwrap_or(u64::MAX));
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
    })
}
