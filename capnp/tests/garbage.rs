//! What an adversary may send: valid messages with damaged bytes, in pieces of any size. Nothing of it may panic, hang, or cost more
//! than its connection.

mod memory;
mod receiver;

use capnp::traits::HasTypeId;
use capnp_rpc::rpc_capnp::message;
use futures_util::io::{AsyncRead, AsyncWrite};
use memory::Memory;
use pinion_capnp::generated::link_capnp::{MessageKind, link, link_hello};
use pinion_capnp::generated::pinion_capnp::pinion;
use pinion_capnp::generated::raw_capnp::{batch_request, put_request, raw, scan_request};
use pinion_capnp::server::serve;
use pinion_capnp::{Limits, RawCall, RawRequest, RawService};
use pinion_runtime::machine::block_on;
use pinion_types::ColumnFamily;
use receiver::{CLUSTER, RECEIVER, Receiver};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

const ROUNDS: u64 = 20_000;

/// A peer that has said all that it will say, and reads what comes.
struct Recorded {
    bytes: Vec<u8>,
    read: usize,
    piece: usize,
}

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let rest = &self.bytes[self.read..];
        let count = rest.len().min(buffer.len()).min(self.piece);
        buffer[..count].copy_from_slice(&rest[..count]);
        self.read += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buffer.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// splitmix64: a number for each step of a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((x ^ (x >> 31)) % limit as u64).unwrap_or(0)
    }
}

fn encoded(build: impl FnOnce(message::Builder<'_>)) -> Vec<u8> {
    let mut builder = capnp::message::Builder::new_default();
    build(builder.init_root());
    capnp::serialize::write_message_to_words(&builder)
}

fn call(question: u32, method: u16, build: impl FnOnce(capnp::any_pointer::Builder<'_>)) -> Vec<u8> {
    call_on((1, raw::Client::TYPE_ID), question, method, build)
}

fn call_on(
    (export, interface): (u32, u64),
    question: u32,
    method: u16,
    build: impl FnOnce(capnp::any_pointer::Builder<'_>),
) -> Vec<u8> {
    encoded(|message| {
        let mut call = message.init_call();
        call.set_question_id(question);
        call.set_interface_id(interface);
        call.set_method_id(method);
        call.reborrow().init_target().set_imported_cap(export);
        build(call.init_params().get_content());
    })
}

fn hello() -> Vec<u8> {
    call_on((0, pinion::Client::TYPE_ID), 5, 2, |params| {
        let mut hello: link_hello::Builder<'_> = params.init_as();
        hello.set_cluster_id(CLUSTER);
        hello.set_from_store_id(1);
        hello.set_to_store_id(RECEIVER.0);
    })
}

fn messages() -> Vec<u8> {
    call_on((3, link::Client::TYPE_ID), 6, 0, |params| {
        let params: link::messages_params::Builder<'_> = params.init_as();
        let mut raft = params.init_messages(1).get(0).init_raft();
        raft.set_kind(MessageKind::Append);
        raft.set_to(1);
        let mut snapshot = raft.reborrow().init_snapshot();
        snapshot.set_data(b"data");
        snapshot.init_conf_state().init_voters(3);
        raft.init_entries(2).get(1).set_data(b"data");
    })
}

/// A conversation with one of each kind of message that a client sends.
fn conversation() -> Vec<Vec<u8>> {
    vec![
        encoded(|message| message.init_bootstrap().set_question_id(0)),
        call(1, 1, |params| {
            let mut put: put_request::Builder<'_> = params.init_as();
            put.set_key(b"key");
            put.set_value(&[7; 100]);
            put.init_context().set_region_id(1);
        }),
        call(2, 3, |params| {
            let mut operations = params.init_as::<batch_request::Builder<'_>>().init_operations(3);
            for index in 0..3 {
                let mut operation = operations.reborrow().get(index);
                operation.set_key(b"key");
                operation.set_put(b"value");
            }
        }),
        call(3, 8, |params| params.init_as::<scan_request::Builder<'_>>().set_limit(10)),
        call(4, 11, |_| {}),
        hello(),
        messages(),
        encoded(|message| message.init_finish().set_question_id(1)),
        encoded(|message| message.init_release().set_id(16)),
        encoded(|message| {
            let mut disembargo = message.init_disembargo();
            disembargo.reborrow().init_target().set_imported_cap(1);
            disembargo.init_context().set_sender_loopback(1);
        }),
        encoded(|message| message.init_provide().set_question_id(9)),
    ]
}

fn damaged(random: &mut Random, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..=random.below(6)).flat_map(|_| messages[random.below(messages.len())].clone()).collect();
    for _ in 0..random.below(6) {
        let place = random.below(bytes.len());
        bytes[place] = match random.below(4) {
            0 => 0,
            1 => 0xff,
            2 => bytes[place] ^ (1 << random.below(8)),
            _ => u8::try_from(random.below(256)).unwrap_or(0),
        };
    }
    if random.below(4) == 0 {
        bytes.truncate(random.below(bytes.len()) + 1);
    }
    bytes
}

#[test]
fn damaged_messages_end_their_connection_or_are_answered() {
    block_on(async {
        let memory = Memory::new();
        let receiver = Receiver::default();
        let services = receiver.services(memory.clone(), memory.clone());
        let limits = Rc::new(Limits { message_bytes_max: 1 << 16, ..Limits::default() });
        let messages = conversation();
        let (mut closed, mut refused) = (0, 0);
        for seed in 0..ROUNDS {
            let mut random = Random(seed);
            let bytes = damaged(&mut random, &messages);
            let stream = Recorded { bytes, read: 0, piece: 1 + random.below(1000) };
            match serve(stream, services.clone(), limits.clone()).await {
                Ok(()) => closed += 1,
                Err(_) => refused += 1,
            }
        }
        assert!(closed > ROUNDS / 10 && refused > ROUNDS / 10, "{closed} closed, {refused} refused");
        let get = RawCall::Get { family: ColumnFamily::Default, key: b"key".to_vec() };
        assert!(memory.call(RawRequest::new(get)).await.is_ok());
        assert_eq!(memory.running(), 0);
        assert!(!receiver.take_messages().is_empty());
    })
    .unwrap();
}
