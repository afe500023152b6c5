//! The log's bytes. All integers are little-endian; a block is 4096 bytes.
//!
//! A segment is a file `<number, 16 hex digits>.log` of a fixed size. Its first block is the header:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | magic `PNLG` |
//! | 4 | 4 | crc32 of bytes 8..48 |
//! | 8 | 4 | format version, 2 |
//! | 12 | 4 | core |
//! | 16 | 8 | segment number, which is the generation of the file: a recycled file gets a new one |
//! | 24 | 8 | epoch of the log |
//! | 32 | 8 | number of the first group |
//! | 40 | 8 | segment size in bytes |
//!
//! A group begins on a block:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | magic `PNGR` |
//! | 4 | 4 | crc32 of the bytes from 8 to the end of the body |
//! | 8 | 8 | epoch of the log |
//! | 16 | 8 | segment number |
//! | 24 | 8 | group number |
//! | 32 | 8 | `durable_through`: the highest group known to be durable when this one was written |
//! | 40 | 8 | number of the oldest segment that is in use |
//! | 48 | 4 | length of the body |
//! | 52 | 4 | number of records |
//! | 56 | body | records |
//!
//! A record:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 1 | kind |
//! | 1 | 4 | length of the body |
//! | 5 | 8 | stream |
//! | 13 | 8 | sequence within the stream |
//! | 21 | body | by kind |
//!
//! | kind | record | body |
//! | --- | --- | --- |
//! | 1 | entry | index 8, term 8, crc32 of stream, index, term, kind and payload 4, kind 1 (the owner's), payload |
//! | 2 | hard state | term 8, vote 8, commit 8 |
//! | 3 | compact | index 8, term 8 |
//! | 4 | edit | payload |
//! | 5 | structure | payload |
//! | 6 | adopt | generation 8 |
//! | 7 | remove | nothing |

use bytes::{Buf, BufMut, Bytes};
use pinion_types::{LogIndex, RegionId, Term};

pub(super) const BLOCK: usize = pinion_runtime::fs::ALIGNMENT;
pub(super) const GROUP_HEADER: usize = 56;
pub(super) const RECORD_HEADER: usize = 21;
pub(super) const ENTRY_HEADER: usize = 21;
pub(super) const VERSION: u32 = 2;

const SEGMENT_MAGIC: &[u8; 4] = b"PNLG";
const GROUP_MAGIC: &[u8; 4] = b"PNGR";
const SEGMENT_HEADER: usize = 48;

const ENTRY: u8 = 1;
const HARD_STATE: u8 = 2;
const COMPACT: u8 = 3;
const EDIT: u8 = 4;
const STRUCTURE: u8 = 5;
const ADOPT: u8 = 6;
const REMOVE: u8 = 7;

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) core: u32,
    pub(super) number: u64,
    pub(super) epoch: u64,
    pub(super) first_group: u64,
    pub(super) size: u64,
}

/// Why a segment's header is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Zeros, a torn write, or the bytes of something else.
    NotAHeader,
    /// A header of a format that this program does not know.
    Version(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self, block: &mut [u8]) {
        block.fill(0);
        let mut body = Vec::with_capacity(SEGMENT_HEADER - 8);
        body.put_u32_le(VERSION);
        body.put_u32_le(self.core);
        body.put_u64_le(self.number);
        body.put_u64_le(self.epoch);
        body.put_u64_le(self.first_group);
        body.put_u64_le(self.size);
        block[..4].copy_from_slice(SEGMENT_MAGIC);
        block[4..8].copy_from_slice(&crc32fast::hash(&body).to_le_bytes());
        block[8..SEGMENT_HEADER].copy_from_slice(&body);
    }

    pub(super) fn decode(block: &[u8]) -> Result<Self, BadHeader> {
        let mut header = block.get(..SEGMENT_HEADER).ok_or(BadHeader::NotAHeader)?;
        let body = &header[8..];
        let (magic, crc) = (header.get_u32(), header.get_u32_le());
        if magic != u32::from_be_bytes(*SEGMENT_MAGIC) || crc != crc32fast::hash(body) {
            return Err(BadHeader::NotAHeader);
        }
        let version = header.get_u32_le();
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        Ok(Self {
            core: header.get_u32_le(),
            number: header.get_u64_le(),
            epoch: header.get_u64_le(),
            first_group: header.get_u64_le(),
            size: header.get_u64_le(),
        })
    }
}

