//! Region snapshots are received and installed.

use super::snapshots::described;
use super::*;
use crate::Error;
use crate::engine::incoming::IncomingSnapshot;
use crate::engine::snapshot::{RegionSnapshot, SnapshotDescription};
use crate::manifest::table_file_number;
use pinion_runtime::sim::{DiskError, Failing};
use std::time::Duration;

const RECEIVER: RegionId = RegionId(9);
const CHUNK_BYTES: usize = 3000;

/// A store with a region whose snapshots are sent, and one with other content that receives them.
async fn start_with_both() -> Started {
    let mut started = start_with_first().await;
    let engine = &started.engine;
    for part in [20..100, 100..200, 200..300] {
        fill(engine, FIRST, part, b"first").await;
        engine.flush_region(FIRST).await.unwrap();
    }
    let made = engine.create_region(new_tree(RECEIVER), Default::default(), Default::default()).await;
    started.regions.push(made.unwrap());
    fill(engine, RECEIVER, 200..350, b"old").await;
    engine.flush_region(RECEIVER).await.unwrap();
    fill(engine, RECEIVER, 350..380, b"old").await;
    started
}

/// The description of a snapshot as if it were the receiver's.
fn redirected(snapshot: &RegionSnapshot) -> Vec<u8> {
    let description = SnapshotDescription::decode(&snapshot.description()).unwrap();
    SnapshotDescription { region: RECEIVER, ..description }.encode()
}

/// Sends what is missing.
async fn send(snapshot: &RegionSnapshot, incoming: &mut IncomingSnapshot) -> Result<(), Error> {
    for (file, mut offset) in incoming.progress() {
        loop {
            let part = snapshot.read(file, offset, CHUNK_BYTES).await?;
            if part.is_empty() {
                break;
            }
            let (len, crc) = (part.len() as u64, crc32fast::hash(&part));
            incoming.write(file, offset, part, crc).await?;
            offset += len;
        }
    }
    Ok(())
}

async fn received(engine: &Engine, snapshot: &RegionSnapshot) -> IncomingSnapshot {
    let mut incoming = engine.receive_snapshot(RECEIVER, &redirected(snapshot)).await.unwrap();
    send(snapshot, &mut incoming).await.unwrap();
    incoming.finish().await.unwrap();
    incoming
}

fn installed_tree() -> NewTree {
    NewTree { meta: Bytes::from_static(b"installed"), ..new_tree(RECEIVER) }
}

const HARD_STATE: (Term, u64, LogIndex) = (Term(8), 3, LogIndex(305));

async fn install(engine: &Engine) -> RecoveredRegion {
    let snapshot = engine.make_snapshot(FIRST).await.unwrap();
    let incoming = received(engine, &snapshot).await;
    let installed = engine.install_snapshot(incoming, installed_tree(), HARD_STATE).await.unwrap();
    snapshot.release().await.unwrap();
    installed
}

/// Sees that a region has what was installed, and nothing else, and goes on from there.
async fn look_at_installed(found: &Started) {
    let (region, log) = (found.region(RECEIVER).unwrap(), found.engine.log());
    assert_eq!(content(&region.tree).await, pairs(0..300, b"first"));
    assert_eq!(region.tree.applied(), (LogIndex(305), TERM));
    assert_eq!((region.meta.clone(), region.hard_state), (installed_tree().meta, HARD_STATE));
    assert_eq!((log.first_index(RECEIVER), log.last_index(RECEIVER)), (LogIndex(306), LogIndex(305)));
    assert_eq!(log.term(RECEIVER, LogIndex(305)), Some(TERM));
    fill(&found.engine, RECEIVER, 300..500, b"behind").await;
    found.engine.close().await.unwrap();
    let found = start().await;
    let mut expected = pairs(0..300, b"first");
    expected.extend(pairs(300..500, b"behind"));
    assert_eq!(content(&found.region(RECEIVER).unwrap().tree).await, expected);
}

async fn tables_of(region: RegionId) -> usize {
    let entries = fs::read_dir(regions_directory("/store".as_ref()).join(region.to_string())).await.unwrap();
    entries.iter().filter(|entry| table_file_number(&entry.name).is_some()).count()
}

async fn incoming_count() -> usize {
    fs::read_dir("/store/incoming").await.map_or(0, |entries| entries.len())
}

