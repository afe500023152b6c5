//! The client library as programs use it that know nothing of our runtime: from a plain thread, and from tokio.

use super::process::{Server, scratch};
use pinion_client::{Client, ColumnFamily, Error, Operations, Options};

const FAMILY: ColumnFamily = ColumnFamily::Default;

#[test]
fn a_plain_thread_and_tokio_share_a_client() {
    let home = scratch();
    let server = Server::start(&home.path().join("store"), &[]);
    let stores = [server.address.parse().unwrap()];
    let client = Client::connect_blocking(&stores, Options::default()).unwrap();
    client.blocking().put(FAMILY, b"thread", b"plain", None).unwrap();
    let others = client.clone();
    let thread = std::thread::spawn(move || others.blocking().get(FAMILY, b"thread"));
    assert_eq!(thread.join().unwrap().unwrap().as_deref(), Some(&b"plain"[..]));

    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    tokio.block_on(async {
        let tasks = (0..100).map(|number: u32| {
            let client = client.clone();
            tokio::spawn(async move {
                client.put(FAMILY, format!("t{number:03}").as_bytes(), b"tokio", None).await
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap().unwrap();
        }
        let keys: Vec<_> = (0..100).map(|number| format!("t{number:03}").into_bytes()).collect();
        let results = client.batch_get(FAMILY, &keys).await.unwrap();
        assert_eq!(
            results.iter().filter(|found| *found == pinion_client::OperationResult::Value(b"tokio")).count(),
            100
        );
        // A call goes on without its future, and connecting works from here too.
        drop(client.put(FAMILY, b"dropped", b"", None));
        assert!(Client::connect(&stores, Options::default()).await.unwrap().id() == client.id());
    });
    let empty = client.blocking().batch(Operations::default()).unwrap_err();
    assert!(matches!(empty, Error::Refused(_)), "{empty}");
    drop(server);
}

#[test]
fn the_last_handle_ends_the_thread_and_an_unreachable_store_is_an_error() {
    let threads = || {
        let names = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
        names.filter(|name| name.starts_with("the-last-client")).count()
    };
    let home = scratch();
    let server = Server::start(&home.path().join("store"), &[]);
    let options = Options { name: "the-last-client".to_owned(), ..Options::default() };
    let client = Client::connect_blocking(&[server.address.parse().unwrap()], options.clone()).unwrap();
    let copy = client.clone();
    drop(client);
    copy.blocking().put(FAMILY, b"k", b"v", None).unwrap();
    assert!(threads() > 0);
    drop(copy);
    let ended = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        threads() == 0
    });
    assert!(ended, "the thread outlives its handles");
    let error = Client::connect_blocking(&["127.0.0.1:1".parse().unwrap()], options).err().unwrap();
    assert!(error.to_string().contains("cannot reach a store at 127.0.0.1:1"), "{error}");
}