/// The header of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub(super) epoch: u64,
    pub(super) segment: u64,
    pub(super) number: u64,
    pub(super) durable_through: u64,
    pub(super) oldest: u64,
    pub(super) body_len: u32,
    pub(super) records: u32,
}

impl GroupHeader {
    /// Fills in the header of a group whose body stands at `GROUP_HEADER..` in `group`.
    pub(super) fn encode(&self, group: &mut [u8]) {
        let mut fields = Vec::with_capacity(GROUP_HEADER - 8);
        fields.put_u64_le(self.epoch);
        fields.put_u64_le(self.segment);
        fields.put_u64_le(self.number);
        fields.put_u64_le(self.durable_through);
        fields.put_u64_le(self.oldest);
        fields.put_u32_le(self.body_len);
        fields.put_u32_le(self.records);
        group[..4].copy_from_slice(GROUP_MAGIC);
        group[8..GROUP_HEADER].copy_from_slice(&fields);
        let crc = crc32fast::hash(&group[8..GROUP_HEADER + self.body_len as usize]);
        group[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// The group that begins at the start of `bytes`, if a whole and undamaged one does.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut header = bytes.get(..GROUP_HEADER)?;
        let (magic, crc) = (header.get_u32(), header.get_u32_le());
        if magic != u32::from_be_bytes(*GROUP_MAGIC) {
            return None;
        }
        let decoded = Self {
            epoch: header.get_u64_le(),
            segment: header.get_u64_le(),
            number: header.get_u64_le(),
            durable_through: header.get_u64_le(),
            oldest: header.get_u64_le(),
            body_len: header.get_u32_le(),
            records: header.get_u32_le(),
        };
        let whole = bytes.get(8..GROUP_HEADER.checked_add(decoded.body_len as usize)?)?;
        (crc32fast::hash(whole) == crc).then_some((decoded, &whole[GROUP_HEADER - 8..]))
    }
}

/// Bytes that a group with such a body takes in its segment.
pub(super) fn group_bytes(body_len: usize) -> usize {
    (GROUP_HEADER + body_len).next_multiple_of(BLOCK)
}

/// What is written to the log.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// An entry of a region's Raft log. One at or below the last index takes the place of all from there on.
    Entry {
        /// The region.
        stream: RegionId,
        /// Position in the region's log.
        index: LogIndex,
        /// Its term.
        term: Term,
        /// The owner's meaning of the payload; 0 is a plain command.
        kind: u8,
        /// What it says.
        payload: &'a Bytes,
    },
    /// A region's hard state; supersedes the one before.
    HardState {
        /// The region.
        stream: RegionId,
        /// Current term.
        term: Term,
        /// The peer that was voted for; 0 for none.
        vote: u64,
        /// Everything up to here is committed.
        commit: LogIndex,
    },
    /// The region's log is not needed up to this position; supersedes the one before.
    Compact {
        /// The region.
        stream: RegionId,
        /// The last position that is not needed.
        index: LogIndex,
        /// Its term.
        term: Term,
    },
    /// An edit of the region's manifest; kept until it is released.
    Edit {
        /// The region.
        stream: RegionId,
        /// The edit.
        payload: &'a [u8],
    },
    /// What belongs to the store rather than to a region; kept for ever.
    Structure {
        /// The record.
        payload: &'a [u8],
    },
    /// From here on this log owns the region, at this generation; what it held of it before is void.
    Adopt {
        /// The region.
        stream: RegionId,
        /// How often the region changed cores.
        generation: u64,
    },
    /// This log has nothing more of the region.
    Remove {
        /// The region.
        stream: RegionId,
    },
}

