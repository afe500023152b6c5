//! Changes of the configuration as they stand in an entry.
//!
//! Bytes, little-endian. An entry of kind [`EntryKind::ConfChangeV2`] may be empty, which says: leave the joint
//! configuration.
//!
//! | entry kind | bytes |
//! |---|---|
//! | `ConfChange` | `u8` kind, `u64` peer, context to the end |
//! | `ConfChangeV2` | `u8` transition, `u16` number of changes, for each `u8` kind and `u64` peer, context to the end |

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pinion_types::PeerId;

use crate::EntryKind;

/// The greatest number of changes in one entry.
pub(crate) const CHANGES_MAX: usize = 1024;

/// What happens to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfChangeKind {
    /// It becomes a voter.
    AddVoter,
    /// It leaves.
    Remove,
    /// Nothing; the context has changed.
    Update,
    /// It becomes a learner, whether it was a voter or nothing.
    AddLearner,
}

impl ConfChangeKind {
    fn to_byte(self) -> u8 {
        match self {
            Self::AddVoter => 0,
            Self::Remove => 1,
            Self::Update => 2,
            Self::AddLearner => 3,
        }
    }

    fn from_byte(byte: u8) -> Result<Self, ConfChangeError> {
        match byte {
            0 => Ok(Self::AddVoter),
            1 => Ok(Self::Remove),
            2 => Ok(Self::Update),
            3 => Ok(Self::AddLearner),
            other => Err(ConfChangeError::Malformed { what: "kind", got: u64::from(other) }),
        }
    }
}

/// One step of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfChangeSingle {
    /// What happens.
    pub kind: ConfChangeKind,
    /// To whom. Peer 0 is ignored.
    pub peer: PeerId,
}

/// Whether a change goes through a joint configuration, and how it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfChangeTransition {
    /// The simple way when at most one voter changes, otherwise as `JointImplicit`.
    #[default]
    Auto,
    /// Through a joint configuration that the leader leaves by itself.
    JointImplicit,
    /// Through a joint configuration that stays until an empty change is proposed.
    JointExplicit,
}

impl ConfChangeTransition {
    fn to_byte(self) -> u8 {
        match self {
            Self::Auto => 0,
            Self::JointImplicit => 1,
            Self::JointExplicit => 2,
        }
    }

    fn from_byte(byte: u8) -> Result<Self, ConfChangeError> {
        match byte {
            0 => Ok(Self::Auto),
            1 => Ok(Self::JointImplicit),
            2 => Ok(Self::JointExplicit),
            other => Err(ConfChangeError::Malformed { what: "transition", got: u64::from(other) }),
        }
    }
}

/// A change of the configuration. Without changes it leaves a joint configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfChange {
    /// The entry's kind: [`EntryKind::ConfChange`] holds exactly one change and no transition.
    pub entry_kind: EntryKind,
    /// How to get there.
    pub transition: ConfChangeTransition,
    /// The steps.
    pub changes: Vec<ConfChangeSingle>,
    /// The application's, opaque to consensus.
    pub context: Bytes,
}

impl ConfChange {
    /// One step in the simple form.
    #[must_use]
    pub fn simple(kind: ConfChangeKind, peer: PeerId) -> Self {
        Self {
            entry_kind: EntryKind::ConfChange,
            transition: ConfChangeTransition::Auto,
            changes: vec![ConfChangeSingle { kind, peer }],
            context: Bytes::new(),
        }
    }

    /// Any number of steps.
    #[must_use]
    pub fn joint(transition: ConfChangeTransition, changes: Vec<ConfChangeSingle>) -> Self {
        Self { entry_kind: EntryKind::ConfChangeV2, transition, changes, context: Bytes::new() }
    }

    /// Leaves a joint configuration.
    #[must_use]
    pub fn leave() -> Self {
        Self::joint(ConfChangeTransition::Auto, Vec::new())
    }

    /// Whether it leaves a joint configuration.
    pub fn leaves_joint(&self) -> bool {
        self.transition == ConfChangeTransition::Auto && self.changes.is_empty()
    }

    /// Whether it enters a joint configuration, and if so, whether the leader leaves it by itself.
    ///
    /// A change of one peer in automatic mode takes the simple way; the checks that it really changes one voter only are
    /// made when it is applied.
    pub fn enters_joint(&self) -> Option<bool> {
        if self.transition == ConfChangeTransition::Auto && self.changes.len() <= 1 {
            return None;
        }
        Some(self.transition != ConfChangeTransition::JointExplicit)
    }

