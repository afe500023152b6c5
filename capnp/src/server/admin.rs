//! What a connection does with the calls of an administrator, and of stores that join.

use super::work::{Answer, Task};
use crate::convert::DecodeError;
use crate::convert::admin::{
    read_announce_request, read_change_peers_request, read_join_request, read_regions_request,
    read_split_request, write_join_answer, write_region_answer, write_regions_answer, write_store_info,
    write_stores_answer,
};
use crate::convert::answer::write_done;
use crate::convert::method::AdminMethod;
use crate::generated::admin_capnp as schema;
use crate::{
    AdminService, JoinRequest, Joined, PeerChange, RegionInfo, RegionPage, RequestLimits, StoreInfo,
    StoreRecord, WireError,
};
use capnp::any_pointer;
use pinion_types::{RegionId, StoreId};

/// A call of an administrator.
pub(super) enum AdminTask {
    Regions { start: Vec<u8>, limit: usize },
    Split { keys: Vec<Vec<u8>> },
    Info,
    Statistics,
    Stores,
    Join(JoinRequest),
    Announce { store: StoreId, addresses: Vec<String> },
    ChangePeers { region: RegionId, changes: Vec<PeerChange> },
    TransferLeader { region: RegionId, to: StoreId },
    Region { stored_key: Vec<u8> },
}

/// What a call of an administrator came to.
pub(super) enum AdminReply {
    Regions(Result<RegionPage, WireError>),
    Info(StoreInfo),
    Statistics(String),
    Stores(Result<Vec<StoreRecord>, WireError>),
    Joined(Result<Joined, WireError>),
    Done(Result<(), WireError>),
    Region(Result<Box<RegionInfo>, WireError>),
}

impl AdminTask {
    /// Reads a call's parameters.
    pub(super) fn read(
        method: AdminMethod,
        params: any_pointer::Reader<'_>,
        limits: &RequestLimits,
    ) -> Result<Task, DecodeError> {
        Ok(Task::Admin(match method {
            AdminMethod::Regions => {
                let (start, limit) = read_regions_request(params.get_as()?)?;
                Self::Regions { start, limit }
            }
            AdminMethod::Split => Self::Split { keys: read_split_request(params.get_as()?, limits)? },
            AdminMethod::Info => Self::Info,
            AdminMethod::Statistics => Self::Statistics,
            AdminMethod::Stores => Self::Stores,
            AdminMethod::Join => Self::Join(read_join_request(params.get_as()?)?),
            AdminMethod::Announce => {
                let (store, addresses) = read_announce_request(params.get_as()?)?;
                Self::Announce { store, addresses }
            }
            AdminMethod::ChangePeers => {
                let (region, changes) = read_change_peers_request(params.get_as()?)?;
                Self::ChangePeers { region, changes }
            }
            AdminMethod::TransferLeader => {
                let params: schema::transfer_leader_request::Reader<'_> = params.get_as()?;
                let (region, to) = (RegionId(params.get_region_id()), StoreId(params.get_to_store_id()));
                Self::TransferLeader { region, to }
            }
            AdminMethod::Region => {
                let params: schema::region_request::Reader<'_> = params.get_as()?;
                Self::Region { stored_key: params.get_key()?.to_vec() }
            }
        }))
    }

    /// Does the call.
    pub(super) async fn run(self, admin: &impl AdminService) -> AdminReply {
        match self {
            Self::Regions { start, limit } => AdminReply::Regions(admin.regions(start, limit).await),
            Self::Split { keys } => {
                let regions = admin.split(keys).await;
                AdminReply::Regions(regions.map(|regions| RegionPage { regions, resume: None }))
            }
            Self::Info => AdminReply::Info(admin.info()),
            Self::Statistics => AdminReply::Statistics(admin.statistics().await),
            Self::Stores => AdminReply::Stores(admin.stores().await),
            Self::Join(request) => AdminReply::Joined(admin.join(request).await),
            Self::Announce { store, addresses } => AdminReply::Done(admin.announce(store, addresses).await),
            Self::ChangePeers { region, changes } => {
                AdminReply::Region(admin.change_peers(region, changes).await.map(Box::new))
            }
            Self::TransferLeader { region, to } => AdminReply::Done(admin.transfer_leader(region, to).await),
            Self::Region { stored_key } => AdminReply::Region(admin.region(stored_key).await.map(Box::new)),
        }
    }
}

impl AdminReply {
    /// The answer to a call that makes no sense: an exception where the method has no place for an error.
    pub(super) fn refusal(method: AdminMethod, error: WireError) -> Answer {
        Answer::Admin(match method {
            AdminMethod::Regions | AdminMethod::Split => Self::Regions(Err(error)),
            AdminMethod::Stores => Self::Stores(Err(error)),
            AdminMethod::Join => Self::Joined(Err(error)),
            AdminMethod::Announce | AdminMethod::TransferLeader => Self::Done(Err(error)),
            AdminMethod::ChangePeers | AdminMethod::Region => Self::Region(Err(error)),
            AdminMethod::Info | AdminMethod::Statistics => return Answer::Chunk(Err(error)),
        })
    }

    /// Writes the answer.
    pub(super) fn write(&self, results: any_pointer::Builder<'_>) {
        match self {
            Self::Regions(answer) => write_regions_answer(results.init_as(), answer),
            Self::Info(info) => write_store_info(results.init_as(), info),
            Self::Statistics(text) => {
                let mut builder: schema::admin::statistics_results::Builder<'_> = results.init_as();
                builder.set_text(text.as_str());
            }
            Self::Stores(answer) => write_stores_answer(results.init_as(), answer),
            Self::Joined(answer) => write_join_answer(results.init_as(), answer),
            Self::Done(answer) => write_done(results.init_as(), answer),
            Self::Region(answer) => write_region_answer(results.init_as(), answer),
        }
    }
}
