//! Raw requests.

use super::method::RawMethod;
use super::region::{read_context, read_family, write_context, write_family};
use super::{DecodeError, list_length, millis32};
use crate::generated::raw_capnp as schema;
use crate::limits::RequestLimits;
use crate::raw::ttl_ms;
use crate::{Atomicity, Context, OperationKind, Operations, RawCall, RawRequest, Scan, WireError};
use capnp::any_pointer;
use pinion_runtime::Instant;
use pinion_types::ColumnFamily;
use std::time::Duration;

/// What belongs to every request.
struct Envelope {
    timeout_ms: u32,
    context: Option<Box<Context>>,
}

macro_rules! envelope {
    ($reader:expr) => {
        Envelope {
            timeout_ms: $reader.get_timeout_ms(),
            context: if $reader.has_context() { Some(read_context($reader.get_context()?)?) } else { None },
        }
    };
}

/// Reads a call's parameters and checks them against the limits.
pub(crate) fn read_request(
    method: RawMethod,
    params: any_pointer::Reader<'_>,
    limits: &RequestLimits,
    now: Instant,
) -> Result<RawRequest, DecodeError> {
    let check = Check { limits };
    let (call, envelope) = match method {
        RawMethod::Get => check.get(params.get_as()?)?,
        RawMethod::Put => check.put(params.get_as()?)?,
        RawMethod::Delete => check.delete(params.get_as()?)?,
        RawMethod::Batch => check.batch(params.get_as()?)?,
        RawMethod::BatchGet => check.batch_get(params.get_as()?)?,
        RawMethod::BatchPut => check.batch_put(params.get_as()?)?,
        RawMethod::BatchDelete => check.batch_delete(params.get_as()?)?,
        RawMethod::DeleteRange => check.delete_range(params.get_as()?)?,
        RawMethod::Scan => check.scan(params.get_as()?)?,
        RawMethod::CompareAndSwap => check.compare_and_swap(params.get_as()?)?,
        RawMethod::GetTtl => check.get_ttl(params.get_as()?)?,
    };
    let timeout = (envelope.timeout_ms > 0).then(|| Duration::from_millis(envelope.timeout_ms.into()));
    Ok(RawRequest { context: envelope.context, deadline: timeout.map(|timeout| now + timeout), call })
}

/// Reads a chunk of a bulk load.
pub(crate) fn read_pairs(
    pairs: capnp::struct_list::Reader<'_, schema::key_value::Owned>,
    family: ColumnFamily,
    ttl_ms: u64,
    limits: &RequestLimits,
) -> Result<Operations, DecodeError> {
    let check = Check { limits };
    let mut operations = check.list(pairs.len())?;
    for pair in pairs {
        operations.put(family, check.key(pair.get_key()?)?, check.value(pair.get_value()?)?, ttl(ttl_ms));
    }
    Ok(operations)
}

type Read = Result<(RawCall, Envelope), DecodeError>;

/// Reads parameters, one method for each method of the interface.
struct Check<'l> {
    limits: &'l RequestLimits,
}

