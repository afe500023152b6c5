//! Round trips: what is written is read back alike.

use super::DecodeError;
use super::answer::{read_answer, write_answer};
use super::method::RawMethod;
use super::request::{method_of, read_request, write_request};
use crate::{
    Atomicity, Context, Operations, Page, Pairs, RawAnswer, RawCall, RawReply, RawRequest, ReadFrom,
    Remaining, RequestLimits, Results, Scan, WireError,
};
use bytes::Bytes;
use capnp::any_pointer;
use pinion_runtime::Instant;
use pinion_types::{ColumnFamily, Epoch, Peer, PeerId, PeerRole, Region, RegionId, StoreId, Term};
use std::time::Duration;

fn request_round_trip(request: &RawRequest) -> Result<RawRequest, DecodeError> {
    let now = Instant::from_nanos(5);
    let method = method_of(&request.call).unwrap();
    let mut message = capnp::message::Builder::new_default();
    let timeout = request.deadline.map(|deadline| deadline.since(now));
    write_request(method, request, timeout, message.init_root::<any_pointer::Builder<'_>>());
    let params = message.get_root_as_reader::<any_pointer::Reader<'_>>().unwrap();
    read_request(method, params, &RequestLimits::default(), now)
}

fn answer_round_trip(method: RawMethod, answer: &RawAnswer) -> RawAnswer {
    let mut message = capnp::message::Builder::new_default();
    write_answer(method, answer, message.init_root::<any_pointer::Builder<'_>>());
    read_answer(method, message.get_root_as_reader::<any_pointer::Reader<'_>>().unwrap()).unwrap()
}

fn refusal(call: RawCall) -> WireError {
    match request_round_trip(&RawRequest::new(call)) {
        Err(DecodeError::Refused(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

fn puts(atomicity: Atomicity) -> RawCall {
    let mut operations = Operations::default();
    operations.put(ColumnFamily::Lock, b"a", b"1", Some(Duration::from_millis(9)));
    operations.put(ColumnFamily::Lock, b"b", b"", Some(Duration::from_millis(9)));
    RawCall::Batch { operations, atomicity }
}

fn every_call() -> Vec<RawCall> {
    let family = ColumnFamily::Write;
    let key = b"key".to_vec();
    let mut mixed = Operations::default();
    mixed.get(ColumnFamily::Default, b"g");
    mixed.put(ColumnFamily::Lock, b"p", b"value", Some(Duration::from_millis(1)));
    mixed.delete(ColumnFamily::Write, b"d");
    let mut deletes = Operations::default();
    deletes.delete(family, b"x");
    vec![
        RawCall::Get { family, key: key.clone() },
        RawCall::Put { family, key: key.clone(), value: vec![7; 100], ttl: Some(Duration::from_secs(3)) },
        RawCall::Delete { family, key: key.clone() },
        RawCall::Batch { operations: mixed, atomicity: Atomicity::PerRegion },
        RawCall::Batch { operations: deletes, atomicity: Atomicity::Whole },
        puts(Atomicity::Whole),
        RawCall::DeleteRange { family, start: b"a".to_vec(), end: Vec::new() },
        RawCall::Scan(Scan {
            family,
            start: b"a".to_vec(),
            end: b"z".to_vec(),
            limit: 10,
            bytes_max: 1000,
            reverse: true,
            keys_only: true,
        }),
        RawCall::CompareAndSwap { family, key: key.clone(), expected: None, value: b"n".to_vec(), ttl: None },
        RawCall::CompareAndSwap {
            family,
            key: key.clone(),
            expected: Some(Vec::new()),
            value: Vec::new(),
            ttl: Some(Duration::from_millis(1)),
        },
        RawCall::TimeToLive { family, key },
    ]
}

#[test]
fn every_request_survives_the_wire() {
    let context = Context {
        region: RegionId(7),
        epoch: Some(Epoch { conf_ver: 1, version: 2 }),
        peer: Some(Peer { id: PeerId(3), store: StoreId(1), role: PeerRole::Learner }),
        term: Term(5),
        read_from: ReadFrom::Stale(Duration::from_millis(70)),
    };
    let bare = Context { region: RegionId(7), read_from: ReadFrom::Replica, ..Context::default() };
    for call in every_call() {
        for context in [None, Some(Box::new(context)), Some(Box::new(bare))] {
            let deadline = context.is_some().then(|| Instant::from_nanos(5) + Duration::from_millis(250));
            let request = RawRequest { context, deadline, call: call.clone() };
            assert_eq!(request_round_trip(&request).unwrap(), request);
        }
    }
}

fn every_error() -> Vec<WireError> {
    let peer = Peer { id: PeerId(3), store: StoreId(1), role: PeerRole::Voter };
    let roles = [
        PeerRole::Voter,
        PeerRole::Learner,
        PeerRole::IncomingVoter,
        PeerRole::DemotingVoter,
        PeerRole::LeavingVoter,
    ];
    let region = Region {
        id: RegionId(9),
        start: b"ra".to_vec(),
        end: Vec::new(),
        epoch: Epoch::INITIAL,
        peers: roles.map(|role| Peer { role, ..peer }).to_vec(),
    };
    vec![
        WireError::NotLeader { region: RegionId(1), leader: Some(peer) },
        WireError::NotLeader { region: RegionId(1), leader: None },
        WireError::RegionNotFound(RegionId(2)),
        WireError::KeyNotInRegion {
            key: b"k".to_vec(),
            region: RegionId(3),
            start: b"r".to_vec(),
            end: b"s".to_vec(),
        },
        WireError::EpochNotMatch { current: vec![region.clone(), region] },
        WireError::StaleCommand,
        WireError::StoreNotMatch { requested: StoreId(1), actual: StoreId(2) },
        WireError::ServerBusy { retry_after: Duration::from_millis(50) },
        WireError::DiskFull,
        WireError::InvalidArgument("the key is empty".into()),
        WireError::TooLarge { what: "a key's bytes".into(), limit: 1, got: 2 },
        WireError::Corruption { file: "regions/1/2.sst".into(), offset: 4096, message: "checksum".into() },
        WireError::BatchSpansRegions,
        WireError::TimedOut,
        WireError::ShuttingDown,
        WireError::Undetermined,
        WireError::ClusterNotMatch { requested: 1, actual: 2 },
        WireError::Internal("why".into()),
    ]
}

#[test]
fn a_learner_of_a_writer_that_knows_no_roles_is_a_learner() {
    let mut message = capnp::message::Builder::new_default();
    message.init_root::<crate::generated::common_capnp::peer::Builder<'_>>().set_learner(true);
    let peer = super::region::read_peer(message.get_root_as_reader().unwrap()).unwrap();
    assert_eq!(peer.role, PeerRole::Learner);
}

#[test]
fn every_error_survives_the_wire_in_every_answer() {
    for error in every_error() {
        for method in RawMethod::ALL {
            assert_eq!(answer_round_trip(method, &Err(error.clone())), Err(error.clone()));
        }
    }
}

#[test]
fn every_reply_survives_the_wire() {
    let mut results = Results::new(4);
    results.set_done(0);
    results.set_value(1, b"");
    results.set_error(2, WireError::StaleCommand);
    let mut values = Results::new(2);
    values.set_value(1, b"v");
    let mut pairs = Pairs::default();
    pairs.push(b"a", b"1");
    pairs.push(b"b", b"");
    let value = Some(Bytes::from_static(b"v"));
    let cases = [
        (RawMethod::Get, RawReply::Value(None)),
        (RawMethod::Get, RawReply::Value(Some(Bytes::new()))),
        (RawMethod::Put, RawReply::Done),
        (RawMethod::Delete, RawReply::Done),
        (RawMethod::DeleteRange, RawReply::Done),
        (RawMethod::Batch, RawReply::Results(results)),
        (RawMethod::BatchGet, RawReply::Results(values)),
        (RawMethod::Scan, RawReply::Page(Page { pairs, resume: Some(b"c".to_vec()) })),
        (RawMethod::Scan, RawReply::Page(Page::default())),
        (RawMethod::CompareAndSwap, RawReply::Swap { swapped: true, previous: None }),
        (RawMethod::CompareAndSwap, RawReply::Swap { swapped: false, previous: value }),
        (RawMethod::GetTtl, RawReply::TimeToLive(Remaining::NotFound)),
        (RawMethod::GetTtl, RawReply::TimeToLive(Remaining::Forever)),
        (RawMethod::GetTtl, RawReply::TimeToLive(Remaining::For(Duration::from_millis(1)))),
    ];
    for (method, reply) in cases {
        assert_eq!(answer_round_trip(method, &Ok(reply.clone())), Ok(reply));
    }
}

#[test]
fn one_failed_part_fails_a_batch_put() {
    let mut results = Results::done(3);
    results.set_error(1, WireError::DiskFull);
    let answer = answer_round_trip(RawMethod::BatchPut, &Ok(RawReply::Results(results)));
    assert_eq!(answer, Err(WireError::DiskFull));
}

#[test]
fn a_reply_of_another_kind_is_a_defect_and_not_a_success() {
    let answer = answer_round_trip(RawMethod::Put, &Ok(RawReply::Value(None)));
    assert!(matches!(answer, Err(WireError::Internal(_))));
}

#[test]
fn bad_arguments_are_refused_with_what_is_wrong() {
    let family = ColumnFamily::Default;
    let get = |key: &[u8]| RawCall::Get { family, key: key.to_vec() };
    assert!(matches!(refusal(get(b"")), WireError::InvalidArgument(text) if text.contains("empty")));
    let limits = RequestLimits::default();
    let over = limits.key_bytes_max + 1;
    assert!(matches!(refusal(get(&vec![b'k'; over])), WireError::TooLarge { limit: 4096, got: 4097, .. }));
    let value = vec![0; limits.value_bytes_max + 1];
    let put = RawCall::Put { family, key: b"k".to_vec(), value, ttl: None };
    assert!(matches!(refusal(put), WireError::TooLarge { what, .. } if what.contains("value")));
    let range = RawCall::DeleteRange { family, start: b"b".to_vec(), end: b"a".to_vec() };
    assert!(matches!(refusal(range), WireError::InvalidArgument(text) if text.contains("start")));
    let empty = RawCall::Batch { operations: Operations::default(), atomicity: Atomicity::PerRegion };
    assert!(matches!(refusal(empty), WireError::InvalidArgument(_)));
    let mut many = Operations::default();
    (0..=limits.operations_max).for_each(|_| many.get(family, b"k"));
    let many = RawCall::Batch { operations: many, atomicity: Atomicity::PerRegion };
    assert!(matches!(refusal(many), WireError::TooLarge { got: 16_385, .. }));
    let nowhere = RawRequest { context: Some(Box::default()), ..RawRequest::new(get(b"k")) };
    assert!(matches!(request_round_trip(&nowhere), Err(DecodeError::Refused(WireError::InvalidArgument(_)))));
}

#[test]
fn a_scan_gets_the_servers_bounds() {
    let scan = Scan { limit: usize::MAX, bytes_max: 0, ..Scan::default() };
    let RawCall::Scan(read) = request_round_trip(&RawRequest::new(RawCall::Scan(scan))).unwrap().call else {
        panic!("not a scan")
    };
    let limits = RequestLimits::default();
    assert_eq!((read.limit, read.bytes_max), (limits.scan_pairs_max, limits.scan_bytes_max));
}

#[test]
fn an_unknown_family_is_refused() {
    use crate::generated::raw_capnp::get_request;
    let mut message = capnp::message::Builder::new_default();
    let mut request = message.init_root::<get_request::Builder<'_>>();
    request.set_key(b"k");
    // The family is the first 16 bits of the struct's data, which stands behind the root pointer.
    let mut bytes = capnp::serialize::write_message_to_words(&message);
    bytes[16] = 9;
    let mut slice = &bytes[..];
    let reader =
        capnp::serialize::read_message_from_flat_slice(&mut slice, capnp::message::ReaderOptions::new())
            .unwrap();
    let params = reader.get_root::<any_pointer::Reader<'_>>().unwrap();
    let read = read_request(RawMethod::Get, params, &RequestLimits::default(), Instant::default());
    assert!(matches!(
        read,
        Err(DecodeError::Refused(WireError::InvalidArgument(text))) if text.contains("no such family: 9")
    ));
}
