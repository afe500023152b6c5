//! What stores say to each other.

use super::consensus::{ENTRIES_MAX, message_words, read_message, write_message};
use super::refusal::{read_error, write_error};
use super::region::{read_epoch, read_peer, write_epoch, write_peer};
use super::{DecodeError, list_length, read_addresses, write_addresses};
use crate::generated::link_capnp as schema;
use crate::link::SNAPSHOT_CHUNK_BYTES_MAX;
use crate::{LinkHello, RegionMessage, SnapshotChunk, SnapshotKey, SnapshotOffer, WireError};
use bytes::Bytes;
use capnp::struct_list;
use pinion_raft::{Message, MessageKind};
use pinion_types::{CoreId, LogIndex, PeerId, RegionId, StoreId, Term};

/// Messages of a batch at most: 16,384. More would let a small batch take much memory; fewer would cut a turn of a core with very many
/// regions into several calls.
pub(crate) const MESSAGES_MAX: u32 = 1 << 14;
/// Files of a snapshot at most: 65,536. A snapshot with more is of a region that should have been split long ago.
const FILES_MAX: u32 = 1 << 16;
/// Words of a region's message, all that has a length of its own aside.
const ENVELOPE_WORDS: usize = 24;

pub(crate) fn write_hello(mut builder: schema::link_hello::Builder<'_>, hello: &LinkHello) {
    builder.set_cluster_id(hello.cluster);
    builder.set_from_store_id(hello.from.0);
    builder.set_from_core(hello.from_core.0);
    builder.set_to_store_id(hello.to.0);
    write_addresses(builder.init_addresses(list_length(hello.addresses.len())), &hello.addresses);
}

pub(crate) fn read_hello(reader: schema::link_hello::Reader<'_>) -> Result<LinkHello, DecodeError> {
    Ok(LinkHello {
        cluster: reader.get_cluster_id(),
        from: StoreId(reader.get_from_store_id()),
        from_core: CoreId(reader.get_from_core()),
        to: StoreId(reader.get_to_store_id()),
        addresses: read_addresses(reader.get_addresses()?)?,
    })
}

/// Words that a message will take, roughly and rather too many.
pub(crate) fn region_message_words(message: &RegionMessage) -> usize {
    let bounds = message.start.len() / 8 + message.end.len() / 8;
    ENVELOPE_WORDS + bounds + if message.gone { 0 } else { message_words(&message.message) }
}

pub(crate) fn write_region_message(
    mut builder: schema::region_message::Builder<'_>,
    message: &RegionMessage,
) {
    builder.set_region_id(message.region.0);
    builder.set_from_core(message.from_core.0);
    write_epoch(builder.reborrow().init_epoch(), message.epoch);
    write_peer(builder.reborrow().init_from(), message.from);
    write_peer(builder.reborrow().init_to(), message.to);
    if !message.start.is_empty() {
        builder.set_start(&message.start);
    }
    if !message.end.is_empty() {
        builder.set_end(&message.end);
    }
    if message.gone {
        builder.set_gone(());
    } else {
        write_message(builder.init_raft(), &message.message);
    }
}

fn read_region_message(
    reader: schema::region_message::Reader<'_>,
    entries_left: &mut u32,
) -> Result<RegionMessage, DecodeError> {
    let (gone, message) = match reader.which()? {
        schema::region_message::Gone(()) => (true, Message::default()),
        schema::region_message::Raft(message) => (false, read_message(message?, entries_left)?),
    };
    Ok(RegionMessage {
        region: RegionId(reader.get_region_id()),
        epoch: read_epoch(reader.get_epoch()?),
        from: read_peer(reader.get_from()?)?,
        to: read_peer(reader.get_to()?)?,
        start: reader.get_start()?.to_vec(),
        end: reader.get_end()?.to_vec(),
        from_core: CoreId(reader.get_from_core()),
        gone,
        message,
    })
}

pub(crate) fn write_messages(
    mut list: struct_list::Builder<'_, schema::region_message::Owned>,
    messages: &[RegionMessage],
) {
    for (index, message) in (0..).zip(messages) {
        write_region_message(list.reborrow().get(index), message);
    }
}

/// Reads a batch. One message that makes no sense refuses all of it: its sender has a defect.
pub(crate) fn read_messages(
    list: struct_list::Reader<'_, schema::region_message::Owned>,
) -> Result<Vec<RegionMessage>, DecodeError> {
    check_length("the number of a batch's messages", list.len(), MESSAGES_MAX)?;
    let mut entries_left = ENTRIES_MAX;
    let read = |message| {
        let message = read_region_message(message, &mut entries_left)?;
        // A snapshot comes with its files, by an offer; and callers' proposals come to the leader as calls, which are checked.
        match message.message.kind {
            kind @ (MessageKind::Snapshot | MessageKind::Propose) if !message.gone => {
                Err(WireError::invalid(format!("a batch has no messages of kind {kind:?}")).into())
            }
            _ => Ok(message),
        }
    };
    list.iter().map(read).collect()
}

