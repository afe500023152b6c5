//! Reading a log without opening it for writes: for `pinion inspect` and for tests. Shows what is there, damaged or not.

use super::format::{
    BLOCK, GroupHeader, ReadRecord, SegmentHeader, decode_records, group_bytes, segment_number,
};
use crate::Error;
use bytes::Bytes;
use pinion_runtime::fs;
use std::path::Path;

/// A segment of a log.
#[derive(Clone, Debug)]
pub struct SegmentSummary {
    /// The file's name.
    pub name: String,
    /// The number that its name says.
    pub number: u64,
    /// Epoch and first group, if the file has a header of its own number.
    pub header: Option<(u64, u64)>,
    /// The groups in it whose checksums match, in the order in which they stand.
    pub groups: Vec<GroupSummary>,
}

/// A group of a segment.
#[derive(Clone, Debug)]
pub struct GroupSummary {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its number.
    pub number: u64,
    /// The highest group that was known to be durable when it was written.
    pub durable_through: u64,
    /// Its records, or what is wrong with them.
    pub records: Result<Vec<ReadRecord>, &'static str>,
    /// What its entries' offsets point into.
    pub body: Bytes,
}

/// The segments of the log in `directory`, by number.
pub async fn inspect(directory: &Path) -> Result<Vec<SegmentSummary>, Error> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory).await.map_err(|source| Error::io(directory, source))? {
        let Some(number) = segment_number(&entry.name) else { continue };
        let path = directory.join(&entry.name);
        let bytes = Bytes::from(fs::read(&path).await.map_err(|source| Error::io(&path, source))?);
        let header = SegmentHeader::decode(&bytes).ok().filter(|header| header.number == number);
        let groups = header.map_or_else(Vec::new, |header| groups_of(&bytes, &header));
        let header = header.map(|header| (header.epoch, header.first_group));
        segments.push(SegmentSummary { name: entry.name, number, header, groups });
    }
    segments.sort_by_key(|segment| segment.number);
    Ok(segments)
}

fn groups_of(bytes: &Bytes, segment: &SegmentHeader) -> Vec<GroupSummary> {
    let mut groups = Vec::new();
    let mut offset = BLOCK;
    while offset < bytes.len() {
        let group = bytes.get(offset..).and_then(GroupHeader::decode);
        match group.filter(|(header, _)| (header.epoch, header.segment) == (segment.epoch, segment.number)) {
            Some((header, body)) => {
                groups.push(GroupSummary {
                    offset: offset as u64,
                    number: header.number,
                    durable_through: header.durable_through,
                    records: decode_records(body),
                    body: bytes.slice_ref(body),
                });
                offset += group_bytes(header.body_len as usize);
            }
            None => offset += BLOCK,
        }
    }
    groups
}
