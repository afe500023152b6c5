//! Messages of consensus. What a peer says to its own storage has no form on the wire.

use super::{DecodeError, list_length};
use crate::WireError;
use crate::generated::link_capnp as schema;
use bytes::Bytes;
use capnp::primitive_list;
use pinion_raft::{ConfState, Entry, EntryKind, Message, MessageKind, Snapshot, SnapshotMetadata};
use pinion_types::{LogIndex, PeerId, Term};

/// Entries of all messages of one batch at most: 131,072, which is far more than a batch of the sender's bounds holds. More would let a
/// small message take much memory; fewer would refuse a leader that has many small entries to send.
pub(crate) const ENTRIES_MAX: u32 = 1 << 17;
/// Peers in each list of a configuration at most, as in a region.
const PEERS_MAX: u32 = 64;
/// Words of an entry, its data aside, and of everything else of a message, lists aside.
const ENTRY_WORDS: usize = 5;
const MESSAGE_WORDS: usize = 16;
const SNAPSHOT_WORDS: usize = 16;

/// Words that a message will take, roughly and rather too many.
pub(crate) fn message_words(message: &Message) -> usize {
    let entries: usize = message.entries.iter().map(|entry| ENTRY_WORDS + entry.data.len() / 8).sum();
    let snapshot = message.snapshot.as_ref().map_or(0, |snapshot| {
        let conf = &snapshot.metadata.conf_state;
        let lists = [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next];
        SNAPSHOT_WORDS + snapshot.data.len() / 8 + lists.map(Vec::len).iter().sum::<usize>()
    });
    MESSAGE_WORDS + message.context.len() / 8 + entries + snapshot
}

/// Writes a message.
///
/// # Panics
/// When the message is to the peer's own storage: such a one is never sent.
pub(crate) fn write_message(mut builder: schema::raft_message::Builder<'_>, message: &Message) {
    let kind = write_kind(message.kind).expect("what a peer says to its own storage is never sent");
    builder.set_kind(kind);
    builder.set_reject(message.reject);
    builder.set_to(message.to.0);
    builder.set_from(message.from.0);
    builder.set_term(message.term.0);
    builder.set_log_term(message.log_term.0);
    builder.set_index(message.index.0);
    builder.set_commit(message.commit.0);
    builder.set_reject_hint(message.reject_hint.0);
    builder.set_priority(message.priority);
    builder.set_lease(message.lease);
    if !message.context.is_empty() {
        builder.set_context(&message.context);
    }
    if !message.entries.is_empty() {
        let mut entries = builder.reborrow().init_entries(list_length(message.entries.len()));
        for (index, entry) in (0..).zip(&message.entries) {
            write_entry(entries.reborrow().get(index), entry);
        }
    }
    if let Some(snapshot) = &message.snapshot {
        write_snapshot(builder.init_snapshot(), snapshot);
    }
}

fn write_entry(mut builder: schema::entry::Builder<'_>, entry: &Entry) {
    builder.set_term(entry.term.0);
    builder.set_index(entry.index.0);
    builder.set_kind(match entry.kind {
        EntryKind::Normal => schema::EntryKind::Normal,
        EntryKind::ConfChange => schema::EntryKind::ConfChange,
        EntryKind::ConfChangeV2 => schema::EntryKind::ConfChangeV2,
    });
    if !entry.data.is_empty() {
        builder.set_data(&entry.data);
    }
}

fn write_snapshot(mut builder: schema::snapshot::Builder<'_>, snapshot: &Snapshot) {
    builder.set_index(snapshot.metadata.index.0);
    builder.set_term(snapshot.metadata.term.0);
    builder.set_data(&snapshot.data);
    let conf = &snapshot.metadata.conf_state;
    let mut builder = builder.init_conf_state();
    builder.set_auto_leave(conf.auto_leave);
    write_peers(&conf.voters, |length| builder.reborrow().init_voters(length));
    write_peers(&conf.learners, |length| builder.reborrow().init_learners(length));
    write_peers(&conf.voters_outgoing, |length| builder.reborrow().init_voters_outgoing(length));
    write_peers(&conf.learners_next, |length| builder.reborrow().init_learners_next(length));
}

fn write_peers<'b>(peers: &[PeerId], init: impl FnOnce(u32) -> primitive_list::Builder<'b, u64>) {
    if peers.is_empty() {
        return;
    }
    let mut list = init(list_length(peers.len()));
    for (index, peer) in (0..).zip(peers) {
        list.set(index, peer.0);
    }
}

/// Reads a message; `entries_left` is how many entries its batch may still have.
pub(crate) fn read_message(
    reader: schema::raft_message::Reader<'_>,
    entries_left: &mut u32,
) -> Result<Message, DecodeError> {
    let (to, from) = (PeerId(reader.get_to()), PeerId(reader.get_from()));
    if to == from {
        return Err(WireError::invalid(format!("a message of peer {to} to itself")).into());
    }
    let snapshot = reader.has_snapshot().then(|| read_snapshot(reader.get_snapshot()?)).transpose()?;
    Ok(Message {
        kind: read_kind(reader.get_kind()?),
        reject: reader.get_reject(),
        to,
        from,
        term: Term(reader.get_term()),
        log_term: Term(reader.get_log_term()),
        index: LogIndex(reader.get_index()),
        commit: LogIndex(reader.get_commit()),
        reject_hint: LogIndex(reader.get_reject_hint()),
        priority: reader.get_priority(),
        lease: reader.get_lease(),
        entries: read_entries(reader.get_entries()?, entries_left)?,
        snapshot: snapshot.map(Box::new),
        context: Bytes::copy_from_slice(reader.get_context()?),
        ..Message::default()
    })
}

