//! Between the schema's structs and plain types, both ways. A round trip changes nothing.
//!
//! Everything here may come from an adversary: no index, no cast and no size is taken on trust.

pub(crate) mod admin;
pub(crate) mod answer;
pub(crate) mod consensus;
pub(crate) mod link;
pub(crate) mod method;
pub(crate) mod refusal;
pub(crate) mod region;
pub(crate) mod request;

#[cfg(test)]
mod tests;

use crate::WireError;

/// Why a message could not be turned into a plain type.
#[derive(Debug)]
pub(crate) enum DecodeError {
    /// It is no valid Cap'n Proto of this schema: an exception for the caller.
    Malformed(capnp::Error),
    /// It is valid and makes no sense: an error as data.
    Refused(WireError),
}

impl From<capnp::Error> for DecodeError {
    fn from(error: capnp::Error) -> Self {
        Self::Malformed(error)
    }
}

impl From<capnp::NotInSchema> for DecodeError {
    fn from(error: capnp::NotInSchema) -> Self {
        Self::Malformed(error.into())
    }
}

impl From<WireError> for DecodeError {
    fn from(error: WireError) -> Self {
        Self::Refused(error)
    }
}

/// A list's length as the schema counts it.
pub(crate) fn list_length(length: usize) -> u32 {
    u32::try_from(length).expect("lists on the wire are bounded far below 2^29 entries")
}

/// Most listen addresses of one store.
const ADDRESSES_MAX: u32 = 4096;

pub(crate) fn write_addresses(mut list: capnp::text_list::Builder<'_>, addresses: &[String]) {
    for (index, address) in (0..).zip(addresses) {
        list.set(index, address.as_str());
    }
}

pub(crate) fn read_addresses(list: capnp::text_list::Reader<'_>) -> Result<Vec<String>, DecodeError> {
    if list.len() > ADDRESSES_MAX {
        return Err(WireError::invalid(format!("{} addresses of one store", list.len())).into());
    }
    Ok(list.iter().map(|address| Ok(text(address?))).collect::<Result<_, capnp::Error>>()?)
}

/// Milliseconds as the schema's 32 bits hold them; longer is as long as they hold.
pub(crate) fn millis32(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// A text's content; what is not UTF-8 is replaced.
pub(crate) fn text(reader: capnp::text::Reader<'_>) -> String {
    String::from_utf8_lossy(reader.as_bytes()).into_owned()
}
