//! Ids and positions as types of their own, so that a term is never taken for an index.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $repr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }

        impl From<$repr> for $name {
            fn from(value: $repr) -> Self {
                Self(value)
            }
        }
    };
}

number! {
    /// A region's id, unique in the cluster and never used again. 0 is no region.
    RegionId(u64)
}
number! {
    /// A store's id, unique in the cluster. 0 is no store.
    StoreId(u64)
}
number! {
    /// A peer's id: one replica of one region on one store, never used again. 0 is no peer.
    PeerId(u64)
}
number! {
    /// A core of a store, numbered from 0.
    CoreId(u16)
}
number! {
    /// A Raft term. 0 is before the first election.
    Term(u64)
}
number! {
    /// A position in one region's Raft log. 0 is before the first entry.
    LogIndex(u64)
}

impl LogIndex {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The position before this one; 0 stays 0.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}
