//! A server and its clients over real sockets, with a store in memory behind them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memory;

use memory::Memory;
use pinion_capnp::client::{Client, ClientError};
use pinion_capnp::server::{ConnectionError, Services, serve};
use pinion_capnp::{
    Context, Limits, NoLinks, OperationResult, Operations, RawCall, RawReply, RawRequest, Remaining, Scan,
    WireError,
};
use pinion_runtime::machine::block_on;
use pinion_runtime::net::{TcpListener, TcpStream};
use pinion_runtime::{now, sleep, spawn};
use pinion_types::{ColumnFamily, Epoch, RegionId};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

const FAMILY: ColumnFamily = ColumnFamily::Default;

/// A listening store and how its connections ended.
struct Store {
    address: SocketAddr,
    memory: Memory,
    ends: Rc<RefCell<Vec<Result<(), ConnectionError>>>>,
}

impl Store {
    fn start(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr();
        let memory = Memory::new();
        let ends = Rc::new(RefCell::new(Vec::new()));
        let services = Rc::new(Services { raw: memory.clone(), admin: memory.clone(), link: NoLinks });
        let (limits, noted) = (Rc::new(limits), ends.clone());
        spawn(async move {
            loop {
                let stream = listener.accept().await.unwrap();
                let (services, limits, noted) = (services.clone(), limits.clone(), noted.clone());
                spawn(async move {
                    let end = serve(stream, services, limits).await;
                    noted.borrow_mut().push(end);
                });
            }
        });
        Self { address, memory, ends }
    }

    async fn client(&self) -> Client {
        Client::connect(self.address).await.unwrap()
    }

    /// Waits until a connection has ended.
    async fn end(&self) -> Result<(), ConnectionError> {
        for _ in 0..500 {
            let end = self.ends.borrow_mut().pop();
            if let Some(end) = end {
                return end;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("no connection ended within 5 s");
    }
}

fn in_store<F: Future<Output = ()> + 'static>(limits: Limits, test: impl FnOnce(Store) -> F + 'static) {
    block_on(async move { test(Store::start(limits)).await }).unwrap();
}

async fn write_all(stream: &mut TcpStream, bytes: &[u8]) {
    futures_util::AsyncWriteExt::write_all(stream, bytes).await.unwrap();
}

/// Reads until the server closes.
async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = futures_util::AsyncReadExt::read_to_end(stream, &mut bytes).await;
    bytes
}

#[test]
fn single_calls_do_what_they_say() {
    in_store(Limits::default(), |store| async move {
        let client = store.client().await;
        assert_eq!(client.get(FAMILY, b"k").await, Ok(None));
        client.put(FAMILY, b"k", b"v", None).await.unwrap();
        assert_eq!(client.get(FAMILY, b"k").await.unwrap().as_deref(), Some(&b"v"[..]));
        assert_eq!(client.get(ColumnFamily::Lock, b"k").await, Ok(None));
        assert_eq!(client.time_to_live(FAMILY, b"k").await, Ok(Remaining::Forever));
        assert_eq!(client.time_to_live(FAMILY, b"x").await, Ok(Remaining::NotFound));
        client.put(FAMILY, b"t", b"", Some(Duration::from_mins(1))).await.unwrap();
        let remaining = client.time_to_live(FAMILY, b"t").await.unwrap();
        assert!(matches!(remaining, Remaining::For(time) if time > Duration::from_secs(50)));
        let swap = client.compare_and_swap(FAMILY, b"k", Some(b"other"), b"w", None).await.unwrap();
        assert_eq!(swap, (false, Some((&b"v"[..]).into())));
        let swap = client.compare_and_swap(FAMILY, b"k", Some(b"v"), b"w", None).await.unwrap();
        assert_eq!(swap, (true, Some((&b"v"[..]).into())));
        let swap = client.compare_and_swap(FAMILY, b"n", None, b"1", None).await.unwrap();
        assert_eq!(swap, (true, None));
        client.delete(FAMILY, b"k").await.unwrap();
        assert_eq!(client.get(FAMILY, b"k").await, Ok(None));
        client.delete_range(FAMILY, b"", b"").await.unwrap();
        assert_eq!(client.get(FAMILY, b"n").await, Ok(None));
    });
}

