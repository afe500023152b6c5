//! What a region's log entries say: the commands of one turn of the core's loop, and the administrator's changes.
//!
//! Every entry begins with the same header; all integers are little-endian:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 1 | format, 1 |
//! | 1 | 1 | kind: 1 commands, 2 split, 3 compaction of the log, 4 change of members |
//! | 2 | 8 | stamp: the leader's time in milliseconds since the Unix epoch, never less than an earlier entry's |
//! | 10 | 8 | the epoch's `version` when it was proposed |
//! | 18 | 8 | the epoch's `conf_ver` when it was proposed |
//! | 26 | rest | the body |
//!
//! The body of *commands* is a sequence of `kind: u8, length: u32, body`; kind 1 is a write batch (`pinion_engine::batch`), kind 2 a
//! compare-and-swap: `family: u8, key, expected, new`, where a key is `length: u32, bytes` and an optional value is `present: u8` and, after
//! a 1, `length: u32, bytes` (`new` in its envelope). The body of *split* is `count: u32`, and for each new region `id: u64, number of
//! peers: u32, their ids: u64 each, split key`. The body of *compaction* is `index: u64, term: u64`.
//!
//! An entry that changes members is Raft's, and this is its context; the body is `count: u32`, and for each peer that the change names `id: u64,
//! store: u64`.
//!
//! What depends on the present state or on time (compare-and-swap, expiry) is decided when the entry is applied, by the stamp, alike on
//! every replica. An entry whose `version` is not the region's when it is applied changes nothing.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pinion_types::{ColumnFamily, Epoch, LogIndex, PeerId, Region, RegionId, StoreId, Term};
use thiserror::Error;

const FORMAT: u8 = 1;
const KIND_COMMANDS: u8 = 1;
const KIND_SPLIT: u8 = 2;
const KIND_COMPACT: u8 = 3;
const KIND_MEMBERS: u8 = 4;
const COMMAND_WRITE: u8 = 1;
const COMMAND_COMPARE_AND_SWAP: u8 = 2;

/// An entry that does not say what an entry may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a log entry of {len} bytes is damaged or of an unknown version: {what}")]
pub struct MalformedEntry {
    /// Bytes of the entry.
    pub len: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// The header of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The leader's time when it proposed, in milliseconds since the Unix epoch.
    pub stamp_ms: u64,
    /// The region's epoch when it was proposed.
    pub epoch: Epoch,
}

/// One conditional or unconditional change, atomic by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A write batch in its encoded form.
    Write(Bytes),
    /// A change of one key, made only if its value is the expected one.
    CompareAndSwap(CompareAndSwap),
}

/// A change of one key on condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompareAndSwap {
    /// The key's family.
    pub family: ColumnFamily,
    /// The stored key.
    pub key: Bytes,
    /// The caller's value that must be there; `None`: the key must be absent.
    pub expected: Option<Bytes>,
    /// The new value in its envelope; `None` deletes the key.
    pub new: Option<Bytes>,
}

/// A region that a split makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRegion {
    /// Its id.
    pub id: RegionId,
    /// The ids of its peers, in the order of the region's own.
    pub peers: Vec<PeerId>,
    /// Its first stored key.
    pub start: Vec<u8>,
}

impl NewRegion {
    /// Whether it could be made of a part of this region.
    pub fn fits(&self, region: &Region) -> bool {
        self.peers.len() == region.peers.len() && region.contains_exclusive(&self.start)
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Commands in their order.
    Commands(Vec<Command>),
    /// The region keeps what is before the first new region; each new region reaches to the next.
    Split(Vec<NewRegion>),
    /// The log up to this position is not needed any more.
    Compact(LogIndex, Term),
}

/// Collects the commands of one turn into one entry.
#[derive(Default)]
pub struct CommandsBuilder {
    body: BytesMut,
    count: usize,
}

impl CommandsBuilder {
    /// Adds a write batch in its encoded form.
    pub fn write(&mut self, batch: &[u8]) {
        self.begin(COMMAND_WRITE, batch.len());
        self.body.put_slice(batch);
    }

    /// Adds a compare-and-swap.
    pub fn compare_and_swap(&mut self, command: &CompareAndSwap) {
        let optional_len = |value: &Option<Bytes>| value.as_ref().map_or(1, |value| 5 + value.len());
        let len = 1 + 4 + command.key.len() + optional_len(&command.expected) + optional_len(&command.new);
        self.begin(COMMAND_COMPARE_AND_SWAP, len);
        self.body.put_u8(command.family.as_byte());
        put_bytes(&mut self.body, &command.key);
        put_optional(&mut self.body, command.expected.as_deref());
        put_optional(&mut self.body, command.new.as_deref());
    }

