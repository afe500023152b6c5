//! What a store says is what the other one hears; what is damaged is refused and never panics.

use super::*;
use crate::frame::ReceiveBuffer;
use capnp::any_pointer;
use pinion_raft::{ConfState, Entry, EntryKind, Snapshot, SnapshotMetadata};
use pinion_types::{Epoch, Peer, PeerRole};

/// What a batch has none of: those come otherwise.
const KINDS_OF_NO_BATCH: [MessageKind; 2] = [MessageKind::Snapshot, MessageKind::Propose];

const KINDS: [MessageKind; 14] = [
    MessageKind::Propose,
    MessageKind::Append,
    MessageKind::AppendResponse,
    MessageKind::Vote,
    MessageKind::VoteResponse,
    MessageKind::PreVote,
    MessageKind::PreVoteResponse,
    MessageKind::Snapshot,
    MessageKind::Heartbeat,
    MessageKind::HeartbeatResponse,
    MessageKind::TransferLeader,
    MessageKind::TimeoutNow,
    MessageKind::ReadIndex,
    MessageKind::ReadIndexResponse,
];
const ENTRY_KINDS: [EntryKind; 3] = [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2];
const ROLES: [PeerRole; 5] = [
    PeerRole::Voter,
    PeerRole::Learner,
    PeerRole::IncomingVoter,
    PeerRole::DemotingVoter,
    PeerRole::LeavingVoter,
];

/// splitmix64: a number for each step of a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// Any number, the small ones and the ends among them.
    fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => 0,
            1 => u64::MAX,
            _ => self.next() >> self.below(64),
        }
    }

    fn bytes(&mut self, limit: usize) -> Vec<u8> {
        (0..self.below(limit)).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }

    fn list<T>(&mut self, limit: usize, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(limit)).map(|_| item(self)).collect()
    }

    fn peer(&mut self) -> Peer {
        let role = ROLES[self.below(ROLES.len())];
        Peer { id: PeerId(self.number()), store: StoreId(self.number()), role }
    }

    fn entry(&mut self) -> Entry {
        Entry {
            term: Term(self.number()),
            index: LogIndex(self.number()),
            kind: ENTRY_KINDS[self.below(3)],
            data: self.bytes(300).into(),
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let mut peers = || self.list(5, |random| PeerId(random.number()));
        let conf_state = ConfState {
            voters: peers(),
            learners: peers(),
            voters_outgoing: peers(),
            learners_next: peers(),
            auto_leave: self.below(2) == 0,
        };
        let (index, term) = (LogIndex(self.number()), Term(self.number()));
        Snapshot { metadata: SnapshotMetadata { conf_state, index, term }, data: self.bytes(100).into() }
    }

    fn consensus(&mut self) -> Message {
        let from = PeerId(self.number());
        Message {
            kind: KINDS[self.below(KINDS.len())],
            reject: self.below(2) == 0,
            to: PeerId(from.0.wrapping_add(1 + self.next() % 9)),
            from,
            term: Term(self.number()),
            log_term: Term(self.number()),
            index: LogIndex(self.number()),
            commit: LogIndex(self.number()),
            reject_hint: LogIndex(self.number()),
            priority: self.number().cast_signed(),
            lease: self.number(),
            entries: self.list(6, Self::entry),
            snapshot: (self.below(3) == 0).then(|| Box::new(self.snapshot())),
            context: self.bytes(20).into(),
            ..Message::default()
        }
    }

    fn region_message(&mut self) -> RegionMessage {
        let gone = self.below(8) == 0;
        RegionMessage {
            region: RegionId(self.number()),
            epoch: Epoch { conf_ver: self.number(), version: self.number() },
            from: self.peer(),
            to: self.peer(),
            start: self.bytes(40),
            end: self.bytes(40),
            from_core: CoreId(u16::try_from(self.below(1 << 16)).unwrap()),
            gone,
            message: if gone { Message::default() } else { self.consensus() },
        }
    }

    fn key(&mut self) -> SnapshotKey {
        SnapshotKey {
            region: RegionId(self.number()),
            to: PeerId(self.number()),
            index: LogIndex(self.number()),
            term: Term(self.number()),
        }
    }

    fn offer(&mut self) -> SnapshotOffer {
        let snapshot = Some(Box::new(self.snapshot()));
        let message =
            Message { kind: MessageKind::Snapshot, entries: Vec::new(), snapshot, ..self.consensus() };
        SnapshotOffer {
            message: RegionMessage { gone: false, message, ..self.region_message() },
            description: self.bytes(100).into(),
            files: self.list(9, |random| (random.number(), random.number())),
        }
    }

    fn message_of_batch(&mut self) -> RegionMessage {
        loop {
            let message = self.region_message();
            if !KINDS_OF_NO_BATCH.contains(&message.message.kind) {
                return message;
            }
        }
    }

    fn chunk(&mut self) -> SnapshotChunk {
        SnapshotChunk {
            key: self.key(),
            file: self.number(),
            offset: self.number(),
            crc32: u32::try_from(self.next() >> 32).unwrap(),
            data: self.bytes(1000).into(),
        }
    }
}