#[test]
fn lists_and_scans_do_what_they_say() {
    in_store(Limits::default(), |store| async move {
        let client = store.client().await;
        let mut puts = Operations::default();
        for index in 0..100 {
            puts.put(FAMILY, format!("k{index:03}").as_bytes(), &[index; 10], None);
        }
        client.batch_put(puts).await.unwrap();
        let keys = [b"k007".to_vec(), b"nowhere".to_vec()];
        let values = client.batch_get(FAMILY, &keys).await.unwrap();
        assert_eq!(
            values.iter().collect::<Vec<_>>(),
            [OperationResult::Value(&[7; 10]), OperationResult::NotFound]
        );
        client.batch_delete(FAMILY, &keys).await.unwrap();
        let mut mixed = Operations::default();
        mixed.get(FAMILY, b"k008");
        mixed.delete(FAMILY, b"k008");
        mixed.get(FAMILY, b"k007");
        let results = client.batch(mixed).await.unwrap();
        let expected = [OperationResult::Value(&[8; 10]), OperationResult::Done, OperationResult::NotFound];
        assert_eq!(results.iter().collect::<Vec<_>>(), expected);

        let mut forward = Scan { limit: 30, ..Scan::default() };
        let mut seen = Vec::new();
        loop {
            let page = client.scan(forward.clone()).await.unwrap();
            seen.extend(page.pairs.iter().map(|(key, _)| key.to_vec()));
            let Some(resume) = page.resume else { break };
            forward.start = resume;
        }
        assert_eq!(seen.len(), 98);
        assert!(seen.is_sorted());
        let mut backward = Scan { limit: 1000, bytes_max: 100, reverse: true, ..Scan::default() };
        let mut reversed = Vec::new();
        loop {
            let page = client.scan(backward.clone()).await.unwrap();
            assert!(page.pairs.size_bytes() <= 100);
            reversed.extend(page.pairs.iter().map(|(key, _)| key.to_vec()));
            let Some(resume) = page.resume else { break };
            backward.end = resume;
        }
        reversed.reverse();
        assert_eq!(reversed, seen);
    });
}

#[test]
fn regions_are_listed_split_and_checked() {
    in_store(Limits::default(), |store| async move {
        let client = store.client().await;
        assert_eq!(client.info().await.unwrap().cluster, 7);
        let made = client.split(&[b"m".to_vec()]).await.unwrap();
        assert_eq!(made.len(), 2);
        let long = vec![b'n'; Limits::default().request.key_bytes_max + 1];
        let refused = client.split(&[b"n".to_vec(), long]).await.unwrap_err();
        assert!(
            matches!(refused, ClientError::Refused(WireError::TooLarge { limit: 4096, got: 4097, .. })),
            "{refused}"
        );
        let page = client.regions(b"", 0).await.unwrap();
        assert_eq!((page.regions.len(), page.resume), (2, None));
        assert_eq!(client.regions(b"", 1).await.unwrap().resume, Some(b"rm".to_vec()));
        assert_eq!(client.statistics().await.unwrap(), "regions 2\n");
        let mut both = Operations::default();
        both.put(FAMILY, b"a", b"1", None);
        both.put(FAMILY, b"z", b"1", None);
        let error = client.batch_put(both).await.unwrap_err();
        assert_eq!(error, ClientError::Refused(WireError::BatchSpansRegions));
        let get = |region, version, key: &[u8]| RawRequest {
            context: Some(Box::new(Context {
                region: RegionId(region),
                epoch: Some(Epoch { conf_ver: 1, version }),
                ..Context::default()
            })),
            ..RawRequest::new(RawCall::Get { family: FAMILY, key: key.to_vec() })
        };
        assert_eq!(client.call(&get(1, 2, b"a")).await, Ok(RawReply::Value(None)));
        let refusal = async |request| match client.call(&request).await {
            Err(ClientError::Refused(error)) => error,
            other => panic!("not refused: {other:?}"),
        };
        assert!(
            matches!(refusal(get(1, 1, b"a")).await, WireError::EpochNotMatch { current } if current.len() == 1)
        );
        assert!(
            matches!(refusal(get(1, 2, b"z")).await, WireError::KeyNotInRegion { key, .. } if key == b"z")
        );
        assert_eq!(refusal(get(9, 1, b"a")).await, WireError::RegionNotFound(RegionId(9)));
    });
}

