//! What the simulated disk keeps and what it may lose.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use pinion_runtime::fs::{self, ALIGNMENT, Buffer, File, OpenOptions};
use pinion_runtime::sim::{self, Config, DiskError, Failing, Host, Simulation};
use pinion_types::CoreId;
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::time::Duration;

/// Runs a future on the host's core 0.
fn on<T: 'static>(simulation: &Simulation, host: &Host, future: impl Future<Output = T> + 'static) -> T {
    simulation.block_on(host.spawn_core(CoreId(0), future)).unwrap()
}

/// A world with one host for each of `seeds`; what `body` found in each, without doubles.
fn outcomes<T: Ord + Send>(seeds: u64, body: impl Fn(&Simulation, &Host) -> T + Sync) -> BTreeSet<T> {
    (0..seeds)
        .map(|seed| sim::run(Config::new(seed), |simulation| body(simulation, &simulation.add_host("a"))))
        .collect()
}

fn filled(byte: u8, blocks: usize) -> Buffer {
    let mut buffer = Buffer::new(blocks * ALIGNMENT);
    buffer.fill(byte);
    buffer
}

async fn durable_file(path: &str, byte: u8, blocks: usize) -> File {
    let file = OpenOptions::write().create().open(path).await.unwrap();
    file.write_at(filled(byte, blocks), 0).await.unwrap();
    file.sync_data().await.unwrap();
    fs::sync_dir("/").await.unwrap();
    file
}

#[test]
fn synced_data_survives_a_power_cut() {
    let found = outcomes(50, |simulation, host| {
        on(simulation, host, async { drop(durable_file("/f", 7, 3).await) });
        host.crash();
        host.file_content("/f").unwrap() == vec![7; 3 * ALIGNMENT]
    });
    assert_eq!(found, BTreeSet::from([true]));
}

#[test]
fn an_unsynced_write_is_kept_lost_or_torn_at_sectors() {
    let found = outcomes(60, |simulation, host| {
        on(simulation, host, async {
            let file = durable_file("/f", 1, 1).await;
            file.write_at(filled(2, 1), 0).await.unwrap();
        });
        host.crash();
        let content = host.file_content("/f").unwrap();
        for sector in content.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is torn");
        }
        match (content.contains(&1), content.contains(&2)) {
            (_, false) => "lost",
            (false, true) => "kept",
            (true, true) => "torn",
        }
    });
    assert_eq!(found, BTreeSet::from(["kept", "lost", "torn"]));
}

#[test]
fn unsynced_writes_are_reordered() {
    let found = outcomes(60, |simulation, host| {
        on(simulation, host, async {
            let file = durable_file("/f", 1, 2).await;
            file.write_at(filled(2, 1), 0).await.unwrap();
            file.write_at(filled(2, 1), ALIGNMENT as u64).await.unwrap();
        });
        host.crash();
        let content = host.file_content("/f").unwrap();
        let is_new = |block: &[u8]| block.iter().all(|byte| *byte == 2);
        (is_new(&content[..ALIGNMENT]), is_new(&content[ALIGNMENT..]))
    });
    assert!(found.contains(&(false, true)), "the later write without the earlier one: {found:?}");
    assert!(found.contains(&(true, false)), "{found:?}");
}

#[test]
fn a_synchronous_write_is_durable_when_it_completes_and_planted_lies_are_not() {
    let survives = |lie: bool| {
        outcomes(30, |simulation, host| {
            host.ignore_data_sync(lie);
            on(simulation, host, async {
                drop(durable_file("/f", 1, 1).await);
                let file = OpenOptions::write().data_sync().open("/f").await.unwrap();
                file.write_at(filled(2, 1), 0).await.unwrap();
            });
            host.crash();
            host.file_content("/f").unwrap() == vec![2; ALIGNMENT]
        })
    };
    assert_eq!(survives(false), BTreeSet::from([true]));
    assert_eq!(survives(true), BTreeSet::from([false, true]));
}