impl Check<'_> {
    fn get(&self, reader: schema::get_request::Reader<'_>) -> Read {
        let family = read_family(reader.get_family())?;
        let key = self.key(reader.get_key()?)?.to_vec();
        Ok((RawCall::Get { family, key }, envelope!(reader)))
    }

    fn get_ttl(&self, reader: schema::get_request::Reader<'_>) -> Read {
        let family = read_family(reader.get_family())?;
        let key = self.key(reader.get_key()?)?.to_vec();
        Ok((RawCall::TimeToLive { family, key }, envelope!(reader)))
    }

    fn put(&self, reader: schema::put_request::Reader<'_>) -> Read {
        let call = RawCall::Put {
            family: read_family(reader.get_family())?,
            key: self.key(reader.get_key()?)?.to_vec(),
            value: self.value(reader.get_value()?)?.to_vec(),
            ttl: ttl(reader.get_ttl_ms()),
        };
        Ok((call, envelope!(reader)))
    }

    fn delete(&self, reader: schema::delete_request::Reader<'_>) -> Read {
        let family = read_family(reader.get_family())?;
        let key = self.key(reader.get_key()?)?.to_vec();
        Ok((RawCall::Delete { family, key }, envelope!(reader)))
    }

    fn batch(&self, reader: schema::batch_request::Reader<'_>) -> Read {
        let list = reader.get_operations()?;
        let mut operations = self.list(list.len())?;
        for operation in list {
            let family = read_family(operation.get_family())?;
            let key = self.key(operation.get_key()?)?;
            match operation.which()? {
                schema::operation::Get(()) => operations.get(family, key),
                schema::operation::Delete(()) => operations.delete(family, key),
                schema::operation::Put(value) => {
                    operations.put(family, key, self.value(value?)?, ttl(operation.get_ttl_ms()));
                }
            }
        }
        Ok((RawCall::Batch { operations, atomicity: Atomicity::PerRegion }, envelope!(reader)))
    }

    fn batch_get(&self, reader: schema::batch_get_request::Reader<'_>) -> Read {
        let family = read_family(reader.get_family())?;
        let keys = reader.get_keys()?;
        let mut operations = self.list(keys.len())?;
        for key in keys {
            operations.get(family, self.key(key?)?);
        }
        Ok((RawCall::Batch { operations, atomicity: Atomicity::PerRegion }, envelope!(reader)))
    }

    fn batch_put(&self, reader: schema::batch_put_request::Reader<'_>) -> Read {
        let family = read_family(reader.get_family())?;
        let operations = read_pairs(reader.get_pairs()?, family, reader.get_ttl_ms(), self.limits)?;
        let atomicity = read_atomicity(reader.get_atomicity()?);
        Ok((RawCall::Batch { operations, atomicity }, envelope!(reader)))
    }

    fn batch_delete(&self, reader: schema::batch_delete_request::Reader<'_>) -> Read {
        let family = read_family(reader.get_family())?;
        let keys = reader.get_keys()?;
        let mut operations = self.list(keys.len())?;
        for key in keys {
            operations.delete(family, self.key(key?)?);
        }
        let atomicity = read_atomicity(reader.get_atomicity()?);
        Ok((RawCall::Batch { operations, atomicity }, envelope!(reader)))
    }

    fn delete_range(&self, reader: schema::delete_range_request::Reader<'_>) -> Read {
        let family = read_family(reader.get_family())?;
        let (start, end) = self.range(reader.get_start()?, reader.get_end()?)?;
        Ok((RawCall::DeleteRange { family, start, end }, envelope!(reader)))
    }

    fn scan(&self, reader: schema::scan_request::Reader<'_>) -> Read {
        let (start, end) = self.range(reader.get_start()?, reader.get_end()?)?;
        let bytes_max = match reader.get_bytes_max() {
            0 => self.limits.scan_bytes_max,
            bytes => self.limits.scan_bytes_max.min(bytes as usize),
        };
        let scan = Scan {
            family: read_family(reader.get_family())?,
            start,
            end,
            limit: self.limits.scan_pairs_max.min(reader.get_limit() as usize),
            bytes_max,
            reverse: reader.get_reverse(),
            keys_only: reader.get_keys_only(),
        };
        Ok((RawCall::Scan(scan), envelope!(reader)))
    }

    fn compare_and_swap(&self, reader: schema::compare_and_swap_request::Reader<'_>) -> Read {
        use schema::compare_and_swap_request::expected::{Absent, Value};
        let expected = match reader.get_expected().which()? {
            Absent(()) => None,
            Value(value) => Some(self.value(value?)?.to_vec()),
        };
        let call = RawCall::CompareAndSwap {
            family: read_family(reader.get_family())?,
            key: self.key(reader.get_key()?)?.to_vec(),
            expected,
            value: self.value(reader.get_value()?)?.to_vec(),
            ttl: ttl(reader.get_ttl_ms()),
        };
        Ok((call, envelope!(reader)))
    }

    fn key<'a>(&self, key: &'a [u8]) -> Result<&'a [u8], WireError> {
        if key.is_empty() {
            return Err(WireError::invalid("the key is empty; a key has at least one byte"));
        }
        self.bound(key)
    }

    /// A range's end, which may be empty.
    fn bound<'a>(&self, key: &'a [u8]) -> Result<&'a [u8], WireError> {
        if key.len() > self.limits.key_bytes_max {
            return Err(too_large("a key's bytes", self.limits.key_bytes_max, key.len()));
        }
        Ok(key)
    }

    fn value<'a>(&self, value: &'a [u8]) -> Result<&'a [u8], WireError> {
        if value.len() > self.limits.value_bytes_max {
            return Err(too_large("a value's bytes", self.limits.value_bytes_max, value.len()));
        }
        Ok(value)
    }

    fn range(&self, start: &[u8], end: &[u8]) -> Result<(Vec<u8>, Vec<u8>), WireError> {
        if !end.is_empty() && start > end {
            return Err(WireError::invalid("the range's start is after its end"));
        }
        Ok((self.bound(start)?.to_vec(), self.bound(end)?.to_vec()))
    }

    /// Makes room for a list's operations.
    fn list(&self, length: u32) -> Result<Operations, WireError> {
        let length = length as usize;
        if length == 0 {
            return Err(WireError::invalid("the list is empty; there is nothing to do"));
        }
        if length > self.limits.operations_max {
            return Err(too_large("the list's length", self.limits.operations_max, length));
        }
        // A guess that saves the first few times that the memory grows.
        Ok(Operations::with_capacity(length, length * 32))
    }
}