impl Record<'_> {
    /// The stream that the record belongs to; structure records have stream 0 to themselves.
    pub(super) fn stream(&self) -> RegionId {
        match self {
            Self::Entry { stream, .. }
            | Self::HardState { stream, .. }
            | Self::Compact { stream, .. }
            | Self::Edit { stream, .. }
            | Self::Adopt { stream, .. }
            | Self::Remove { stream } => *stream,
            Self::Structure { .. } => RegionId(0),
        }
    }

    /// Bytes of the record in a group's body.
    pub fn encoded_len(&self) -> usize {
        RECORD_HEADER
            + match self {
                Self::Entry { payload, .. } => ENTRY_HEADER + payload.len(),
                Self::HardState { .. } => 24,
                Self::Compact { .. } => 16,
                Self::Edit { payload, .. } | Self::Structure { payload } => payload.len(),
                Self::Adopt { .. } => 8,
                Self::Remove { .. } => 0,
            }
    }

    /// Appends the record to a group's body.
    pub(super) fn encode(&self, sequence: u64, to: &mut Vec<u8>) {
        let kind = match self {
            Self::Entry { .. } => ENTRY,
            Self::HardState { .. } => HARD_STATE,
            Self::Compact { .. } => COMPACT,
            Self::Edit { .. } => EDIT,
            Self::Structure { .. } => STRUCTURE,
            Self::Adopt { .. } => ADOPT,
            Self::Remove { .. } => REMOVE,
        };
        let body_len = self.encoded_len() - RECORD_HEADER;
        to.put_u8(kind);
        to.put_u32_le(u32::try_from(body_len).expect("a record fits into a segment"));
        to.put_u64_le(self.stream().0);
        to.put_u64_le(sequence);
        match self {
            Self::Entry { stream, index, term, kind, payload } => {
                to.put_u64_le(index.0);
                to.put_u64_le(term.0);
                to.put_u32_le(entry_crc(*stream, *index, *term, *kind, payload));
                to.put_u8(*kind);
                to.put_slice(payload);
            }
            Self::HardState { term, vote, commit, .. } => {
                to.put_u64_le(term.0);
                to.put_u64_le(*vote);
                to.put_u64_le(commit.0);
            }
            Self::Compact { index, term, .. } => {
                to.put_u64_le(index.0);
                to.put_u64_le(term.0);
            }
            Self::Edit { payload, .. } | Self::Structure { payload } => to.put_slice(payload),
            Self::Adopt { generation, .. } => to.put_u64_le(*generation),
            Self::Remove { .. } => {}
        }
    }
}

/// The checksum that an entry carries for itself, so that it can be read without its group.
pub(super) fn entry_crc(stream: RegionId, index: LogIndex, term: Term, kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut fields = [0; 25];
    fields[..8].copy_from_slice(&stream.0.to_le_bytes());
    fields[8..16].copy_from_slice(&index.0.to_le_bytes());
    fields[16..24].copy_from_slice(&term.0.to_le_bytes());
    fields[24] = kind;
    hasher.update(&fields);
    hasher.update(payload);
    hasher.finalize()
}

/// A record as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    /// The stream; 0 for the store's own.
    pub stream: RegionId,
    /// The sequence within the stream.
    pub sequence: u64,
    /// What it says.
    pub body: ReadBody,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of `Record`")]
pub enum ReadBody {
    /// An entry; `offset` is where its payload begins within the group's body.
    Entry { index: LogIndex, term: Term, kind: u8, offset: usize, len: usize },
    /// A hard state.
    HardState { term: Term, vote: u64, commit: LogIndex },
    /// A compaction.
    Compact { index: LogIndex, term: Term },
    /// An edit of a manifest.
    Edit(Bytes),
    /// A structure record.
    Structure(Bytes),
    /// An adoption.
    Adopt { generation: u64 },
    /// A removal.
    Remove,
}