/// Words that an offer will take, roughly and rather too many.
pub(crate) fn offer_words(offer: &SnapshotOffer) -> usize {
    region_message_words(&offer.message) + offer.description.len() / 8 + 2 * offer.files.len() + 8
}

pub(crate) fn write_offer(mut builder: schema::snapshot_offer::Builder<'_>, offer: &SnapshotOffer) {
    write_region_message(builder.reborrow().init_message(), &offer.message);
    builder.set_description(&offer.description);
    write_files(builder.init_files(list_length(offer.files.len())), &offer.files);
}

pub(crate) fn read_offer(reader: schema::snapshot_offer::Reader<'_>) -> Result<SnapshotOffer, DecodeError> {
    let message = read_region_message(reader.get_message()?, &mut 0)?;
    if message.message.kind != MessageKind::Snapshot || message.message.snapshot.is_none() {
        return Err(WireError::invalid("an offer of a snapshot without a snapshot's message").into());
    }
    Ok(SnapshotOffer {
        message,
        description: Bytes::copy_from_slice(reader.get_description()?),
        files: read_files(reader.get_files()?)?,
    })
}

fn write_files(mut list: struct_list::Builder<'_, schema::snapshot_file::Owned>, files: &[(u64, u64)]) {
    for (index, &(number, bytes)) in (0..).zip(files) {
        let mut file = list.reborrow().get(index);
        file.set_number(number);
        file.set_size_bytes(bytes);
    }
}

fn read_files(
    list: struct_list::Reader<'_, schema::snapshot_file::Owned>,
) -> Result<Vec<(u64, u64)>, DecodeError> {
    check_length("the number of a snapshot's files", list.len(), FILES_MAX)?;
    Ok(list.iter().map(|file| (file.get_number(), file.get_size_bytes())).collect())
}

pub(crate) fn write_key(mut builder: schema::snapshot_key::Builder<'_>, key: SnapshotKey) {
    builder.set_region_id(key.region.0);
    builder.set_to_peer_id(key.to.0);
    builder.set_index(key.index.0);
    builder.set_term(key.term.0);
}

pub(crate) fn read_key(reader: schema::snapshot_key::Reader<'_>) -> SnapshotKey {
    SnapshotKey {
        region: RegionId(reader.get_region_id()),
        to: PeerId(reader.get_to_peer_id()),
        index: LogIndex(reader.get_index()),
        term: Term(reader.get_term()),
    }
}

pub(crate) fn write_chunk(mut builder: schema::snapshot_chunk::Builder<'_>, chunk: &SnapshotChunk) {
    write_key(builder.reborrow().init_key(), chunk.key);
    builder.set_file(chunk.file);
    builder.set_offset(chunk.offset);
    builder.set_crc32(chunk.crc32);
    builder.set_data(&chunk.data);
}

pub(crate) fn read_chunk(reader: schema::snapshot_chunk::Reader<'_>) -> Result<SnapshotChunk, DecodeError> {
    let data = reader.get_data()?;
    if data.len() > SNAPSHOT_CHUNK_BYTES_MAX {
        return Err(WireError::TooLarge {
            what: "a chunk's bytes".into(),
            limit: SNAPSHOT_CHUNK_BYTES_MAX as u64,
            got: data.len() as u64,
        }
        .into());
    }
    Ok(SnapshotChunk {
        key: read_key(reader.get_key()?),
        file: reader.get_file(),
        offset: reader.get_offset(),
        crc32: reader.get_crc32(),
        data: Bytes::copy_from_slice(data),
    })
}

pub(crate) fn write_offer_answer(
    builder: schema::offer_answer::Builder<'_>,
    answer: &Result<Vec<(u64, u64)>, WireError>,
) {
    match answer {
        Ok(files) => write_files(builder.init_there(list_length(files.len())), files),
        Err(error) => write_error(builder.init_error(), error),
    }
}

pub(crate) fn read_offer_answer(
    reader: schema::offer_answer::Reader<'_>,
) -> Result<Result<Vec<(u64, u64)>, WireError>, DecodeError> {
    match reader.which()? {
        schema::offer_answer::There(files) => Ok(Ok(read_files(files?)?)),
        schema::offer_answer::Error(error) => Ok(Err(read_error(error?)?)),
    }
}

pub(crate) fn write_ids_answer(
    mut builder: schema::ids_answer::Builder<'_>,
    answer: &Result<u64, WireError>,
) {
    match answer {
        Ok(first) => builder.set_first(*first),
        Err(error) => write_error(builder.init_error(), error),
    }
}

pub(crate) fn read_ids_answer(
    reader: schema::ids_answer::Reader<'_>,
) -> Result<Result<u64, WireError>, DecodeError> {
    match reader.which()? {
        schema::ids_answer::First(first) => Ok(Ok(first)),
        schema::ids_answer::Error(error) => Ok(Err(read_error(error?)?)),
    }
}

fn check_length(what: &str, length: u32, limit: u32) -> Result<(), WireError> {
    if length > limit {
        return Err(WireError::TooLarge { what: what.into(), limit: limit.into(), got: length.into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