    fn begin(&mut self, kind: u8, len: usize) {
        if self.body.is_empty() {
            // The header's place; it is filled in when the stamp is known.
            self.body.put_bytes(0, HEADER_BYTES);
        }
        self.body.put_u8(kind);
        self.body.put_u32_le(u32::try_from(len).expect("a command is within the limits of admission"));
        self.count += 1;
    }

    /// Commands so far.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes so far.
    pub fn byte_len(&self) -> usize {
        self.body.len()
    }

    /// The entry, and an empty builder again.
    pub fn finish(&mut self, header: Header) -> Bytes {
        self.count = 0;
        let mut entry = std::mem::take(&mut self.body);
        let mut place = &mut entry[..HEADER_BYTES];
        put_header(&mut place, KIND_COMMANDS, header);
        entry.freeze()
    }
}

const HEADER_BYTES: usize = 26;

fn put_header(to: &mut impl BufMut, kind: u8, header: Header) {
    to.put_u8(FORMAT);
    to.put_u8(kind);
    to.put_u64_le(header.stamp_ms);
    to.put_u64_le(header.epoch.version);
    to.put_u64_le(header.epoch.conf_ver);
}

fn put_bytes(to: &mut BytesMut, bytes: &[u8]) {
    to.put_u32_le(u32::try_from(bytes.len()).expect("keys and values are within the limits of admission"));
    to.put_slice(bytes);
}

fn put_optional(to: &mut BytesMut, bytes: Option<&[u8]>) {
    to.put_u8(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        put_bytes(to, bytes);
    }
}

/// An entry that splits a region.
pub fn encode_split(header: Header, new: &[NewRegion]) -> Bytes {
    let mut entry = BytesMut::new();
    put_header(&mut entry, KIND_SPLIT, header);
    entry.put_u32_le(u32::try_from(new.len()).expect("a split makes few regions"));
    for region in new {
        entry.put_u64_le(region.id.0);
        entry.put_u32_le(u32::try_from(region.peers.len()).expect("a region has few peers"));
        region.peers.iter().for_each(|peer| entry.put_u64_le(peer.0));
        put_bytes(&mut entry, &region.start);
    }
    entry.freeze()
}

/// An entry that compacts the log.
pub fn encode_compact(header: Header, index: LogIndex, term: Term) -> Bytes {
    let mut entry = BytesMut::new();
    put_header(&mut entry, KIND_COMPACT, header);
    entry.put_u64_le(index.0);
    entry.put_u64_le(term.0);
    entry.freeze()
}

/// The context of a change of members: where the peers sit that it names.
pub fn encode_members(header: Header, seats: &[(PeerId, StoreId)]) -> Bytes {
    let mut context = BytesMut::new();
    put_header(&mut context, KIND_MEMBERS, header);
    context.put_u32_le(u32::try_from(seats.len()).expect("a change names few peers"));
    for (peer, store) in seats {
        context.put_u64_le(peer.0);
        context.put_u64_le(store.0);
    }
    context.freeze()
}

/// Reads the context of a change of members back.
pub fn decode_members(context: &Bytes) -> Result<(Header, Vec<(PeerId, StoreId)>), MalformedEntry> {
    let mut reader = Reader { rest: context.clone(), len: context.len() };
    let (kind, header) = reader.header()?;
    if kind != KIND_MEMBERS {
        return Err(reader.malformed("not a change of members"));
    }
    let mut seats = Vec::new();
    for _ in 0..reader.u32()? {
        seats.push((PeerId(reader.u64()?), StoreId(reader.u64()?)));
    }
    reader.end()?;
    Ok((header, seats))
}

/// Reads an entry back.
pub fn decode(entry: &Bytes) -> Result<(Header, Body), MalformedEntry> {
    let mut reader = Reader { rest: entry.clone(), len: entry.len() };
    let (kind, header) = reader.header()?;
    let body = match kind {
        KIND_COMMANDS => Body::Commands(decode_commands(&mut reader)?),
        KIND_SPLIT => Body::Split(decode_split(&mut reader)?),
        KIND_COMPACT => Body::Compact(LogIndex(reader.u64()?), Term(reader.u64()?)),
        _ => return Err(reader.malformed("unknown kind")),
    };
    reader.end()?;
    Ok((header, body))
}

fn decode_commands(reader: &mut Reader) -> Result<Vec<Command>, MalformedEntry> {
    let mut commands = Vec::new();
    while reader.rest.has_remaining() {
        let kind = reader.u8()?;
        let body = reader.bytes()?;
        commands.push(match kind {
            COMMAND_WRITE => Command::Write(body),
            COMMAND_COMPARE_AND_SWAP => {
                let mut inner = Reader { len: reader.len, rest: body };
                let family =
                    ColumnFamily::from_byte(inner.u8()?).ok_or_else(|| reader.malformed("unknown family"))?;
                let (key, expected, new) = (inner.bytes()?, inner.optional()?, inner.optional()?);
                if inner.rest.has_remaining() {
                    return Err(reader.malformed("bytes after a command's end"));
                }
                Command::CompareAndSwap(CompareAndSwap { family, key, expected, new })
            }
            _ => return Err(reader.malformed("unknown command")),
        });
    }
    Ok(commands)
}

fn decode_split(reader: &mut Reader) -> Result<Vec<NewRegion>, MalformedEntry> {
    let count = reader.u32()?;
    let mut new = Vec::new();
    for _ in 0..count {
        let (id, mut peers) = (RegionId(reader.u64()?), Vec::new());
        for _ in 0..reader.u32()? {
            peers.push(PeerId(reader.u64()?));
        }
        new.push(NewRegion { id, peers, start: reader.bytes()?.to_vec() });
    }
    Ok(new)
}

/// Takes an entry apart; every length is checked against what is there.
struct Reader {
    rest: Bytes,
    len: usize,
}

impl Reader {
    fn malformed(&self, what: &'static str) -> MalformedEntry {
        MalformedEntry { len: self.len, what }
    }