/// The records of a group's body, or what is wrong with it. The body's checksum matched: this is about versions and defects.
pub(super) fn decode_records(body: &[u8]) -> Result<Vec<ReadRecord>, &'static str> {
    let mut records = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        if rest.len() < RECORD_HEADER {
            return Err("a record is cut off");
        }
        let kind = rest.get_u8();
        let len = rest.get_u32_le() as usize;
        let stream = RegionId(rest.get_u64_le());
        let sequence = rest.get_u64_le();
        let Some((mut record, after)) = rest.split_at_checked(len) else {
            return Err("a record is longer than its group");
        };
        let offset = body.len() - rest.len();
        rest = after;
        let body = match (kind, len) {
            (ENTRY, ENTRY_HEADER..) => {
                let (index, term) = (LogIndex(record.get_u64_le()), Term(record.get_u64_le()));
                let _crc = record.get_u32_le();
                let (kind, offset) = (record.get_u8(), offset + ENTRY_HEADER);
                ReadBody::Entry { index, term, kind, offset, len: len - ENTRY_HEADER }
            }
            (HARD_STATE, 24) => ReadBody::HardState {
                term: Term(record.get_u64_le()),
                vote: record.get_u64_le(),
                commit: LogIndex(record.get_u64_le()),
            },
            (COMPACT, 16) => {
                ReadBody::Compact { index: LogIndex(record.get_u64_le()), term: Term(record.get_u64_le()) }
            }
            (EDIT, _) => ReadBody::Edit(Bytes::copy_from_slice(record)),
            (STRUCTURE, _) => ReadBody::Structure(Bytes::copy_from_slice(record)),
            (ADOPT, 8) => ReadBody::Adopt { generation: record.get_u64_le() },
            (REMOVE, 0) => ReadBody::Remove,
            _ => return Err("a record is of an unknown kind or has a wrong length"),
        };
        records.push(ReadRecord { stream, sequence, body });
    }
    Ok(records)
}

/// The name of the segment with this number.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:016x}.log")
}

/// The number of the segment with this name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name.strip_suffix(".log")?, 16).ok()?;
    (segment_name(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_header_is_checked_to_the_byte() {
        let header = SegmentHeader { core: 1, number: 2, epoch: 3, first_group: 4, size: 5 << 12 };
        let mut block = vec![0; BLOCK];
        header.encode(&mut block);
        assert_eq!(SegmentHeader::decode(&block), Ok(header));
        for position in 0..SEGMENT_HEADER {
            block[position] ^= 1;
            assert_eq!(SegmentHeader::decode(&block), Err(BadHeader::NotAHeader), "byte {position}");
            block[position] ^= 1;
        }
    }

    #[test]
    fn a_changed_or_cut_group_is_none() {
        let mut body = vec![0; GROUP_HEADER];
        let payload = Bytes::from_static(b"payload");
        let stream = RegionId(9);
        Record::Entry { stream, index: LogIndex(6), term: Term(2), kind: 7, payload: &payload }
            .encode(1, &mut body);
        Record::Adopt { stream, generation: 3 }.encode(2, &mut body);
        let body_len = u32::try_from(body.len() - GROUP_HEADER).unwrap();
        let header = GroupHeader {
            epoch: 1,
            segment: 2,
            number: 3,
            durable_through: 2,
            oldest: 1,
            body_len,
            records: 2,
        };
        header.encode(&mut body);
        let (decoded, records) = GroupHeader::decode(&body).unwrap();
        assert_eq!(decoded, header);
        let records = decode_records(records).unwrap();
        assert_eq!(records[1].body, ReadBody::Adopt { generation: 3 });
        let ReadBody::Entry { kind, offset, len, .. } = records[0].body else { panic!("not an entry") };
        assert_eq!(kind, 7);
        assert_eq!(&body[GROUP_HEADER + offset..][..len], b"payload");
        for position in 0..body.len() {
            let mut changed = body.clone();
            changed[position] ^= 1;
            assert!(GroupHeader::decode(&changed).is_none(), "byte {position}");
            assert!(GroupHeader::decode(&body[..position]).is_none(), "{position} bytes");
        }
    }

    #[test]
    fn names_are_numbers_and_nothing_else() {
        assert_eq!(segment_number(&segment_name(255)), Some(255));
        assert_eq!(segment_number("ff.log"), None);
        assert_eq!(segment_number("spare.tmp"), None);
    }
}
