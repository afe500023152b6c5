//! Errors as data.

use super::region::{read_peer, read_region, write_peer, write_region};
use super::{DecodeError, list_length, millis32, text};
use crate::WireError;
use crate::generated::common_capnp::error::{Builder, Reader, WhichReader};
use pinion_types::{RegionId, StoreId};
use std::time::Duration;

/// Most regions that `epochNotMatch` may carry.
const REGIONS_MAX: u32 = 1024;

pub(crate) fn write_error(mut builder: Builder<'_>, error: &WireError) {
    write_message(builder.reborrow(), error);
    match error {
        WireError::NotLeader { region, leader } => {
            let mut group = builder.init_not_leader();
            group.set_region_id(region.0);
            if let Some(leader) = leader {
                write_peer(group.init_leader(), *leader);
            }
        }
        WireError::RegionNotFound(region) => builder.init_region_not_found().set_region_id(region.0),
        WireError::KeyNotInRegion { key, region, start, end } => {
            let mut group = builder.init_key_not_in_region();
            group.set_region_id(region.0);
            group.set_key(key);
            group.set_start(start);
            group.set_end(end);
        }
        WireError::EpochNotMatch { current } => {
            let group = builder.init_epoch_not_match();
            let mut regions = group.init_current_regions(list_length(current.len()));
            for (index, region) in (0..).zip(current) {
                write_region(regions.reborrow().get(index), region);
            }
        }
        WireError::StaleCommand => builder.set_stale_command(()),
        WireError::StoreNotMatch { requested, actual } => {
            let mut group = builder.init_store_not_match();
            group.set_requested_store_id(requested.0);
            group.set_actual_store_id(actual.0);
        }
        WireError::ServerBusy { retry_after } => {
            builder.init_server_busy().set_retry_after_ms(millis32(*retry_after));
        }
        WireError::DiskFull => builder.set_disk_full(()),
        WireError::InvalidArgument(_) => builder.set_invalid_argument(()),
        WireError::TooLarge { limit, got, .. } => {
            let mut group = builder.init_too_large();
            group.set_limit(*limit);
            group.set_got(*got);
        }
        WireError::Corruption { file, offset, .. } => {
            let mut group = builder.init_corruption();
            group.set_file(file.as_str());
            group.set_offset(*offset);
        }
        WireError::BatchSpansRegions => builder.set_batch_spans_regions(()),
        WireError::TimedOut => builder.set_timed_out(()),
        WireError::ShuttingDown => builder.set_shutting_down(()),
        WireError::Undetermined => builder.set_undetermined(()),
        WireError::ClusterNotMatch { requested, actual } => {
            let mut group = builder.init_cluster_not_match();
            group.set_requested_cluster_id(*requested);
            group.set_actual_cluster_id(*actual);
        }
        WireError::Internal(_) => builder.set_internal(()),
    }
}

/// The text that goes beside the union: what the variant has of its own, else its whole message.
fn write_message(mut builder: Builder<'_>, error: &WireError) {
    match error {
        WireError::InvalidArgument(message)
        | WireError::Internal(message)
        | WireError::TooLarge { what: message, .. }
        | WireError::Corruption { message, .. } => builder.set_message(message.as_str()),
        _ => builder.set_message(error.to_string().as_str()),
    }
}

pub(crate) fn read_error(reader: Reader<'_>) -> Result<WireError, DecodeError> {
    let message = text(reader.get_message()?);
    let Ok(which) = reader.which() else {
        return Ok(WireError::Internal(format!("an error of a newer kind: {message}")));
    };
    Ok(match which {
        WhichReader::Internal(()) => WireError::Internal(message),
        WhichReader::NotLeader(group) => WireError::NotLeader {
            region: RegionId(group.get_region_id()),
            leader: group.has_leader().then(|| group.get_leader()).transpose()?.map(read_peer).transpose()?,
        },
        WhichReader::RegionNotFound(group) => WireError::RegionNotFound(RegionId(group.get_region_id())),
        WhichReader::KeyNotInRegion(group) => WireError::KeyNotInRegion {
            key: group.get_key()?.to_vec(),
            region: RegionId(group.get_region_id()),
            start: group.get_start()?.to_vec(),
            end: group.get_end()?.to_vec(),
        },
        WhichReader::EpochNotMatch(group) => {
            let regions = group.get_current_regions()?;
            if regions.len() > REGIONS_MAX {
                return Err(WireError::invalid(format!("{} regions in one error", regions.len())).into());
            }
            WireError::EpochNotMatch { current: regions.iter().map(read_region).collect::<Result<_, _>>()? }
        }
        WhichReader::StaleCommand(()) => WireError::StaleCommand,
        WhichReader::StoreNotMatch(group) => WireError::StoreNotMatch {
            requested: StoreId(group.get_requested_store_id()),
            actual: StoreId(group.get_actual_store_id()),
        },
        WhichReader::ServerBusy(group) => {
            WireError::ServerBusy { retry_after: Duration::from_millis(group.get_retry_after_ms().into()) }
        }
        WhichReader::DiskFull(()) => WireError::DiskFull,
        WhichReader::InvalidArgument(()) => WireError::InvalidArgument(message),
        WhichReader::TooLarge(group) => {
            WireError::TooLarge { what: message, limit: group.get_limit(), got: group.get_got() }
        }
        WhichReader::Corruption(group) => {
            WireError::Corruption { file: text(group.get_file()?), offset: group.get_offset(), message }
        }
        WhichReader::BatchSpansRegions(()) => WireError::BatchSpansRegions,
        WhichReader::TimedOut(()) => WireError::TimedOut,
        WhichReader::ShuttingDown(()) => WireError::ShuttingDown,
        WhichReader::Undetermined(()) => WireError::Undetermined,
        WhichReader::ClusterNotMatch(group) => WireError::ClusterNotMatch {
            requested: group.get_requested_cluster_id(),
            actual: group.get_actual_cluster_id(),
        },
    })
}