#[test]
fn an_older_unsynced_write_never_undoes_a_synchronous_one() {
    let found = outcomes(40, |simulation, host| {
        on(simulation, host, async {
            let file = durable_file("/f", 1, 2).await;
            file.write_at(filled(2, 2), 0).await.unwrap();
            let synchronous = OpenOptions::write().data_sync().open("/f").await.unwrap();
            synchronous.write_at(filled(3, 1), 0).await.unwrap();
            file.set_len(100).await.unwrap();
            file.set_len(8192).await.unwrap();
            synchronous.write_at(filled(4, 1), 4096).await.unwrap();
        });
        host.crash();
        let content = host.file_content("/f").unwrap();
        (content[..100] == [3; 100], content[100..4096] == [0; 3996], content[4096..] == [4; 4096])
    });
    assert_eq!(
        found,
        BTreeSet::from([(true, true, true)]),
        "a synchronous write takes the length's changes along"
    );
}

#[test]
fn an_older_name_never_undoes_a_durable_rename() {
    let found = outcomes(60, |simulation, host| {
        on(simulation, host, async {
            fs::create_dir_all("/a").await.unwrap();
            fs::create_dir_all("/b").await.unwrap();
            fs::sync_dir("/").await.unwrap();
            OpenOptions::write().create().open("/a/f").await.unwrap();
            fs::rename("/a/f", "/b/f").await.unwrap();
            fs::sync_dir("/b").await.unwrap();
        });
        host.crash();
        host.files().into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    });
    assert_eq!(found, BTreeSet::from([vec!["/b/f".to_owned()]]));
}

#[test]
fn a_sync_covers_only_what_was_complete_when_it_began() {
    let found = outcomes(40, |simulation, host| {
        on(simulation, host, async {
            let file = durable_file("/f", 1, 1).await;
            let syncing = pinion_runtime::spawn({
                let file = file.clone();
                async move { file.sync_data().await.unwrap() }
            });
            file.write_at(filled(2, 1), 0).await.unwrap();
            syncing.await;
        });
        host.crash();
        host.file_content("/f").unwrap() == vec![2; ALIGNMENT]
    });
    assert_eq!(found, BTreeSet::from([false, true]));
}

#[test]
fn an_unsynced_length_may_be_lost_and_a_synced_one_not() {
    let lengths = |sync: bool| {
        outcomes(40, move |simulation, host| {
            on(simulation, host, async move {
                let file = durable_file("/f", 1, 2).await;
                file.set_len(100).await.unwrap();
                if sync {
                    file.sync_data().await.unwrap();
                }
            });
            host.crash();
            host.file_content("/f").unwrap().len()
        })
    };
    assert_eq!(lengths(true), BTreeSet::from([100]));
    assert_eq!(lengths(false), BTreeSet::from([100, 2 * ALIGNMENT]));
}

#[test]
fn names_are_durable_after_their_directory_is_synced() {
    let found = |sync: bool| {
        outcomes(60, move |simulation, host| {
            on(simulation, host, async move {
                durable_file("/old", 1, 1).await;
                durable_file("/gone", 2, 1).await;
                durable_file("/linked", 3, 1).await;
                fs::rename("/old", "/new").await.unwrap();
                fs::remove_file("/gone").await.unwrap();
                fs::hard_link("/linked", "/link").await.unwrap();
                let made = OpenOptions::write().create_new().open("/made").await.unwrap();
                made.write_at(filled(4, 1), 0).await.unwrap();
                made.sync_data().await.unwrap();
                if sync {
                    fs::sync_dir("/").await.unwrap();
                }
            });
            host.crash();
            for (path, _) in host.files() {
                let expected = match path.as_str() {
                    "/old" | "/new" => 1,
                    "/gone" => 2,
                    "/linked" | "/link" => 3,
                    _ => 4,
                };
                assert_eq!(host.file_content(&path).unwrap(), vec![expected; ALIGNMENT], "{path}");
            }
            host.files().into_iter().map(|(path, _)| path).collect::<Vec<_>>()
        })
    };
    let synced = found(true);
    assert_eq!(synced.into_iter().next().unwrap(), ["/link", "/linked", "/made", "/new"]);
    let unsynced = found(false);
    let any = |name: &str| unsynced.iter().any(|names| names.iter().any(|found| found == name));
    assert!(unsynced.len() >= 12, "each change by itself: {unsynced:?}");
    assert!(["/old", "/new", "/gone", "/link", "/made"].into_iter().all(any), "{unsynced:?}");
    for names in &unsynced {
        let renamed = names.iter().filter(|name| *name == "/old" || *name == "/new").count();
        assert_eq!(renamed, 1, "a rename is one piece: {names:?}");
    }
}