pub(super) fn too_large(what: &str, limit: usize, got: usize) -> WireError {
    WireError::TooLarge { what: what.into(), limit: limit as u64, got: got as u64 }
}

fn ttl(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}

fn read_atomicity(atomicity: schema::Atomicity) -> Atomicity {
    match atomicity {
        schema::Atomicity::Whole => Atomicity::Whole,
        schema::Atomicity::PerRegion => Atomicity::PerRegion,
    }
}

fn write_atomicity(atomicity: Atomicity) -> schema::Atomicity {
    match atomicity {
        Atomicity::Whole => schema::Atomicity::Whole,
        Atomicity::PerRegion => schema::Atomicity::PerRegion,
    }
}

/// The method by which a call goes out. A batch that is to be one whole goes by the list call of its operations' kind.
pub(crate) fn method_of(call: &RawCall) -> Result<RawMethod, WireError> {
    Ok(match call {
        RawCall::Get { .. } => RawMethod::Get,
        RawCall::Put { .. } => RawMethod::Put,
        RawCall::Delete { .. } => RawMethod::Delete,
        RawCall::DeleteRange { .. } => RawMethod::DeleteRange,
        RawCall::Scan(_) => RawMethod::Scan,
        RawCall::CompareAndSwap { .. } => RawMethod::CompareAndSwap,
        RawCall::TimeToLive { .. } => RawMethod::GetTtl,
        RawCall::Batch { atomicity: Atomicity::PerRegion, .. } => RawMethod::Batch,
        RawCall::Batch { operations, atomicity: Atomicity::Whole } => whole_batch_method(operations)?,
    })
}

fn whole_batch_method(operations: &Operations) -> Result<RawMethod, WireError> {
    let mut methods = operations.iter().map(|operation| match operation.kind {
        OperationKind::Get => RawMethod::BatchGet,
        OperationKind::Put { .. } => RawMethod::BatchPut,
        OperationKind::Delete => RawMethod::BatchDelete,
    });
    let first =
        methods.next().ok_or_else(|| WireError::invalid("the list is empty; there is nothing to do"))?;
    if methods.any(|method| method != first) {
        return Err(WireError::invalid("a batch that is to be one whole has operations of one kind"));
    }
    Ok(first)
}

macro_rules! write_envelope {
    ($builder:expr, $request:expr, $timeout:expr) => {{
        if let Some(timeout) = $timeout {
            $builder.set_timeout_ms(millis32(timeout).max(1));
        }
        if let Some(context) = &$request.context {
            write_context($builder.reborrow().init_context(), context);
        }
    }};
}

/// Words of memory that a request will take, roughly: enough that its message is of one piece.
pub(crate) fn request_words(request: &RawRequest) -> usize {
    const FRAME: usize = 48;
    let bytes = match &request.call {
        RawCall::Get { key, .. } | RawCall::Delete { key, .. } | RawCall::TimeToLive { key, .. } => key.len(),
        RawCall::Put { key, value, .. } => key.len() + value.len(),
        RawCall::Batch { operations, .. } => operations.size_bytes() + operations.len() * 56,
        RawCall::DeleteRange { start, end, .. } => start.len() + end.len(),
        RawCall::Scan(scan) => scan.start.len() + scan.end.len(),
        RawCall::CompareAndSwap { key, expected, value, .. } => {
            key.len() + value.len() + expected.as_ref().map_or(0, Vec::len)
        }
    };
    FRAME + bytes / 8
}

/// Writes a call's parameters. The deadline goes as the time that is left until then.
pub(crate) fn write_request(
    method: RawMethod,
    request: &RawRequest,
    timeout: Option<Duration>,
    params: any_pointer::Builder<'_>,
) {
    match &request.call {
        RawCall::Get { family, key } | RawCall::TimeToLive { family, key } => {
            let mut builder = params.init_as::<schema::get_request::Builder<'_>>();
            builder.set_key(key);
            builder.set_family(write_family(*family));
            write_envelope!(builder, request, timeout);
        }
        RawCall::Put { family, key, value, ttl } => {
            let mut builder = params.init_as::<schema::put_request::Builder<'_>>();
            builder.set_key(key);
            builder.set_value(value);
            builder.set_family(write_family(*family));
            builder.set_ttl_ms(ttl.map_or(0, ttl_ms));
            write_envelope!(builder, request, timeout);
        }
        RawCall::Delete { family, key } => {
            let mut builder = params.init_as::<schema::delete_request::Builder<'_>>();
            builder.set_key(key);
            builder.set_family(write_family(*family));
            write_envelope!(builder, request, timeout);
        }
        RawCall::Batch { operations, atomicity } => {
            write_list(method, operations, *atomicity, request, timeout, params);
        }
        RawCall::DeleteRange { family, start, end } => {
            let mut builder = params.init_as::<schema::delete_range_request::Builder<'_>>();
            builder.set_start(start);
            builder.set_end(end);
            builder.set_family(write_family(*family));
            write_envelope!(builder, request, timeout);
        }
        RawCall::Scan(scan) => write_scan(scan, request, timeout, params),
        RawCall::CompareAndSwap { family, key, expected, value, ttl } => {
            let mut builder = params.init_as::<schema::compare_and_swap_request::Builder<'_>>();
            builder.set_key(key);
            builder.set_value(value);
            builder.set_family(write_family(*family));
            builder.set_ttl_ms(ttl.map_or(0, ttl_ms));
            match expected {
                None => builder.reborrow().init_expected().set_absent(()),
                Some(expected) => builder.reborrow().init_expected().set_value(expected),
            }
            write_envelope!(builder, request, timeout);
        }
    }
}