fn encoded(write: impl FnOnce(any_pointer::Builder<'_>)) -> Vec<u8> {
    let mut builder = capnp::message::Builder::new_default();
    write(builder.init_root());
    capnp::serialize::write_message_to_words(&builder)
}

fn encoded_messages(messages: &[RegionMessage]) -> Vec<u8> {
    encoded(|root| {
        let params: schema::link::messages_params::Builder<'_> = root.init_as();
        write_messages(params.init_messages(list_length(messages.len())), messages);
    })
}

/// Reads as a connection does; `None` when the bytes are no message.
fn decoded<T>(
    bytes: &[u8],
    read: impl FnOnce(any_pointer::Reader<'_>) -> Result<T, DecodeError>,
) -> Option<Result<T, DecodeError>> {
    let mut buffer = ReceiveBuffer::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let spare = buffer.spare();
        let count = spare.len().min(rest.len());
        spare[..count].copy_from_slice(&rest[..count]);
        buffer.filled(count);
        rest = &rest[count..];
    }
    let length = buffer.first(1 << 20).ok()??;
    let reader = buffer.reader(length).ok()?;
    Some(reader.get_root().map_err(DecodeError::from).and_then(read))
}

fn decoded_messages(bytes: &[u8]) -> Option<Result<Vec<RegionMessage>, DecodeError>> {
    decoded(bytes, |root| {
        let params: schema::link::messages_params::Reader<'_> = root.get_as()?;
        read_messages(params.get_messages()?)
    })
}

fn refusal<T: std::fmt::Debug>(outcome: Option<Result<T, DecodeError>>) -> WireError {
    match outcome {
        Some(Err(DecodeError::Refused(error))) => error,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn every_message_survives_the_wire() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let messages = random.list(20, Random::message_of_batch);
        let bytes = encoded_messages(&messages);
        assert_eq!(decoded_messages(&bytes).unwrap().unwrap(), messages, "seed {seed}");
        let words: usize = messages.iter().map(region_message_words).sum();
        assert!(
            words + 8 >= bytes.len() / 8 || messages.is_empty(),
            "seed {seed}: the estimate is too small"
        );
    }
}

#[test]
fn a_batch_with_what_comes_otherwise_is_refused() {
    for kind in KINDS_OF_NO_BATCH {
        let mut messages = vec![Random(1).message_of_batch(), Random(2).message_of_batch()];
        messages[1] = RegionMessage { gone: false, ..messages[1].clone() };
        messages[1].message.kind = kind;
        let refused = refusal(decoded_messages(&encoded_messages(&messages)));
        assert!(refused.to_string().contains(&format!("{kind:?}")), "{refused}");
    }
}

#[test]
fn everything_of_a_snapshot_survives_the_wire() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let (offer, chunk, key) = (random.offer(), random.chunk(), random.key());
        let bytes = encoded(|root| write_offer(root.init_as(), &offer));
        assert_eq!(decoded(&bytes, |root| read_offer(root.get_as()?)).unwrap().unwrap(), offer);
        let bytes = encoded(|root| write_chunk(root.init_as(), &chunk));
        assert_eq!(decoded(&bytes, |root| read_chunk(root.get_as()?)).unwrap().unwrap(), chunk);
        let bytes = encoded(|root| write_key(root.init_as(), key));
        assert_eq!(decoded(&bytes, |root| Ok(read_key(root.get_as()?))).unwrap().unwrap(), key);
        for answer in [Ok(offer.files), Err(WireError::DiskFull)] {
            let bytes = encoded(|root| write_offer_answer(root.init_as(), &answer));
            assert_eq!(decoded(&bytes, |root| read_offer_answer(root.get_as()?)).unwrap().unwrap(), answer);
        }
        for answer in [Ok(random.number()), Err(WireError::ShuttingDown)] {
            let bytes = encoded(|root| write_ids_answer(root.init_as(), &answer));
            assert_eq!(decoded(&bytes, |root| read_ids_answer(root.get_as()?)).unwrap().unwrap(), answer);
        }
    }
}