#[test]
fn a_killed_process_leaves_completed_writes() {
    let found = outcomes(20, |simulation, host| {
        on(simulation, host, async {
            let file = OpenOptions::write().create().open("/f").await.unwrap();
            file.write_at(filled(5, 1), 0).await.unwrap();
        });
        host.kill();
        host.start();
        host.file_content("/f").unwrap() == vec![5; ALIGNMENT]
    });
    assert_eq!(found, BTreeSet::from([true]));
}

#[test]
fn a_dropped_write_completes_late() {
    let found = outcomes(30, |simulation, host| {
        on(simulation, host, async {
            let file = durable_file("/f", 1, 1).await;
            let mut write = Box::pin(file.write_at(filled(2, 1), 0));
            let polled = futures_util::poll!(write.as_mut());
            assert!(polled.is_pending());
            drop(write);
            file.write_at(filled(3, 1), 0).await.unwrap();
            let before = file.read_at(0, 1).await.unwrap()[0];
            pinion_runtime::sleep(Duration::from_millis(100)).await;
            (before, file.read_at(0, 1).await.unwrap()[0])
        })
    });
    assert!(found.contains(&(3, 2)), "a later write is overwritten by the dropped one: {found:?}");
}

#[test]
fn a_full_disk_refuses_and_has_room_again_after_a_removal() {
    outcomes(10, |simulation, host| {
        host.set_disk_size(Some(8 * ALIGNMENT as u64));
        on(simulation, host, async {
            let first = OpenOptions::write().create().open("/first").await.unwrap();
            first.allocate(6 * ALIGNMENT as u64).await.unwrap();
            let second = OpenOptions::write().create().open("/second").await.unwrap();
            let error = second.write_at(filled(1, 4), 0).await.map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            first.write_at(filled(1, 6), 0).await.unwrap();
            fs::remove_file("/first").await.unwrap();
            second.write_at(filled(1, 4), 0).await.map(|_| ()).unwrap_err();
            drop(first);
            second.write_at(filled(1, 4), 0).await.unwrap();
            assert_eq!(fs::available_bytes("/").await.unwrap(), 4 * ALIGNMENT as u64);
        });
    });
}

#[test]
fn operations_fail_once_or_from_a_number_on() {
    outcomes(5, |simulation, host| {
        let first = host.io_count();
        host.fail_io(Failing::Once(first + 1), DiskError::Io);
        host.fail_io(Failing::From(first + 4), DiskError::Io);
        on(simulation, host, async {
            let file = OpenOptions::write().create().open("/f").await.unwrap();
            let error = file.write_at(filled(1, 1), 0).await.map(|_| ()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EIO));
            file.write_at(filled(1, 1), 0).await.unwrap();
            file.read_at(0, 1).await.unwrap();
            for _ in 0..3 {
                assert!(file.read_at(0, 1).await.is_err());
            }
        });
        host.clear_disk_faults();
        on(simulation, host, fs::read("/f")).unwrap();
        assert_eq!(host.io_count() - first, 10);
    });
}