#[test]
fn bad_arguments_come_back_as_data_and_the_connection_goes_on() {
    in_store(Limits::default(), |store| async move {
        let client = store.client().await;
        let error = client.get(FAMILY, b"").await.unwrap_err();
        assert!(matches!(error, ClientError::Refused(WireError::InvalidArgument(_))));
        let error = client.put(FAMILY, b"k", &vec![0; (8 << 20) + 1], None).await.unwrap_err();
        assert!(matches!(error, ClientError::Refused(WireError::TooLarge { .. })));
        let error = client.delete_range(FAMILY, b"b", b"a").await.unwrap_err();
        assert!(matches!(error, ClientError::Refused(WireError::InvalidArgument(_))));
        let largest = vec![7; 8 << 20];
        client.put(FAMILY, b"k", &largest, None).await.unwrap();
        assert_eq!(client.get(FAMILY, b"k").await.unwrap().as_deref(), Some(&largest[..]));
    });
}

#[test]
fn many_calls_in_flight_are_all_answered() {
    in_store(Limits::default(), |store| async move {
        let client = store.client().await;
        let tasks: Vec<_> = (0..5000_u32)
            .map(|index| {
                let client = client.clone();
                spawn(async move {
                    let key = index.to_be_bytes();
                    client.put(FAMILY, &key, &key, None).await.unwrap();
                    assert_eq!(client.get(FAMILY, &key).await.unwrap().as_deref(), Some(&key[..]));
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
    });
}

#[test]
fn no_more_calls_run_than_the_limit_and_the_rest_wait() {
    let limits = Limits { calls_in_flight_max: 4, ..Limits::default() };
    in_store(limits, |store| async move {
        let client = store.client().await;
        store.memory.set_delay(Duration::from_millis(20));
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let client = client.clone();
                spawn(async move { client.get(FAMILY, b"k").await })
            })
            .collect();
        let started = now();
        while started.elapsed() < Duration::from_millis(60) {
            assert!(store.memory.running() <= 4);
            sleep(Duration::from_millis(1)).await;
        }
        for task in tasks {
            assert_eq!(task.await, Ok(None));
        }
        assert!(started.elapsed() >= Duration::from_millis(100), "five rounds of four calls");
    });
}

#[test]
fn bytes_in_flight_hold_the_peer_back() {
    let limits = Limits { bytes_in_flight_max: 10_000, ..Limits::default() };
    in_store(limits, |store| async move {
        let client = store.client().await;
        store.memory.set_delay(Duration::from_millis(20));
        let tasks: Vec<_> = (0..9)
            .map(|_| {
                let client = client.clone();
                spawn(async move { client.put(FAMILY, b"k", &[0; 4000], None).await })
            })
            .collect();
        sleep(Duration::from_millis(10)).await;
        assert_eq!(store.memory.running(), 3);
        for task in tasks {
            assert_eq!(task.await, Ok(()));
        }
    });
}

#[test]
fn a_call_ends_at_its_deadline() {
    in_store(Limits::default(), |store| async move {
        let client = store.client().await;
        store.memory.set_delay(Duration::from_mins(1));
        let impatient = client.with_timeout(Duration::from_millis(50));
        let error = impatient.get(FAMILY, b"k").await.unwrap_err();
        assert_eq!(error, ClientError::Refused(WireError::TimedOut));
        assert_eq!(store.memory.running(), 0);
    });
}

#[test]
fn a_call_that_is_given_up_drops_its_handler() {
    in_store(Limits::default(), |store| async move {
        let client = store.client().await;
        store.memory.set_delay(Duration::from_mins(1));
        let mut call = Box::pin(client.get(FAMILY, b"k"));
        assert!(futures_util::poll!(&mut call).is_pending());
        sleep(Duration::from_millis(50)).await;
        assert_eq!(store.memory.running(), 1);
        drop(call);
        sleep(Duration::from_millis(50)).await;
        assert_eq!(store.memory.running(), 0);
        store.memory.set_delay(Duration::ZERO);
        assert_eq!(client.get(FAMILY, b"k").await, Ok(None));
    });
}

#[test]
fn a_cut_connection_drops_its_handlers() {
    in_store(Limits::default(), |store| async move {
        let client = store.client().await;
        store.memory.set_delay(Duration::from_mins(1));
        let mut call = Box::pin(client.get(FAMILY, b"k"));
        assert!(futures_util::poll!(&mut call).is_pending());
        sleep(Duration::from_millis(50)).await;
        assert_eq!(store.memory.running(), 1);
        drop(call);
        drop(client);
        store.end().await.unwrap();
        assert_eq!(store.memory.running(), 0);
    });
}

#[test]
fn garbage_ends_its_own_connection_alone() {
    in_store(Limits::default(), |store| async move {
        let client = store.client().await;
        client.put(FAMILY, b"k", b"v", None).await.unwrap();
        for garbage in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0xff; 64],
            &[0, 0, 0, 0, 2, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4, 5, 6, 7, 8],
        ] {
            let mut stream = TcpStream::connect(store.address).await.unwrap();
            write_all(&mut stream, garbage).await;
            read_to_end(&mut stream).await;
            let end = store.end().await;
            assert!(
                matches!(end, Err(ConnectionError::Frame(_) | ConnectionError::Protocol(_))),
                "{garbage:?}: {end:?}"
            );
        }
        assert_eq!(client.get(FAMILY, b"k").await.unwrap().as_deref(), Some(&b"v"[..]));
    });
}