    /// The entry's data.
    ///
    /// [`ConfChangeError::TooMany`] when there are more changes than an entry may hold,
    /// [`ConfChangeError::Malformed`] when the simple form holds other than one.
    pub fn encode(&self) -> Result<Bytes, ConfChangeError> {
        if self.changes.len() > CHANGES_MAX {
            return Err(ConfChangeError::TooMany { got: self.changes.len(), max: CHANGES_MAX });
        }
        let count = u16::try_from(self.changes.len())
            .map_err(|_| ConfChangeError::TooMany { got: self.changes.len(), max: CHANGES_MAX })?;
        if self.leaves_joint() && self.context.is_empty() && self.entry_kind == EntryKind::ConfChangeV2 {
            return Ok(Bytes::new());
        }
        let mut bytes = BytesMut::with_capacity(3 + 9 * self.changes.len() + self.context.len());
        match self.entry_kind {
            EntryKind::ConfChange if count == 1 && self.transition == ConfChangeTransition::Auto => {}
            EntryKind::ConfChangeV2 => {
                bytes.put_u8(self.transition.to_byte());
                bytes.put_u16_le(count);
            }
            _ => return Err(ConfChangeError::Malformed { what: "number of changes", got: u64::from(count) }),
        }
        for change in &self.changes {
            bytes.put_u8(change.kind.to_byte());
            bytes.put_u64_le(change.peer.0);
        }
        bytes.put_slice(&self.context);
        Ok(bytes.freeze())
    }

    /// Reads an entry's data.
    pub fn decode(entry_kind: EntryKind, data: &Bytes) -> Result<Self, ConfChangeError> {
        let mut bytes = data.clone();
        let (transition, count) = match entry_kind {
            EntryKind::Normal => return Err(ConfChangeError::Malformed { what: "entry kind", got: 0 }),
            EntryKind::ConfChange => (ConfChangeTransition::Auto, 1),
            EntryKind::ConfChangeV2 if bytes.is_empty() => return Ok(Self::leave()),
            EntryKind::ConfChangeV2 => {
                if bytes.remaining() < 3 {
                    return Err(ConfChangeError::Truncated { got: data.len(), need: 3 });
                }
                (ConfChangeTransition::from_byte(bytes.get_u8())?, usize::from(bytes.get_u16_le()))
            }
        };
        if count > CHANGES_MAX {
            return Err(ConfChangeError::TooMany { got: count, max: CHANGES_MAX });
        }
        if bytes.remaining() < 9 * count {
            return Err(ConfChangeError::Truncated {
                got: data.len(),
                need: data.len() - bytes.remaining() + 9 * count,
            });
        }
        let mut changes = Vec::with_capacity(count);
        for _ in 0..count {
            let kind = ConfChangeKind::from_byte(bytes.get_u8())?;
            changes.push(ConfChangeSingle { kind, peer: PeerId(bytes.get_u64_le()) });
        }
        Ok(Self { entry_kind, transition, changes, context: bytes })
    }
}

/// For log lines.
impl ConfChange {
    pub(crate) fn in_words(&self) -> String {
        use fmt::Write as _;

        fn name(kind: ConfChangeKind) -> &'static str {
            match kind {
                ConfChangeKind::AddVoter => "ConfChangeAddNode",
                ConfChangeKind::Remove => "ConfChangeRemoveNode",
                ConfChangeKind::Update => "ConfChangeUpdateNode",
                ConfChangeKind::AddLearner => "ConfChangeAddLearnerNode",
            }
        }
        // Writing to a string can't fail.
        if let (EntryKind::ConfChange, [change]) = (self.entry_kind, &self.changes[..]) {
            return format!("type:{} node_id:{}", name(change.kind), change.peer);
        }
        let mut words = format!("transition:{}", self.transition);
        for change in &self.changes {
            let _ = write!(words, " changes:{{type:{} node_id:{}}}", name(change.kind), change.peer);
        }
        words
    }
}

impl fmt::Display for ConfChangeTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "ConfChangeTransitionAuto",
            Self::JointImplicit => "ConfChangeTransitionJointImplicit",
            Self::JointExplicit => "ConfChangeTransitionJointExplicit",
        })
    }
}

/// The short form of a list of changes: `v1 l2 r3 u4`.
impl fmt::Display for ConfChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, change) in self.changes.iter().enumerate() {
            let letter = match change.kind {
                ConfChangeKind::AddVoter => 'v',
                ConfChangeKind::Remove => 'r',
                ConfChangeKind::Update => 'u',
                ConfChangeKind::AddLearner => 'l',
            };
            write!(f, "{}{letter}{}", if position == 0 { "" } else { " " }, change.peer)?;
        }
        Ok(())
    }
}

/// Why a change of the configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfChangeError {
    /// The data ends too early.
    #[error("a configuration change of {got} bytes needs {need}")]
    Truncated {
        /// Bytes that are there.
        got: usize,
        /// Bytes that were needed.
        need: usize,
    },
    /// The data holds something that has no meaning.
    #[error("a configuration change holds the unknown {what} {got}")]
    Malformed {
        /// Which part.
        what: &'static str,
        /// What stood there.
        got: u64,
    },
    /// More changes than one entry may hold.
    #[error("a configuration change of {got} peers is over the limit of {max}; split it")]
    TooMany {
        /// Changes that are there.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// The change does not fit the configuration in force.
    #[error("{0}")]
    Refused(&'static str),
    /// The configuration in force, or one from storage or a snapshot, contradicts itself.
    #[error("{reason}: peer {peer}")]
    Invariant {
        /// What is broken.
        reason: &'static str,
        /// Where it shows.
        peer: PeerId,
    },
}