/// The entries of a message share one piece of memory, because they come and go together.
fn read_entries(
    list: capnp::struct_list::Reader<'_, schema::entry::Owned>,
    entries_left: &mut u32,
) -> Result<Vec<Entry>, DecodeError> {
    let Some(left) = entries_left.checked_sub(list.len()) else {
        return Err(WireError::TooLarge {
            what: "the number of a batch's entries".into(),
            limit: ENTRIES_MAX.into(),
            got: u64::from(ENTRIES_MAX - *entries_left) + u64::from(list.len()),
        }
        .into());
    };
    *entries_left = left;
    let mut bytes = 0;
    for entry in list {
        bytes += entry.get_data()?.len();
    }
    let mut data = Vec::with_capacity(bytes);
    for entry in list {
        data.extend_from_slice(entry.get_data()?);
    }
    let mut rest = Bytes::from(data);
    let mut entries = Vec::with_capacity(list.len() as usize);
    for entry in list {
        // A length that does not fit cannot be: the same list was just added up.
        let length = entry.get_data()?.len().min(rest.len());
        entries.push(Entry {
            term: Term(entry.get_term()),
            index: LogIndex(entry.get_index()),
            kind: match entry.get_kind()? {
                schema::EntryKind::Normal => EntryKind::Normal,
                schema::EntryKind::ConfChange => EntryKind::ConfChange,
                schema::EntryKind::ConfChangeV2 => EntryKind::ConfChangeV2,
            },
            data: rest.split_to(length),
        });
    }
    Ok(entries)
}

fn read_snapshot(reader: schema::snapshot::Reader<'_>) -> Result<Snapshot, DecodeError> {
    let conf = reader.get_conf_state()?;
    let conf_state = ConfState {
        voters: read_peers(conf.get_voters()?)?,
        learners: read_peers(conf.get_learners()?)?,
        voters_outgoing: read_peers(conf.get_voters_outgoing()?)?,
        learners_next: read_peers(conf.get_learners_next()?)?,
        auto_leave: conf.get_auto_leave(),
    };
    let (index, term) = (LogIndex(reader.get_index()), Term(reader.get_term()));
    Ok(Snapshot {
        metadata: SnapshotMetadata { conf_state, index, term },
        data: Bytes::copy_from_slice(reader.get_data()?),
    })
}

fn read_peers(list: primitive_list::Reader<'_, u64>) -> Result<Vec<PeerId>, DecodeError> {
    if list.len() > PEERS_MAX {
        return Err(WireError::invalid(format!("a configuration with {} peers", list.len())).into());
    }
    Ok(list.iter().map(PeerId).collect())
}

fn write_kind(kind: MessageKind) -> Option<schema::MessageKind> {
    Some(match kind {
        MessageKind::Propose => schema::MessageKind::Propose,
        MessageKind::Append => schema::MessageKind::Append,
        MessageKind::AppendResponse => schema::MessageKind::AppendResponse,
        MessageKind::Vote => schema::MessageKind::Vote,
        MessageKind::VoteResponse => schema::MessageKind::VoteResponse,
        MessageKind::PreVote => schema::MessageKind::PreVote,
        MessageKind::PreVoteResponse => schema::MessageKind::PreVoteResponse,
        MessageKind::Snapshot => schema::MessageKind::Snapshot,
        MessageKind::Heartbeat => schema::MessageKind::Heartbeat,
        MessageKind::HeartbeatResponse => schema::MessageKind::HeartbeatResponse,
        MessageKind::TransferLeader => schema::MessageKind::TransferLeader,
        MessageKind::TimeoutNow => schema::MessageKind::TimeoutNow,
        MessageKind::ReadIndex => schema::MessageKind::ReadIndex,
        MessageKind::ReadIndexResponse => schema::MessageKind::ReadIndexResponse,
        MessageKind::StorageAppend
        | MessageKind::StorageAppendResponse
        | MessageKind::StorageApply
        | MessageKind::StorageApplyResponse => return None,
    })
}

fn read_kind(kind: schema::MessageKind) -> MessageKind {
    match kind {
        schema::MessageKind::Propose => MessageKind::Propose,
        schema::MessageKind::Append => MessageKind::Append,
        schema::MessageKind::AppendResponse => MessageKind::AppendResponse,
        schema::MessageKind::Vote => MessageKind::Vote,
        schema::MessageKind::VoteResponse => MessageKind::VoteResponse,
        schema::MessageKind::PreVote => MessageKind::PreVote,
        schema::MessageKind::PreVoteResponse => MessageKind::PreVoteResponse,
        schema::MessageKind::Snapshot => MessageKind::Snapshot,
        schema::MessageKind::Heartbeat => MessageKind::Heartbeat,
        schema::MessageKind::HeartbeatResponse => MessageKind::HeartbeatResponse,
        schema::MessageKind::TransferLeader => MessageKind::TransferLeader,
        schema::MessageKind::TimeoutNow => MessageKind::TimeoutNow,
        schema::MessageKind::ReadIndex => MessageKind::ReadIndex,
        schema::MessageKind::ReadIndexResponse => MessageKind::ReadIndexResponse,
    }
}