#[test]
fn a_message_over_the_limit_ends_the_connection_and_says_why() {
    in_store(Limits::default(), |store| async move {
        let client = store.client().await;
        let mut stream = TcpStream::connect(store.address).await.unwrap();
        let words = u32::try_from((16 << 20) / 8).unwrap();
        write_all(&mut stream, &[[0; 4], words.to_le_bytes()].concat()).await;
        let said = read_to_end(&mut stream).await;
        let text = String::from_utf8_lossy(&said);
        assert!(text.contains("over the limit of 16777216"), "{text}");
        assert!(matches!(store.end().await, Err(ConnectionError::Frame(_))));
        assert_eq!(client.get(FAMILY, b"k").await, Ok(None));
    });
}

#[test]
fn an_idle_connection_is_closed() {
    let limits = Limits { idle_timeout: Duration::from_millis(100), ..Limits::default() };
    in_store(limits, |store| async move {
        let client = store.client().await;
        assert_eq!(client.get(FAMILY, b"k").await, Ok(None));
        assert!(matches!(store.end().await, Err(ConnectionError::Idle(_))));
        assert!(client.get(FAMILY, b"k").await.is_err());
    });
}

#[test]
fn a_connection_with_a_slow_call_is_not_idle() {
    let limits = Limits { idle_timeout: Duration::from_millis(50), ..Limits::default() };
    in_store(limits, |store| async move {
        let client = store.client().await;
        store.memory.set_delay(Duration::from_millis(300));
        assert_eq!(client.get(FAMILY, b"k").await, Ok(None));
    });
}