    /// The kind of the entry, and its header.
    fn header(&mut self) -> Result<(u8, Header), MalformedEntry> {
        if self.u8()? != FORMAT {
            return Err(self.malformed("unknown format"));
        }
        let kind = self.u8()?;
        let stamp_ms = self.u64()?;
        let epoch = Epoch { version: self.u64()?, conf_ver: self.u64()? };
        Ok((kind, Header { stamp_ms, epoch }))
    }

    /// Nothing more may be there.
    fn end(&self) -> Result<(), MalformedEntry> {
        if self.rest.has_remaining() { Err(self.malformed("bytes after the end")) } else { Ok(()) }
    }

    fn u8(&mut self) -> Result<u8, MalformedEntry> {
        self.rest.try_get_u8().map_err(|_| self.malformed("too short"))
    }

    fn u32(&mut self) -> Result<u32, MalformedEntry> {
        self.rest.try_get_u32_le().map_err(|_| self.malformed("too short"))
    }

    fn u64(&mut self) -> Result<u64, MalformedEntry> {
        self.rest.try_get_u64_le().map_err(|_| self.malformed("too short"))
    }

    fn bytes(&mut self) -> Result<Bytes, MalformedEntry> {
        let len = usize::try_from(self.u32()?).map_err(|_| self.malformed("a length past memory"))?;
        if len > self.rest.remaining() {
            return Err(self.malformed("a length past the end"));
        }
        Ok(self.rest.split_to(len))
    }

    fn optional(&mut self) -> Result<Option<Bytes>, MalformedEntry> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.bytes().map(Some),
            _ => Err(self.malformed("neither absent nor present")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { stamp_ms: 77, epoch: Epoch { conf_ver: 2, version: 9 } };

    fn commands() -> Bytes {
        let mut builder = CommandsBuilder::default();
        builder.write(b"batch");
        builder.compare_and_swap(&CompareAndSwap {
            family: ColumnFamily::Lock,
            key: Bytes::from_static(b"rk"),
            expected: None,
            new: Some(Bytes::from_static(b"\0v")),
        });
        assert_eq!(builder.count(), 2);
        builder.finish(HEADER)
    }

    #[test]
    fn entries_read_back() {
        let (header, body) = decode(&commands()).unwrap();
        assert_eq!(header, HEADER);
        let Body::Commands(commands) = body else { panic!("not commands") };
        assert_eq!(commands[0], Command::Write(Bytes::from_static(b"batch")));
        assert!(matches!(&commands[1], Command::CompareAndSwap(cas) if cas.expected.is_none()));

        let new =
            vec![NewRegion { id: RegionId(8), peers: vec![PeerId(9), PeerId(10)], start: b"rm".to_vec() }];
        assert_eq!(decode(&encode_split(HEADER, &new)).unwrap().1, Body::Split(new));
        let seats = vec![(PeerId(4), StoreId(2)), (PeerId(7), StoreId(3))];
        assert_eq!(decode_members(&encode_members(HEADER, &seats)).unwrap(), (HEADER, seats));
        assert!(decode_members(&self::commands()).is_err());
        let compact = encode_compact(HEADER, LogIndex(4), Term(2));
        assert_eq!(decode(&compact).unwrap().1, Body::Compact(LogIndex(4), Term(2)));
    }

    #[test]
    fn no_cut_or_changed_entry_panics() {
        let entry = commands();
        for len in 0..entry.len() {
            let _ = decode(&entry.slice(..len));
        }
        for position in 0..entry.len() {
            let mut changed = entry.to_vec();
            changed[position] ^= 0xff;
            let _ = decode(&Bytes::from(changed));
        }
        assert!(decode(&entry.slice(..3)).is_err());
    }
}
