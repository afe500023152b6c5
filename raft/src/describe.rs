//! How messages, entries and states read in logs and transcripts.

use std::fmt;

use pinion_types::PeerId;

use crate::raw_node::{Role, SoftState};
use crate::{
    APPEND_THREAD, APPLY_THREAD, ConfChange, ConfState, Entry, EntryKind, HardState, Message, MessageKind,
    NO_PEER, Snapshot,
};

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Propose => "MsgProp",
            Self::Append => "MsgApp",
            Self::AppendResponse => "MsgAppResp",
            Self::Vote => "MsgVote",
            Self::VoteResponse => "MsgVoteResp",
            Self::PreVote => "MsgPreVote",
            Self::PreVoteResponse => "MsgPreVoteResp",
            Self::Snapshot => "MsgSnap",
            Self::Heartbeat => "MsgHeartbeat",
            Self::HeartbeatResponse => "MsgHeartbeatResp",
            Self::TransferLeader => "MsgTransferLeader",
            Self::TimeoutNow => "MsgTimeoutNow",
            Self::ReadIndex => "MsgReadIndex",
            Self::ReadIndexResponse => "MsgReadIndexResp",
            Self::StorageAppend => "MsgStorageAppend",
            Self::StorageAppendResponse => "MsgStorageAppendResp",
            Self::StorageApply => "MsgStorageApply",
            Self::StorageApplyResponse => "MsgStorageApplyResp",
        })
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "EntryNormal",
            Self::ConfChange => "EntryConfChange",
            Self::ConfChangeV2 => "EntryConfChangeV2",
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Follower => "StateFollower",
            Self::Candidate => "StateCandidate",
            Self::Leader => "StateLeader",
            Self::PreCandidate => "StatePreCandidate",
        })
    }
}

impl fmt::Display for SoftState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lead:{} State:{}", self.leader, self.role)
    }
}

impl fmt::Display for HardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Term:{}", self.term)?;
        if self.vote != NO_PEER {
            write!(f, " Vote:{}", self.vote)?;
        }
        write!(f, " Commit:{}", self.commit)
    }
}

struct List<'a>(&'a [PeerId]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (position, id) in self.0.iter().enumerate() {
            write!(f, "{}{id}", if position == 0 { "" } else { " " })?;
        }
        f.write_str("]")
    }
}

impl fmt::Display for ConfState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Voters:{} VotersOutgoing:{} Learners:{} LearnersNext:{} AutoLeave:{}",
            List(&self.voters),
            List(&self.voters_outgoing),
            List(&self.learners),
            List(&self.learners_next),
            self.auto_leave
        )
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metadata = &self.metadata;
        write!(f, "Index:{} Term:{} ConfState:{}", metadata.index, metadata.term, metadata.conf_state)
    }
}

/// Term and index, kind, and the command as text or the change in short.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.term, self.index, self.kind)?;
        if self.kind == EntryKind::Normal {
            return write!(f, " \"{}\"", self.data.escape_ascii());
        }
        match ConfChange::decode(self.kind, &self.data) {
            Ok(change) if change.changes.is_empty() => Ok(()),
            Ok(change) => write!(f, " {change}"),
            Err(error) => write!(f, " {error}"),
        }
    }
}

struct Target(PeerId);

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            NO_PEER => f.write_str("None"),
            APPEND_THREAD => f.write_str("AppendThread"),
            APPLY_THREAD => f.write_str("ApplyThread"),
            PeerId(id) => write!(f, "{id:x}"),
        }
    }
}

/// Who to whom, what, and the fields that are set; several lines when there is much.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_message(f, self, 0)
    }
}

fn write_message(f: &mut fmt::Formatter<'_>, message: &Message, indent: usize) -> fmt::Result {
    write!(
        f,
        "{:indent$}{}->{} {} Term:{} Log:{}/{}",
        "",
        Target(message.from),
        Target(message.to),
        message.kind,
        message.term,
        message.log_term,
        message.index
    )?;
    if message.reject {
        write!(f, " Rejected (Hint: {})", message.reject_hint)?;
    }
    if message.commit.0 != 0 {
        write!(f, " Commit:{}", message.commit)?;
    }
    if message.vote != NO_PEER {
        write!(f, " Vote:{}", message.vote)?;
    }
    match &message.entries[..] {
        [] => {}
        [entry] => write!(f, " Entries:[{entry}]")?,
        entries => {
            f.write_str(" Entries:[")?;
            for entry in entries {
                write!(f, "\n{:indent$}  {entry}", "")?;
            }
            write!(f, "\n{:indent$}]", "")?;
        }
    }
    if let Some(snapshot) = &message.snapshot {
        write!(f, "\n{:indent$}  Snapshot: {snapshot}", "")?;
    }
    if !message.responses.is_empty() {
        f.write_str(" Responses:[")?;
        for response in &message.responses {
            f.write_str("\n")?;
            write_message(f, response, indent + 2)?;
        }
        write!(f, "\n{:indent$}]", "")?;
    }
    Ok(())
}
