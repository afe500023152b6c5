//! The calls between two stores over real sockets: who is let in, and what the calls do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memory;
mod receiver;

use capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty};
use futures_util::AsyncReadExt;
use memory::Memory;
use pinion_capnp::generated::link_capnp::{ids_answer, link_answer};
use pinion_capnp::generated::pinion_capnp::pinion;
use pinion_capnp::server::serve;
use pinion_capnp::{
    Client, ClientError, Limits, LinkClient, LinkHello, RegionMessage, SnapshotChunk, SnapshotOffer,
    WireError,
};
use pinion_raft::{Entry, Message, MessageKind, Snapshot, SnapshotMetadata};
use pinion_runtime::machine::block_on;
use pinion_runtime::net::{TcpListener, TcpStream};
use pinion_runtime::spawn;
use pinion_types::{CoreId, LogIndex, PeerId, RegionId, StoreId, Term};
use receiver::{CLUSTER, RECEIVER, Receiver};
use std::net::SocketAddr;
use std::rc::Rc;

/// A listening store that takes links.
fn start() -> (SocketAddr, Receiver) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr();
    let receiver = Receiver::default();
    let services = receiver.services(Memory::new(), Memory::new());
    spawn(async move {
        loop {
            let stream = listener.accept().await.unwrap();
            let services = services.clone();
            spawn(async move { drop(serve(stream, services, Rc::new(Limits::default())).await) });
        }
    });
    (address, receiver)
}

fn hello() -> LinkHello {
    LinkHello {
        cluster: CLUSTER,
        from: StoreId(1),
        from_core: CoreId(3),
        to: RECEIVER,
        addresses: vec!["10.0.0.1:20160".into()],
    }
}

fn append(index: u64, data: &[u8]) -> RegionMessage {
    let entry = Entry { index: LogIndex(index), data: data.to_vec().into(), ..Entry::default() };
    let message = Message {
        kind: MessageKind::Append,
        to: PeerId(2),
        from: PeerId(1),
        entries: vec![entry],
        ..Message::default()
    };
    RegionMessage { region: RegionId(9), message, ..RegionMessage::default() }
}

fn offer() -> SnapshotOffer {
    let metadata = SnapshotMetadata { index: LogIndex(10), term: Term(3), ..SnapshotMetadata::default() };
    let snapshot = Some(Box::new(Snapshot { metadata, ..Snapshot::default() }));
    let message =
        Message { kind: MessageKind::Snapshot, snapshot, entries: Vec::new(), ..append(0, b"").message };
    SnapshotOffer {
        message: RegionMessage { message, ..append(0, b"") },
        description: b"description".to_vec().into(),
        files: vec![(1, 1000), (5, 0)],
    }
}

#[test]
fn calls_between_stores_do_what_they_say() {
    block_on(async {
        let (address, receiver) = start();
        let link = LinkClient::connect(address, &hello()).await.unwrap();
        assert_eq!(receiver.hellos(), [hello()]);
        let batch = vec![append(1, b"one"), append(2, b""), RegionMessage { gone: true, ..append(3, b"") }];
        link.messages(&batch).await.unwrap();
        let gone = RegionMessage { message: Message::default(), ..batch[2].clone() };
        assert_eq!(receiver.take_messages(), [batch[0].clone(), batch[1].clone(), gone]);

        assert_eq!(link.snapshot_offer(&offer()).await.unwrap(), [(1, 500), (5, 0)]);
        let key = offer().key().unwrap();
        let chunk = SnapshotChunk { key, file: 1, offset: 500, crc32: 3, data: vec![7; 500].into() };
        link.snapshot_chunk(&chunk).await.unwrap();
        assert_eq!(receiver.chunks(), [chunk]);
        link.snapshot_done(key).await.unwrap();
        let other = pinion_capnp::SnapshotKey { to: PeerId(77), ..key };
        let error = link.snapshot_done(other).await.unwrap_err();
        assert_eq!(error, ClientError::Refused(WireError::invalid("no such offer")));
        link.snapshot_abort(key).await.unwrap();
        assert_eq!(receiver.aborted(), [key]);

        assert_eq!(link.allocate_ids(10).await, Ok(1));
        assert_eq!(link.allocate_ids(1).await, Ok(11));
        assert!(matches!(link.allocate_ids(0).await, Err(ClientError::Refused(_))));
    })
    .unwrap();
}

#[test]
fn a_stranger_gets_no_link() {
    block_on(async {
        let (address, _) = start();
        let refused = |hello| async move {
            match LinkClient::connect(address, &hello).await {
                Err(ClientError::Refused(error)) => error,
                Err(other) => panic!("{other}"),
                Ok(_) => panic!("let in"),
            }
        };
        let error = refused(LinkHello { cluster: 8, ..hello() }).await;
        assert_eq!(error, WireError::ClusterNotMatch { requested: 8, actual: CLUSTER });
        let error = refused(LinkHello { to: StoreId(3), ..hello() }).await;
        assert_eq!(error, WireError::StoreNotMatch { requested: StoreId(3), actual: RECEIVER });
        let error = refused(LinkHello { from: RECEIVER, ..hello() }).await;
        assert!(matches!(error, WireError::InvalidArgument(_)));
    })
    .unwrap();
}

#[test]
fn a_store_that_runs_alone_takes_no_link_and_serves_clients() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr();
        let (raw, admin) = (Memory::new(), Memory::new());
        let services = Rc::new(pinion_capnp::server::Services { raw, admin, link: pinion_capnp::NoLinks });
        spawn(async move {
            loop {
                let stream = listener.accept().await.unwrap();
                spawn(serve(stream, services.clone(), Rc::new(Limits::default())));
            }
        });
        let refused = LinkClient::connect(address, &hello()).await.err().unwrap();
        assert!(matches!(refused, ClientError::Refused(WireError::InvalidArgument(_))), "{refused}");
        assert_eq!(Client::connect(address).await.unwrap().info().await.unwrap().version, "memory");
    })
    .unwrap();
}

/// A connection of capnp-rpc.
async fn foreign(address: SocketAddr) -> pinion::Client {
    let (reader, writer) = TcpStream::connect(address).await.unwrap().split();
    let network =
        twoparty::VatNetwork::new(reader, writer, Side::Client, capnp::message::ReaderOptions::new());
    let mut system = RpcSystem::new(Box::new(network), None);
    let client = system.bootstrap(Side::Server);
    spawn(system);
    client
}

#[test]
fn the_library_of_others_gets_a_link_with_its_hello_alone() {
    block_on(async {
        let (address, _) = start();
        let client = foreign(address).await;
        for (cluster, is_let_in) in [(CLUSTER + 1, false), (CLUSTER, true)] {
            let mut request = client.link_request();
            let mut hello = request.get();
            hello.set_cluster_id(cluster);
            hello.set_from_store_id(1);
            hello.set_to_store_id(RECEIVER.0);
            let opening = request.send();
            let answer = opening.promise.await.unwrap();
            let link_answer::Link(link) = answer.get().unwrap().which().unwrap() else {
                assert!(!is_let_in);
                continue;
            };
            assert!(is_let_in);
            let mut request = link.unwrap().allocate_ids_request();
            request.get().set_count(5);
            let ids = request.send().promise.await.unwrap();
            assert!(matches!(ids.get().unwrap().which().unwrap(), ids_answer::First(1)));
        }
    })
    .unwrap();
}