fn write_scan(
    scan: &Scan,
    request: &RawRequest,
    timeout: Option<Duration>,
    params: any_pointer::Builder<'_>,
) {
    let mut builder = params.init_as::<schema::scan_request::Builder<'_>>();
    builder.set_start(&scan.start);
    builder.set_end(&scan.end);
    builder.set_limit(u32::try_from(scan.limit).unwrap_or(u32::MAX));
    builder.set_bytes_max(u32::try_from(scan.bytes_max).unwrap_or(u32::MAX));
    builder.set_reverse(scan.reverse);
    builder.set_keys_only(scan.keys_only);
    builder.set_family(write_family(scan.family));
    write_envelope!(builder, request, timeout);
}

/// Writes a batch by `method`. The list calls take family and time to live from the first operation.
fn write_list(
    method: RawMethod,
    operations: &Operations,
    atomicity: Atomicity,
    request: &RawRequest,
    timeout: Option<Duration>,
    params: any_pointer::Builder<'_>,
) {
    let length = list_length(operations.len());
    let family = if operations.is_empty() { ColumnFamily::Default } else { operations.at(0).family };
    match method {
        RawMethod::BatchGet => {
            let mut builder = params.init_as::<schema::batch_get_request::Builder<'_>>();
            write_keys(builder.reborrow().init_keys(length), operations);
            builder.set_family(write_family(family));
            write_envelope!(builder, request, timeout);
        }
        RawMethod::BatchDelete => {
            let mut builder = params.init_as::<schema::batch_delete_request::Builder<'_>>();
            write_keys(builder.reborrow().init_keys(length), operations);
            builder.set_family(write_family(family));
            builder.set_atomicity(write_atomicity(atomicity));
            write_envelope!(builder, request, timeout);
        }
        RawMethod::BatchPut => {
            let mut builder = params.init_as::<schema::batch_put_request::Builder<'_>>();
            let ttl_ms = write_pairs(builder.reborrow().init_pairs(length), operations);
            builder.set_ttl_ms(ttl_ms);
            builder.set_family(write_family(family));
            builder.set_atomicity(write_atomicity(atomicity));
            write_envelope!(builder, request, timeout);
        }
        _ => {
            let mut builder = params.init_as::<schema::batch_request::Builder<'_>>();
            let mut list = builder.reborrow().init_operations(length);
            for (index, operation) in (0..).zip(operations.iter()) {
                let mut entry = list.reborrow().get(index);
                entry.set_key(operation.key);
                entry.set_family(write_family(operation.family));
                match operation.kind {
                    OperationKind::Get => entry.set_get(()),
                    OperationKind::Delete => entry.set_delete(()),
                    OperationKind::Put { value, ttl } => {
                        entry.set_put(value);
                        entry.set_ttl_ms(ttl.map_or(0, ttl_ms));
                    }
                }
            }
            write_envelope!(builder, request, timeout);
        }
    }
}

fn write_keys(mut list: capnp::data_list::Builder<'_>, operations: &Operations) {
    for (index, operation) in (0..).zip(operations.iter()) {
        list.set(index, operation.key);
    }
}

/// Writes the pairs of all puts; returns the first one's time to live.
pub(crate) fn write_pairs(
    mut list: capnp::struct_list::Builder<'_, schema::key_value::Owned>,
    operations: &Operations,
) -> u64 {
    let mut first_ttl = None;
    for (index, operation) in (0..).zip(operations.iter()) {
        let mut pair = list.reborrow().get(index);
        pair.set_key(operation.key);
        if let OperationKind::Put { value, ttl } = operation.kind {
            pair.set_value(value);
            first_ttl.get_or_insert(ttl.map_or(0, ttl_ms));
        }
    }
    first_ttl.unwrap_or(0)
}