#[test]
fn a_hello_survives_the_wire() {
    let hello = LinkHello {
        cluster: u64::MAX,
        from: StoreId(1),
        from_core: CoreId(3),
        to: StoreId(2),
        addresses: vec!["10.0.0.1:20160".into(), "[::1]:20161".into()],
    };
    let bytes = encoded(|root| write_hello(root.init_as(), &hello));
    assert_eq!(decoded(&bytes, |root| read_hello(root.get_as()?)).unwrap().unwrap(), hello);
}

#[test]
fn damaged_messages_are_refused_or_read_as_others() {
    let (mut refused, mut read) = (0, 0);
    for seed in 0..5000 {
        let mut random = Random(seed);
        let messages = random.list(8, Random::message_of_batch);
        let mut bytes = encoded_messages(&messages);
        for _ in 0..=random.below(6) {
            let place = random.below(bytes.len());
            bytes[place] = match random.below(3) {
                0 => 0xff,
                1 => bytes[place] ^ (1 << random.below(8)),
                _ => u8::try_from(random.below(256)).unwrap(),
            };
        }
        if random.below(4) == 0 {
            bytes.truncate(random.below(bytes.len()) / 8 * 8);
        }
        let any = decoded(&bytes, |root| read_offer(root.get_as()?));
        let chunk = decoded(&bytes, |root| read_chunk(root.get_as()?));
        match (decoded_messages(&bytes), any, chunk) {
            (Some(Ok(_)), ..) => read += 1,
            _ => refused += 1,
        }
    }
    assert!(refused > 500 && read > 500, "{refused} refused, {read} read");
}

#[test]
fn what_a_peer_says_to_itself_is_refused() {
    let message = Message { to: PeerId(4), from: PeerId(4), ..Random(1).consensus() };
    let message = RegionMessage { gone: false, message, ..Random(2).region_message() };
    let error = refusal(decoded_messages(&encoded_messages(&[message])));
    assert!(matches!(error, WireError::InvalidArgument(_)), "{error}");
}

#[test]
fn a_kind_that_the_schema_does_not_have_is_malformed() {
    let message = RegionMessage { gone: false, ..Random(2).message_of_batch() };
    // The kind is the first field of its struct, two bytes wide; 14 is the first number without a meaning.
    let mut builder = capnp::message::Builder::new_default();
    let params: schema::link::messages_params::Builder<'_> = builder.init_root();
    write_messages(params.init_messages(1), &[message]);
    let mut bytes = capnp::serialize::write_message_to_words(&builder);
    let good = decoded_messages(&bytes).unwrap().unwrap();
    let places: Vec<usize> = (0..bytes.len())
        .step_by(8)
        .filter(|&place| {
            let before = bytes[place];
            bytes[place] = 14;
            let outcome = decoded_messages(&bytes);
            bytes[place] = before;
            matches!(outcome, Some(Err(DecodeError::Malformed(_))))
        })
        .collect();
    assert!(!places.is_empty(), "{good:?}");
}

#[test]
fn lists_over_their_bounds_are_refused() {
    let many = vec![RegionMessage { gone: true, ..RegionMessage::default() }; MESSAGES_MAX as usize + 1];
    let mut builder = capnp::message::Builder::new_default();
    let params: schema::link::messages_params::Builder<'_> = builder.init_root();
    write_messages(params.init_messages(list_length(many.len())), &many);
    let params = builder.get_root_as_reader::<schema::link::messages_params::Reader<'_>>().unwrap();
    let error = refusal(Some(read_messages(params.get_messages().unwrap())));
    assert!(matches!(error, WireError::TooLarge { got: 16_385, .. }), "{error}");

    let peers = vec![PeerId(1); 65];
    let conf_state = ConfState { learners: peers, ..ConfState::default() };
    let metadata = SnapshotMetadata { conf_state, ..SnapshotMetadata::default() };
    let snapshot = Some(Box::new(Snapshot { metadata, data: Bytes::new() }));
    let message = Message { snapshot, ..Random(1).consensus() };
    let message = RegionMessage { gone: false, message, ..Random(2).region_message() };
    let error = refusal(decoded_messages(&encoded_messages(&[message])));
    assert!(matches!(error, WireError::InvalidArgument(_)), "{error}");
}
