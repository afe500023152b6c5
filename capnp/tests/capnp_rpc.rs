//! The project's own serving end against capnp-rpc, the Rust library that others write clients with.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memory;

use capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty};
use futures_util::AsyncReadExt;
use memory::Memory;
use pinion_capnp::generated::pinion_capnp::pinion;
use pinion_capnp::generated::raw_capnp::{get_answer, load_answer, raw};
use pinion_capnp::server::{Services, serve};
use pinion_capnp::{Limits, NoLinks};
use pinion_runtime::machine::block_on;
use pinion_runtime::net::{TcpListener, TcpStream};
use pinion_runtime::{sleep, spawn};
use std::rc::Rc;
use std::time::Duration;

/// A connection of capnp-rpc to a new store.
async fn connect() -> (pinion::Client, Memory) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr();
    let memory = Memory::new();
    let services = Rc::new(Services { raw: memory.clone(), admin: memory.clone(), link: NoLinks });
    spawn(async move {
        let stream = listener.accept().await.unwrap();
        serve(stream, services, Rc::new(Limits::default())).await
    });
    let (reader, writer) = TcpStream::connect(address).await.unwrap().split();
    let network =
        twoparty::VatNetwork::new(reader, writer, Side::Client, capnp::message::ReaderOptions::new());
    let mut system = RpcSystem::new(Box::new(network), None);
    let client = system.bootstrap(Side::Server);
    spawn(system);
    (client, memory)
}

async fn put(raw: &raw::Client, key: &[u8], value: &[u8]) {
    let mut request = raw.put_request();
    request.get().set_key(key);
    request.get().set_value(value);
    request.send().promise.await.unwrap();
}

async fn get(raw: &raw::Client, key: &[u8]) -> Option<Vec<u8>> {
    let mut request = raw.get_request();
    request.get().set_key(key);
    let response = request.send().promise.await.unwrap();
    match response.get().unwrap().which().unwrap() {
        get_answer::NotFound(()) => None,
        get_answer::Value(value) => Some(value.unwrap().to_vec()),
        get_answer::Error(error) => panic!("{:?}", error.unwrap().get_message()),
    }
}

#[test]
fn calls_are_pipelined_on_capabilities_that_are_still_to_come() {
    block_on(async {
        let (client, _) = connect().await;
        let raw = client.raw_request().send().pipeline.get_raw();
        put(&raw, b"k", b"v").await;
        assert_eq!(get(&raw, b"k").await.as_deref(), Some(&b"v"[..]));
        // Once more when the promise is resolved, and on a capability that was waited for.
        let answer = client.raw_request().send().promise.await.unwrap();
        let other = answer.get().unwrap().get_raw().unwrap();
        drop(answer);
        assert_eq!(get(&other, b"k").await.as_deref(), Some(&b"v"[..]));
        assert_eq!(get(&raw, b"x").await, None);
    })
    .unwrap();
}

#[test]
fn many_calls_in_flight_are_answered_each_with_its_own() {
    block_on(async {
        let (client, _) = connect().await;
        let raw = client.raw_request().send().pipeline.get_raw();
        let tasks: Vec<_> = (0..3000_u32)
            .map(|index| {
                let raw = raw.clone();
                spawn(async move {
                    let key = index.to_be_bytes();
                    put(&raw, &key, &key).await;
                    assert_eq!(get(&raw, &key).await.as_deref(), Some(&key[..]));
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
    })
    .unwrap();
}

#[test]
fn a_bulk_load_streams() {
    block_on(async {
        let (client, _) = connect().await;
        let raw = client.raw_request().send().pipeline.get_raw();
        let loader = raw.bulk_load_request().send().pipeline.get_loader();
        for index in 0..50_u32 {
            let mut request = loader.put_request();
            let mut pairs = request.get().init_pairs(10);
            for pair in 0..10 {
                let mut pair = pairs.reborrow().get(pair);
                pair.set_key(&index.to_be_bytes());
                pair.set_value(&[0; 1000]);
            }
            request.send().await.unwrap();
        }
        let answer = loader.done_request().send().promise.await.unwrap();
        let load_answer::Pairs(pairs) = answer.get().unwrap().which().unwrap() else { panic!("an error") };
        assert_eq!(pairs, 500);
        assert!(get(&raw, &7_u32.to_be_bytes()).await.is_some());
    })
    .unwrap();
}

#[test]
fn dropping_a_promise_cancels_the_call() {
    block_on(async {
        let (client, memory) = connect().await;
        let raw = client.raw_request().send().promise.await.unwrap().get().unwrap().get_raw().unwrap();
        memory.set_delay(Duration::from_mins(1));
        let mut request = raw.get_request();
        request.get().set_key(b"k");
        let promise = request.send().promise;
        sleep(Duration::from_millis(50)).await;
        assert_eq!(memory.running(), 1);
        drop(promise);
        sleep(Duration::from_millis(50)).await;
        assert_eq!(memory.running(), 0);
        memory.set_delay(Duration::ZERO);
        assert_eq!(get(&raw, b"k").await, None);
    })
    .unwrap();
}

#[test]
fn a_method_that_is_not_there_is_unimplemented() {
    block_on(async {
        let (client, _) = connect().await;
        let request =
            client.client.new_call::<capnp::any_pointer::Owned, capnp::any_pointer::Owned>(1, 2, None);
        let error = request.send().promise.await.err().unwrap();
        assert_eq!(error.kind, capnp::ErrorKind::Unimplemented);
    })
    .unwrap();
}
