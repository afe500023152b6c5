//! The door on the real machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use pinion_runtime::fs::{self, ALIGNMENT, Buffer, OpenOptions};
use pinion_runtime::machine::{self, MachineConfig};
use pinion_runtime::{Lane, mailbox, spawn_in};
use pinion_types::CoreId;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

fn scratch(name: &str) -> std::path::PathBuf {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn a_file_gives_back_what_was_written() {
    let dir = scratch("file");
    machine::block_on(async move {
        let file = OpenOptions::write().create_new().data_sync().open(dir.join("f")).await.unwrap();
        let mut buffer = Buffer::zeroed(2 * ALIGNMENT);
        buffer[5000] = 7;
        file.write_at(buffer, 0).await.unwrap();
        let read = file.read_at(4999, 3).await.unwrap();
        assert_eq!(&read[..], &[0, 7, 0]);
        assert_eq!(file.read_at(8190, 100).await.unwrap().len(), 2);
        fs::write_atomically(dir.join("g"), b"small").await.unwrap();
        assert_eq!(fs::read(dir.join("g")).await.unwrap(), b"small");
        let names: Vec<_> = fs::read_dir(&dir).await.unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["f", "g"]);
    })
    .unwrap();
}

#[test]
fn a_large_file_that_is_removed_keeps_its_other_names() {
    let dir = scratch("large");
    machine::block_on(async move {
        let file = OpenOptions::write().create_new().open(dir.join("shared")).await.unwrap();
        file.set_len(20 << 20).await.unwrap();
        drop(file);
        fs::hard_link(dir.join("shared"), dir.join("other")).await.unwrap();
        fs::remove_large_file(dir.join("shared")).await.unwrap();
        let entries = fs::read_dir(&dir).await.unwrap();
        assert_eq!(
            entries.iter().map(|entry| (entry.name.as_str(), entry.len)).collect::<Vec<_>>(),
            [("other", 20 << 20)]
        );
        fs::remove_large_file(dir.join("other")).await.unwrap();
        assert!(fs::read_dir(&dir).await.unwrap().is_empty());
        let missing = fs::remove_large_file(dir.join("other")).await;
        assert_eq!(missing.unwrap_err().kind(), std::io::ErrorKind::NotFound);
    })
    .unwrap();
}

#[test]
fn cores_talk_by_mailbox() {
    let ports = std::sync::Arc::new(std::sync::Mutex::new(
        mailbox::mesh::<u32>(2, 8).into_iter().map(Some).collect::<Vec<_>>(),
    ));
    let sums = machine::run(&MachineConfig::unpinned(2), move |core| async move {
        let (sender, mut receiver) = ports.lock().unwrap()[usize::from(core.0)].take().unwrap();
        let sending = spawn_in(Lane::Throughput, async move {
            for number in 0..100 {
                while sender.try_send(CoreId(1 - core.0), number).is_err() {
                    pinion_runtime::sleep(Duration::from_micros(10)).await;
                }
            }
        });
        let mut sum = 0;
        for _ in 0..100 {
            sum += receiver.recv().await;
        }
        sending.await;
        sum
    })
    .unwrap();
    assert_eq!(sums, [4950, 4950]);
}

#[test]
fn a_port_has_one_listener() {
    machine::block_on(async {
        let first = pinion_runtime::net::TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let second = pinion_runtime::net::TcpListener::bind(first.local_addr());
        assert_eq!(second.err().unwrap().kind(), std::io::ErrorKind::AddrInUse);
    })
    .unwrap();
}

#[test]
fn a_task_that_yields_lets_the_reactor_look() {
    let yields = machine::block_on(async {
        let yields = Rc::new(Cell::new(0));
        let counted = yields.clone();
        drop(spawn_in(Lane::Throughput, async move {
            loop {
                pinion_runtime::yield_now().await;
                counted.update(|count| count + 1);
            }
        }));
        for _ in 0..100 {
            pinion_runtime::sleep(Duration::from_micros(5)).await;
        }
        yields.get()
    })
    .unwrap();
    // A task that only lets ready tasks run comes here some thousand times a millisecond.
    assert!(yields < 100 * 50, "{yields} yields in 100 waits of 5 us");
}