#[test]
fn a_region_has_its_old_state_or_the_snapshots() {
    cut_at_every_operation(
        start_with_both,
        async move |engine, done| {
            let installed = install(&engine).await;
            assert_eq!(installed.tree.applied(), (LogIndex(305), TERM));
            done.set(true);
            drop(installed);
            assert_eq!(engine.statistics().snapshots_installed, 1);
            // The old tables go in the background.
            pinion_runtime::sleep(Duration::from_millis(100)).await;
        },
        async move |found, was_done| {
            assert_eq!(content(&found.region(FIRST).unwrap().tree).await, pairs(0..300, b"first"));
            let region = found.region(RECEIVER).unwrap();
            assert_eq!(tables_of(RECEIVER).await, region.tree.state().tables.len(), "nothing is left over");
            if region.meta == installed_tree().meta {
                assert_eq!(incoming_count().await, 0);
                return look_at_installed(&found).await;
            }
            assert!(!was_done, "it was installed durably");
            assert_eq!(content(&region.tree).await, pairs(200..380, b"old"));
            assert_eq!(
                (region.meta.clone(), region.hard_state),
                (new_tree(RECEIVER).meta, Default::default())
            );
            assert_eq!(found.engine.log().first_index(RECEIVER), LogIndex(1));
            // Another try comes to its end.
            install(&found.engine).await;
            found.engine.close().await.unwrap();
            look_at_installed(&start().await).await;
        },
    );
}

#[test]
fn a_snapshot_makes_a_region_that_is_not_there() {
    for is_uninitialised in [false, true] {
        simulated(1, async move || {
            let Started { engine, .. } = start_with_first().await;
            fill(&engine, FIRST, 20..300, b"first").await;
            if is_uninitialised {
                let none = Default::default();
                engine.create_region(new_tree(RECEIVER), none, (Term(8), 3, LogIndex(0))).await.unwrap();
            }
            install(&engine).await;
            assert_eq!(content(&engine.tree(RECEIVER).unwrap()).await, pairs(0..300, b"first"));
            engine.close().await.unwrap();
            look_at_installed(&start().await).await;
        });
    }
}

#[test]
fn who_reads_the_old_tree_reads_on_and_then_its_tables_go() {
    simulated(2, async || {
        let Started { engine, regions, .. } = start_with_both().await;
        let old = engine.tree(RECEIVER).unwrap();
        let mut iterator = old.iter(Values, b"", b"", IterOptions::default());
        assert!(iterator.seek(&key(210)).await.unwrap());
        let installed = install(&engine).await;
        assert!(matches!(old.flush().await, Err(Error::TreeRetired)));
        for (key, value) in &pairs(210..380, b"old") {
            assert_eq!((iterator.key(), iterator.value()), (&key[..], &value[..]));
            iterator.next().await.unwrap();
        }
        // The new tree flushes and compacts beside the old one's files.
        fill(&engine, RECEIVER, 0..300, b"behind").await;
        engine.flush_region(RECEIVER).await.unwrap();
        assert_eq!(content(&old).await, pairs(200..380, b"old"));
        drop((iterator, old, regions));
        pinion_runtime::sleep(Duration::from_millis(200)).await;
        installed.tree.settle().await.unwrap();
        installed.tree.purge_obsolete().await.unwrap();
        assert_eq!(tables_of(RECEIVER).await, installed.tree.state().tables.len());
        assert_eq!(content(&installed.tree).await, pairs(0..300, b"behind"));
    });
}

