//! Column families: separate namespaces of keys within a region's tree.

use std::fmt;

/// A namespace of keys. A batch may write to several, atomically.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ColumnFamily {
    /// Values: raw keys' by default, transactions' by start timestamp.
    #[default]
    Default = 0,
    /// Locks of transactions under way.
    Lock = 1,
    /// Commit and rollback records of transactions.
    Write = 2,
}

impl ColumnFamily {
    /// Every family, in the order of their bytes.
    pub const ALL: [Self; 3] = [Self::Default, Self::Lock, Self::Write];

    /// The byte that stands for the family on disk and on the wire.
    pub fn as_byte(self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Lock => 1,
            Self::Write => 2,
        }
    }

    /// The family of a byte from disk or network; `None` when there is no such family.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.as_byte() == byte)
    }

    /// The family's name: `default`, `lock` or `write`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Lock => "lock",
            Self::Write => "write",
        }
    }

    /// The family of that name; the empty name is `default`, as in the course.
    pub fn from_name(name: &str) -> Option<Self> {
        if name.is_empty() {
            return Some(Self::Default);
        }
        Self::ALL.into_iter().find(|family| family.name() == name)
    }
}

impl fmt::Display for ColumnFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
