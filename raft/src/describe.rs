//! How messages, entries and states read in logs and transcripts.

use std::fmt::{self, Write as _};

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

/// A configuration in the text form of protocol buffers, as etcd logs it.
pub(crate) struct ProtoText<'a>(pub(crate) &'a ConfState);

impl fmt::Display for ProtoText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfState { voters, learners, voters_outgoing, learners_next, auto_leave } = self.0;
        let fields = [
            ("voters", voters),
            ("learners", learners),
            ("voters_outgoing", voters_outgoing),
            ("learners_next", learners_next),
        ];
        for (name, ids) in fields {
            for id in ids {
                write!(f, "{name}:{id} ")?;
            }
        }
        write!(f, "auto_leave:{auto_leave}")
    }
}

/// Bytes in quotes as Go writes them: what can be printed stays, if it is UTF-8.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                write_letter(f, letter)?;
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_char('"')
    }
}

fn write_letter(f: &mut fmt::Formatter<'_>, letter: char) -> fmt::Result {
    match letter {
        '"' | '\\' => write!(f, "\\{letter}"),
        '\x07' => f.write_str("\\a"),
        '\x08' => f.write_str("\\b"),
        '\x0c' => f.write_str("\\f"),
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        '\x0b' => f.write_str("\\v"),
        ' '..='~' => f.write_char(letter),
        '\0'..='\x7f' => write!(f, "\\x{:02x}", u32::from(letter)),
        _ if is_printable(letter) => f.write_char(letter),
        '\u{80}'..='\u{ffff}' => write!(f, "\\u{:04x}", u32::from(letter)),
        _ => write!(f, "\\U{:08x}", u32::from(letter)),
    }
}

/// Whether a letter outside of ASCII can be printed. Behind another letter Rust escapes nothing but what can't, and marks
/// count as letters, as in Go.
fn is_printable(letter: char) -> bool {
    let mut buffer = [0; 5];
    buffer[0] = b'a';
    let length = 1 + letter.encode_utf8(&mut buffer[1..]).len();
    std::str::from_utf8(&buffer[..length]).is_ok_and(|text| text.escape_debug().count() == 2)
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
            return write!(f, " {}", Quoted(&self.data));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_as_go_does_it() {
        for (bytes, want) in [
            (&b"it's"[..], r#""it's""#),
            (b"a\"b\\c", r#""a\"b\\c""#),
            (b"\x07\x08\x0c\n\r\t\x0b\0\x1f\x7f", r#""\a\b\f\n\r\t\v\x00\x1f\x7f""#),
            (b"\xff\xc3", r#""\xff\xc3""#),
            ("\u{e9}\u{301}\u{4e16}\u{1f600}".as_bytes(), "\"\u{e9}\u{301}\u{4e16}\u{1f600}\""),
            ("\u{85}\u{a0}\u{200b}\u{e000}\u{10ffff}".as_bytes(), r#""\u0085\u00a0\u200b\ue000\U0010ffff""#),
        ] {
            assert_eq!(Quoted(bytes).to_string(), want);
        }
    }

    #[test]
    fn a_configuration_in_protocol_text_names_each_member() {
        let peers = |ids: &[u64]| ids.iter().copied().map(PeerId).collect();
        let state = ConfState { voters: peers(&[1, 12]), learners_next: peers(&[3]), ..ConfState::default() };
        assert_eq!(ProtoText(&state).to_string(), "voters:1 voters:12 learners_next:3 auto_leave:false");
    }
}