#[test]
fn a_snapshot_of_shared_tables_brings_nothing_from_beyond_their_bounds() {
    simulated(3, async || {
        let Started { engine, .. } = start_with_both().await;
        let first = engine.tree(FIRST).unwrap();
        let position = (first.applied().0, TERM);
        let parent = NewTree { end: key(95), ..new_tree(FIRST) };
        let child = NewTree { start: key(95), ..new_tree(RegionId(2)) };
        engine.split(FIRST, position, parent, vec![child], || {}).await.unwrap();
        let snapshot = engine.make_snapshot(FIRST).await.unwrap();
        let whole: u64 = snapshot.files.iter().map(|file| file.bytes).sum();
        assert!(snapshot.bytes < whole, "what is the child's does not count");
        let incoming = received(&engine, &snapshot).await;
        let new = NewTree { end: key(95), ..installed_tree() };
        let installed = engine.install_snapshot(incoming, new, HARD_STATE).await.unwrap();
        assert_eq!(content(&installed.tree).await, pairs(0..95, b"first"));
        installed.tree.settle().await.unwrap();
        assert_eq!(content(&installed.tree).await, pairs(0..95, b"first"));
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    simulated(4, async || {
        let Started { engine, .. } = start_with_both().await;
        let snapshot = engine.make_snapshot(FIRST).await.unwrap();
        let refused =
            |result: Result<(), Error>| assert!(matches!(result, Err(Error::SnapshotRefused { .. })));
        let begin = async |description: &[u8]| engine.receive_snapshot(RECEIVER, description).await;
        refused(begin(&snapshot.description()).await.map(|_| ()));
        let mut incoming = begin(&redirected(&snapshot)).await.unwrap();
        refused(begin(&redirected(&snapshot)).await.map(|_| ()));
        let file = snapshot.files[0];
        let part = snapshot.read(file.number, 0, 100).await.unwrap();
        let crc = crc32fast::hash(&part);
        refused(incoming.write(file.number, 0, part.clone(), crc ^ 1).await);
        refused(incoming.write(file.number, 100, part.clone(), crc).await);
        refused(incoming.write(file.number + 1000, 0, part.clone(), crc).await);
        let long = Bytes::from(vec![0; usize::try_from(file.bytes).unwrap() + 1]);
        refused(incoming.write(file.number, 0, long.clone(), crc32fast::hash(&long)).await);
        assert!(incoming.progress().iter().all(|(_, bytes)| *bytes == 0), "nothing was taken");
        refused(incoming.finish().await);
        send(&snapshot, &mut incoming).await.unwrap();
        refused(engine.install_snapshot(incoming, installed_tree(), HARD_STATE).await.map(|_| ()));
        let mut incoming = begin(&redirected(&snapshot)).await.unwrap();
        incoming.finish().await.unwrap();
        let other = NewTree { id: FIRST, ..installed_tree() };
        refused(engine.install_snapshot(incoming, other, HARD_STATE).await.map(|_| ()));
        // The region was given more meanwhile than the snapshot has.
        let incoming = received(&engine, &snapshot).await;
        fill(&engine, RECEIVER, 500..700, b"old").await;
        refused(engine.install_snapshot(incoming, installed_tree(), HARD_STATE).await.map(|_| ()));
        let incoming = begin(&redirected(&snapshot)).await.unwrap();
        incoming.discard().await.unwrap();
        assert_eq!(incoming_count().await, 0);
    });
}

#[test]
fn a_damaged_table_is_found_before_it_is_installed() {
    sim::run(sim::Config::new(5), |simulation| {
        let host = simulation.driver();
        simulation.block_on(async {
            let Started { engine, .. } = start_with_both().await;
            let snapshot = engine.make_snapshot(FIRST).await.unwrap();
            // Somewhere in a block of data, on the sender's disk: what is sent has the right checksums.
            let (file, first) = (snapshot.files[0].number, FIRST);
            let sent = format!("/store/snapshots/{first}-0/{file:010}.sst");
            host.flip_bit(&sent, 100, 3).unwrap();
            let mut incoming = engine.receive_snapshot(RECEIVER, &redirected(&snapshot)).await.unwrap();
            send(&snapshot, &mut incoming).await.unwrap();
            let error = incoming.finish().await.unwrap_err();
            let damaged = format!("/store/incoming/9/{file:010}.sst");
            assert!(error.damage().is_some_and(|(file, _)| file == Path::new(&damaged)), "{error}");
            host.flip_bit(&sent, 100, 3).unwrap();
            drop(incoming);
            let mut incoming = engine.receive_snapshot(RECEIVER, &redirected(&snapshot)).await.unwrap();
            assert!(incoming.progress().iter().all(|(_, bytes)| *bytes == 0), "nothing of it is kept");
            send(&snapshot, &mut incoming).await.unwrap();
            incoming.finish().await.unwrap();
        });
    });
}

#[test]
fn an_identical_snapshot_goes_on_and_another_begins_anew() {
    simulated(6, async || {
        let Started { engine, .. } = start_with_both().await;
        let snapshot = engine.make_snapshot(FIRST).await.unwrap();
        let mut incoming = engine.receive_snapshot(RECEIVER, &redirected(&snapshot)).await.unwrap();
        let [first, .., last] = snapshot.files[..] else { panic!("there are several files") };
        let whole = snapshot.read(first.number, 0, usize::MAX).await.unwrap();
        incoming.write(first.number, 0, whole.clone(), crc32fast::hash(&whole)).await.unwrap();
        let part = snapshot.read(last.number, 0, 100).await.unwrap();
        incoming.write(last.number, 0, part.clone(), crc32fast::hash(&part)).await.unwrap();
        drop(incoming);
        engine.close().await.unwrap();
        let Started { engine, .. } = start().await;
        let description = redirected(&snapshot);
        let incoming = engine.receive_snapshot(RECEIVER, &description).await.unwrap();
        let there: Vec<_> = incoming.progress().into_iter().filter(|(_, bytes)| *bytes > 0).collect();
        assert_eq!(there, [(first.number, first.bytes)], "a short part is not certain");
        drop(incoming);
        let other = SnapshotDescription { bytes: 1, ..SnapshotDescription::decode(&description).unwrap() };
        let incoming = engine.receive_snapshot(RECEIVER, &other.encode()).await.unwrap();
        assert!(incoming.progress().iter().all(|(_, bytes)| *bytes == 0));
    });
}

/// A byte of a file that is sent.
fn byte(place: u64) -> u8 {
    u8::try_from((place / 7 + place / 4096) % 251).unwrap()
}

/// Sends a file of 13 MiB; the power goes at operation `at`, and it is sent to its end after a start.
fn send_with_cut(at: u64) -> bool {
    const FILE_BYTES: u64 = 13 << 20;
    let mut description = described();
    description.state.tables.truncate(1);
    description.state.tables[0].meta.file_len = FILE_BYTES;
    let (number, region, bytes) =
        (description.state.tables[0].file, description.region, description.encode());
    let send = async move |engine: &Engine| {
        let mut incoming = engine.receive_snapshot(region, &bytes).await.unwrap();
        let mut offset = incoming.progress()[0].1;
        let begin = offset;
        while offset < FILE_BYTES {
            let end = (offset + 300_001).min(FILE_BYTES);
            let part: Bytes = (offset..end).map(byte).collect();
            let crc = crc32fast::hash(&part);
            incoming.write(number, offset, part, crc).await.unwrap();
            offset = end;
        }
        begin
    };
    sim::run(sim::Config::new(at), |simulation| {
        let host = simulation.add_host("store");
        let (node, sending) = (host.clone(), send.clone());
        let cut = host.spawn_core(CoreId(0), async move {
            let Started { engine, .. } = start().await;
            engine.create_region(new_tree(region), Default::default(), Default::default()).await.unwrap();
            node.crash_at_io(node.io_count() + at);
            sending(&engine).await;
        });
        let was_cut = simulation.block_on(cut).is_none();
        if !was_cut {
            host.crash();
        }
        host.clear_disk_faults();
        host.start();
        let sending = host.spawn_core(CoreId(0), async move {
            let Started { engine, .. } = start().await;
            let begin = send(&engine).await;
            let path = format!("/store/incoming/{region}/{number:010}.sst");
            let file = fs::read(path).await.unwrap();
            assert_eq!(file.len() as u64, FILE_BYTES);
            let differs = (0u64..).zip(&file).find(|(place, there)| byte(*place) != **there);
            assert_eq!(differs, None, "from {begin} on it was sent again");
            begin > 0
        });
        was_cut && simulation.block_on(sending).expect("the power stays on")
    })
}

#[test]
fn a_part_is_gone_on_with_where_it_is_certain() {
    let resumed = (0..72).step_by(4).filter(|at| send_with_cut(*at)).count();
    assert!(resumed > 3, "{resumed} were gone on with");
}

/// Receives and installs a snapshot while operation `at` of the disk fails; gives `false` when there are not so many.
fn install_with_failing(at: u64, error: DiskError) -> bool {
    sim::run(sim::Config::new(at), |simulation| {
        let host = simulation.driver();
        simulation.block_on(async {
            let Started { engine, regions, .. } = start_with_both().await;
            let snapshot = engine.make_snapshot(FIRST).await.unwrap();
            let number = host.io_count() + at;
            host.fail_io(Failing::Once(number), error);
            let installed = async {
                let mut incoming = engine.receive_snapshot(RECEIVER, &redirected(&snapshot)).await?;
                send(&snapshot, &mut incoming).await?;
                incoming.finish().await?;
                engine.install_snapshot(incoming, installed_tree(), HARD_STATE).await
            };
            let installed = installed.await;
            let has_struck = host.io_count() > number;
            host.clear_disk_faults();
            let now = content(&engine.tree(RECEIVER).unwrap()).await;
            let is_uncertain = engine.log().failure().is_some();
            match &installed {
                Ok(_) => assert_eq!(now, pairs(0..300, b"first"), "operation {at}"),
                Err(_) => assert_eq!(now, pairs(200..380, b"old"), "operation {at}"),
            }
            if installed.is_err() && !is_uncertain {
                // The region goes on, and another try comes to its end.
                fill(&engine, RECEIVER, 380..390, b"old").await;
                engine.flush_region(RECEIVER).await.unwrap();
                let incoming = received(&engine, &snapshot).await;
                engine.install_snapshot(incoming, installed_tree(), HARD_STATE).await.unwrap();
            }
            let is_done = installed.is_ok() || !is_uncertain;
            drop((installed, regions));
            // What a failed log holds is found by a start.
            drop(engine.close().await);
            drop(engine);
            let found = start().await;
            let region = found.region(RECEIVER).unwrap();
            if is_done || region.meta == installed_tree().meta {
                look_at_installed(&found).await;
            } else {
                assert_eq!(content(&region.tree).await, pairs(200..380, b"old"), "operation {at}");
            }
            has_struck
        })
    })
}

#[test]
fn a_failed_operation_leaves_the_region_as_it_was() {
    for error in [DiskError::Io, DiskError::NoSpace] {
        let mut at = 0;
        while install_with_failing(at, error) {
            at += 1;
        }
        assert!(at > 30, "receiving and installing are many operations: {at}");
    }
}