#[test]
fn a_peer_that_does_not_read_is_closed() {
    let limits = Limits { write_timeout: Duration::from_millis(200), ..Limits::default() };
    in_store(limits, |store| async move {
        let client = store.client().await;
        client.put(FAMILY, b"big", &vec![1; 4 << 20], None).await.unwrap();
        // What another client would send for its first calls, and then gets of the large value without end.
        let mut stream = TcpStream::connect(store.address).await.unwrap();
        for _ in 0..8 {
            write_all(&mut stream, &raw_calls()).await;
        }
        assert!(matches!(store.end().await, Err(ConnectionError::SlowReader(_))));
        assert!(client.get(FAMILY, b"big").await.unwrap().is_some());
        drop(stream);
    });
}

/// The bytes of a get of `big`, addressed to export 1.
fn raw_calls() -> Vec<u8> {
    use capnp::traits::HasTypeId;
    use pinion_capnp::generated::raw_capnp::{get_request, raw};
    thread_local!(static QUESTION: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
    let mut message = capnp::message::Builder::new_default();
    let mut call = message.init_root::<capnp_rpc::rpc_capnp::message::Builder<'_>>().init_call();
    call.set_question_id(QUESTION.replace(QUESTION.get() + 1));
    call.set_interface_id(raw::Client::TYPE_ID);
    call.reborrow().init_target().set_imported_cap(1);
    call.init_params().get_content().init_as::<get_request::Builder<'_>>().set_key(b"big");
    capnp::serialize::write_message_to_words(&message)
}

#[test]
fn a_question_in_use_is_not_asked_again() {
    in_store(Limits::default(), |store| async move {
        store.memory.set_delay(Duration::from_mins(1));
        let mut stream = TcpStream::connect(store.address).await.unwrap();
        let call = raw_calls();
        write_all(&mut stream, &[&call[..], &call[..]].concat()).await;
        assert!(matches!(store.end().await, Err(ConnectionError::Protocol(text)) if text.contains("in use")));
    });
}

#[test]
fn a_bulk_load_writes_every_chunk_in_order() {
    in_store(Limits::default(), |store| async move {
        let client = store.client().await;
        let mut load = client.bulk_load(FAMILY, None).await.unwrap();
        for chunk in 0..40_u8 {
            let mut pairs = Operations::default();
            for index in 0..500_u32 {
                pairs.put(FAMILY, &index.to_be_bytes(), &[chunk; 400], None);
            }
            if chunk == 20 {
                store.memory.refuse_next(WireError::ServerBusy { retry_after: Duration::from_millis(1) });
            }
            load.put(&pairs).await.unwrap();
        }
        assert_eq!(load.done().await, Ok(20_000));
        for index in [0_u32, 499] {
            let value = client.get(FAMILY, &index.to_be_bytes()).await.unwrap().unwrap();
            assert_eq!(value, vec![39; 400]);
        }
    });
}

#[test]
fn a_failed_chunk_ends_its_load() {
    in_store(Limits::default(), |store| async move {
        let client = store.client().await;
        let mut load = client.bulk_load(FAMILY, None).await.unwrap();
        let mut chunk = Operations::default();
        chunk.put(FAMILY, b"a", b"1", None);
        store.memory.refuse_next(WireError::DiskFull);
        load.put(&chunk).await.unwrap();
        load.put(&chunk).await.unwrap();
        assert_eq!(load.done().await, Err(ClientError::Refused(WireError::DiskFull)));
        assert_eq!(client.get(FAMILY, b"a").await, Ok(None));
        let load = client.bulk_load(FAMILY, None).await.unwrap();
        assert_eq!(load.done().await, Ok(0));
    });
}

#[test]
fn bulk_loads_are_closed_with_their_last_reference() {
    in_store(Limits::default(), |store| async move {
        let client = store.client().await;
        // More than may be open at once.
        for _ in 0..1000 {
            drop(client.bulk_load(FAMILY, None).await.unwrap());
        }
        let mut open = Vec::new();
        let refused = loop {
            match client.bulk_load(FAMILY, None).await {
                Ok(load) => open.push(load),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, ClientError::Overloaded(_)), "{refused}");
        open.clear();
        assert!(client.bulk_load(FAMILY, None).await.is_ok());
    });
}
