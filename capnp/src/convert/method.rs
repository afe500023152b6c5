//! Interfaces and methods by their numbers.

use crate::generated::{admin_capnp, pinion_capnp, raw_capnp};
use capnp::traits::HasTypeId;

const PINION: u64 = pinion_capnp::pinion::Client::TYPE_ID;
const RAW: u64 = raw_capnp::raw::Client::TYPE_ID;
const LOADER: u64 = raw_capnp::bulk_loader::Client::TYPE_ID;
const ADMIN: u64 = admin_capnp::admin::Client::TYPE_ID;

/// A method of one of the interfaces that a store serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// `Pinion.raw`.
    PinionRaw,
    /// `Pinion.admin`.
    PinionAdmin,
    /// A method of `Raw` whose answer is data.
    Raw(RawMethod),
    /// `Raw.bulkLoad`.
    BulkLoad,
    /// `BulkLoader.put`.
    LoaderPut,
    /// `BulkLoader.done`.
    LoaderDone,
    /// `Admin.regions`.
    Regions,
    /// `Admin.split`.
    Split,
    /// `Admin.info`.
    Info,
    /// `Admin.statistics`.
    Statistics,
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

impl Method {
    /// The method of these numbers, if there is one.
    pub(crate) fn of(interface: u64, method: u16) -> Option<Self> {
        match (interface, method) {
            (RAW, 11) => Some(Self::BulkLoad),
            (RAW, _) => RawMethod::ALL.get(usize::from(method)).copied().map(Self::Raw),
            (PINION, 0) => Some(Self::PinionRaw),
            (PINION, 1) => Some(Self::PinionAdmin),
            (LOADER, 0) => Some(Self::LoaderPut),
            (LOADER, 1) => Some(Self::LoaderDone),
            (ADMIN, 0) => Some(Self::Regions),
            (ADMIN, 1) => Some(Self::Split),
            (ADMIN, 2) => Some(Self::Info),
            (ADMIN, 3) => Some(Self::Statistics),
            _ => None,
        }
    }

    /// Interface and number.
    pub(crate) fn numbers(self) -> (u64, u16) {
        match self {
            Self::PinionRaw => (PINION, 0),
            Self::PinionAdmin => (PINION, 1),
            Self::Raw(method) => {
                let index = RawMethod::ALL.iter().position(|&other| other == method);
                (RAW, index.and_then(|index| u16::try_from(index).ok()).expect("ALL lists every method"))
            }
            Self::BulkLoad => (RAW, 11),
            Self::LoaderPut => (LOADER, 0),
            Self::LoaderDone => (LOADER, 1),
            Self::Regions => (ADMIN, 0),
            Self::Split => (ADMIN, 1),
            Self::Info => (ADMIN, 2),
            Self::Statistics => (ADMIN, 3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_the_method() {
        let raw = RawMethod::ALL.map(Method::Raw);
        let others = [
            Method::PinionRaw,
            Method::PinionAdmin,
            Method::BulkLoad,
            Method::LoaderPut,
            Method::LoaderDone,
            Method::Regions,
            Method::Split,
            Method::Info,
            Method::Statistics,
        ];
        for method in raw.into_iter().chain(others) {
            let (interface, number) = method.numbers();
            assert_eq!(Method::of(interface, number), Some(method));
        }
        assert_eq!(Method::of(RAW, 12), None);
        assert_eq!(Method::of(1, 0), None);
    }
}
