//! Interfaces and methods by their numbers.

use crate::generated::{admin_capnp, link_capnp, pinion_capnp, raw_capnp};
use capnp::traits::HasTypeId;

const PINION: u64 = pinion_capnp::pinion::Client::TYPE_ID;
const RAW: u64 = raw_capnp::raw::Client::TYPE_ID;
const LOADER: u64 = raw_capnp::bulk_loader::Client::TYPE_ID;
const ADMIN: u64 = admin_capnp::admin::Client::TYPE_ID;
const LINK: u64 = link_capnp::link::Client::TYPE_ID;

/// A method of one of the interfaces that a store serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// `Pinion.raw`.
    PinionRaw,
    /// `Pinion.admin`.
    PinionAdmin,
    /// `Pinion.link`.
    PinionLink,
    /// A method of `Raw` whose answer is data.
    Raw(RawMethod),
    /// `Raw.bulkLoad`.
    BulkLoad,
    /// `BulkLoader.put`.
    LoaderPut,
    /// `BulkLoader.done`.
    LoaderDone,
    /// A method of `Admin`.
    Admin(AdminMethod),
    /// A method of `Link`.
    Link(LinkMethod),
}

/// A method of `Raw` whose answer is data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawMethod {
    Get,
    Put,
    Delete,
    Batch,
    BatchGet,
    BatchPut,
    BatchDelete,
    DeleteRange,
    Scan,
    CompareAndSwap,
    GetTtl,
}

impl RawMethod {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 11] = [
        Self::Get,
        Self::Put,
        Self::Delete,
        Self::Batch,
        Self::BatchGet,
        Self::BatchPut,
        Self::BatchDelete,
        Self::DeleteRange,
        Self::Scan,
        Self::CompareAndSwap,
        Self::GetTtl,
    ];
}

/// A method of `Admin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdminMethod {
    Regions,
    Split,
    Info,
    Statistics,
    Stores,
    Join,
    Announce,
    ChangePeers,
    TransferLeader,
    Region,
}

impl AdminMethod {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 10] = [
        Self::Regions,
        Self::Split,
        Self::Info,
        Self::Statistics,
        Self::Stores,
        Self::Join,
        Self::Announce,
        Self::ChangePeers,
        Self::TransferLeader,
        Self::Region,
    ];
}

/// A method of `Link`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkMethod {
    Messages,
    SnapshotOffer,
    SnapshotChunk,
    SnapshotDone,
    SnapshotAbort,
    AllocateIds,
}

impl LinkMethod {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 6] = [
        Self::Messages,
        Self::SnapshotOffer,
        Self::SnapshotChunk,
        Self::SnapshotDone,
        Self::SnapshotAbort,
        Self::AllocateIds,
    ];
}

/// The place of a method in the list of its interface's methods: its number.
fn number<M: PartialEq>(all: &[M], method: &M) -> u16 {
    let index = all.iter().position(|other| other == method);
    index.and_then(|index| u16::try_from(index).ok()).expect("ALL lists every method")
}

impl Method {
    /// The method of these numbers, if there is one.
    pub(crate) fn of(interface: u64, method: u16) -> Option<Self> {
        match (interface, method) {
            (RAW, 11) => Some(Self::BulkLoad),
            (RAW, _) => RawMethod::ALL.get(usize::from(method)).copied().map(Self::Raw),
            (PINION, 0) => Some(Self::PinionRaw),
            (PINION, 1) => Some(Self::PinionAdmin),
            (PINION, 2) => Some(Self::PinionLink),
            (LOADER, 0) => Some(Self::LoaderPut),
            (LOADER, 1) => Some(Self::LoaderDone),
            (ADMIN, _) => AdminMethod::ALL.get(usize::from(method)).copied().map(Self::Admin),
            (LINK, _) => LinkMethod::ALL.get(usize::from(method)).copied().map(Self::Link),
            _ => None,
        }
    }

    /// Interface and number.
    pub(crate) fn numbers(self) -> (u64, u16) {
        match self {
            Self::PinionRaw => (PINION, 0),
            Self::PinionAdmin => (PINION, 1),
            Self::PinionLink => (PINION, 2),
            Self::Raw(method) => (RAW, number(&RawMethod::ALL, &method)),
            Self::BulkLoad => (RAW, 11),
            Self::LoaderPut => (LOADER, 0),
            Self::LoaderDone => (LOADER, 1),
            Self::Admin(method) => (ADMIN, number(&AdminMethod::ALL, &method)),
            Self::Link(method) => (LINK, number(&LinkMethod::ALL, &method)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_the_method() {
        let raw = RawMethod::ALL.map(Method::Raw);
        let link = LinkMethod::ALL.map(Method::Link);
        let others = [
            Method::PinionRaw,
            Method::PinionAdmin,
            Method::PinionLink,
            Method::BulkLoad,
            Method::LoaderPut,
            Method::LoaderDone,
        ];
        let admin = AdminMethod::ALL.map(Method::Admin);
        for method in raw.into_iter().chain(link).chain(admin).chain(others) {
            let (interface, number) = method.numbers();
            assert_eq!(Method::of(interface, number), Some(method));
        }
        assert_eq!(Method::of(RAW, 12), None);
        assert_eq!(Method::of(LINK, 6), None);
        assert_eq!(Method::of(1, 0), None);
    }
}