#[test]
fn no_space_strikes_only_what_takes_space() {
    outcomes(1, |simulation, host| {
        host.fail_io(Failing::From(1), DiskError::NoSpace);
        on(simulation, host, async {
            let file = OpenOptions::write().create().open("/f").await.unwrap();
            let error = file.write_at(filled(1, 1), 0).await.map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            file.sync_data().await.unwrap();
            assert!(file.is_empty().await.unwrap());
        });
    });
}

#[test]
fn a_failed_sync_loses_the_pages_for_good() {
    let found = outcomes(20, |simulation, host| {
        host.fail_sync(Failing::Once(2));
        on(simulation, host, async {
            let file = durable_file("/f", 1, 1).await;
            file.write_at(filled(2, 1), 0).await.unwrap();
            assert!(file.sync_data().await.is_err());
            assert_eq!(file.read_at(0, 1).await.unwrap()[0], 2, "a reader sees them still");
            file.sync_data().await.unwrap();
        });
        host.crash();
        host.file_content("/f").unwrap() == vec![1; ALIGNMENT]
    });
    assert_eq!(found, BTreeSet::from([true]));
}

#[test]
fn a_bit_flips_at_rest() {
    outcomes(1, |simulation, host| {
        on(simulation, host, async { drop(durable_file("/f", 0, 2).await) });
        host.flip_bit("/f", 5000, 3).unwrap();
        assert_eq!(on(simulation, host, fs::read("/f")).unwrap()[5000], 8);
        host.crash();
        assert_eq!(host.file_content("/f").unwrap()[5000], 8);
        assert!(host.flip_bit("/f", 8192, 0).is_err());
    });
}

#[test]
fn power_is_cut_at_a_numbered_operation() {
    outcomes(10, |simulation, host| {
        host.crash_at_io(3);
        let core = host.spawn_core(CoreId(0), async {
            let file = durable_file("/f", 1, 1).await;
            loop {
                file.read_at(0, 1).await.unwrap();
            }
        });
        assert!(simulation.block_on(core).is_none());
        assert_eq!(host.io_count(), 4);
        assert!(!host.is_up());
        host.start();
        on(simulation, host, fs::read_dir("/")).unwrap();
    });
}

#[test]
fn a_lock_is_held_once_and_falls_with_its_host() {
    outcomes(1, |simulation, host| {
        on(simulation, host, async {
            let held = fs::lock("/lock").await.unwrap();
            assert_eq!(fs::lock("/lock").await.unwrap_err().kind(), io::ErrorKind::WouldBlock);
            drop(held);
            std::mem::forget(fs::lock("/lock").await.unwrap());
        });
        host.kill();
        host.start();
        on(simulation, host, fs::lock("/lock")).unwrap();
    });
}

#[test]
fn directories_are_made_listed_and_removed_with_all_in_them() {
    outcomes(1, |simulation, host| {
        on(simulation, host, async {
            fs::create_dir_all("/a/b/c").await.unwrap();
            OpenOptions::write().create().open("/a/b/f").await.unwrap();
            let names: Vec<_> = fs::read_dir("/a/b")
                .await
                .unwrap()
                .into_iter()
                .map(|entry| (entry.name, entry.is_dir))
                .collect();
            assert_eq!(names, [("c".to_owned(), true), ("f".to_owned(), false)]);
            fs::rename("/a/b", "/a/d").await.unwrap();
            assert!(fs::exists("/a/d/f").await.unwrap());
            fs::remove_dir_all("/a").await.unwrap();
            assert!(!fs::exists("/a/d/f").await.unwrap());
            assert_eq!(
                OpenOptions::read().open("/a/d/f").await.err().unwrap().kind(),
                io::ErrorKind::NotFound
            );
            fs::sync_dir("/").await.unwrap();
        });
        host.crash();
        assert!(host.files().is_empty());
    });
}
