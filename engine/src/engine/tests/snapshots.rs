//! Region snapshots are made and described.

use super::*;
use crate::Error;
use crate::engine::snapshot::{RegionSnapshot, SnapshotDescription};
use crate::manifest::{ManifestEdit, TableRef, TreeState};
use crate::tree::EditSink;
use futures_util::future::LocalBoxFuture;
use std::time::Duration;

/// A tree that is only read.
struct NoEdits;

impl EditSink for NoEdits {
    fn commit(&self, _: ManifestEdit) -> LocalBoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Err(Error::Internal { what: "nothing is written here" }) })
    }
}

/// What a snapshot holds, by its files as they are sent.
async fn content_of(engine: &Engine, snapshot: &RegionSnapshot) -> Vec<(Vec<u8>, Vec<u8>)> {
    let directory = Path::new("/copy");
    fs::create_dir_all(directory).await.unwrap();
    let description = SnapshotDescription::decode(&snapshot.description()).unwrap();
    assert_eq!((description.position(), description.files()), (snapshot.position, snapshot.files.clone()));
    for (file, table) in description.files().into_iter().zip(&description.state.tables) {
        let mut bytes = Vec::new();
        loop {
            let part = snapshot.read(file.number, bytes.len() as u64, 1000).await.unwrap();
            if part.is_empty() {
                break;
            }
            bytes.extend_from_slice(&part);
        }
        assert_eq!(bytes.len() as u64, file.bytes);
        fs::write_atomically(directory.join(table.file_name()), &bytes).await.unwrap();
    }
    let env = engine.0.tree_env.clone();
    let tree = Tree::open(env, Rc::new(NoEdits), directory.to_owned(), description.state).await.unwrap();
    let found = content(&tree).await;
    drop(tree);
    fs::remove_dir_all(directory).await.unwrap();
    found
}

async fn snapshots() -> usize {
    fs::read_dir("/store/snapshots").await.map_or(0, |entries| entries.len())
}

#[test]
fn a_snapshot_holds_what_was_written_through_its_position_and_nothing_else() {
    for seed in 0..30 {
        simulated(seed, async move || {
            let Started { engine, .. } = start_with_first().await;
            write(&engine, FIRST, 20..20 + 8 * seed, b"first").await;
            let writing = {
                let engine = engine.clone();
                pinion_runtime::spawn(async move { write(&engine, FIRST, 1000..1150, b"meanwhile").await })
            };
            pinion_runtime::sleep(Duration::from_micros(seed * 100)).await;
            let before = engine.tree(FIRST).unwrap().applied();
            let snapshot = engine.make_snapshot(FIRST).await.unwrap();
            assert!(snapshot.position >= before, "all that was there is in it");
            writing.await;
            write(&engine, FIRST, 0..20, b"later").await;
            engine.flush_region(FIRST).await.unwrap();
            engine.tree(FIRST).unwrap().settle().await.unwrap();
            // Every entry is one key; the first has index 6.
            let keys = snapshot.position.0.0 - 5;
            let first = 20 + 8 * seed;
            let mut expected = pairs(0..first, b"first");
            expected.extend(pairs(1000..1000 + keys - first, b"meanwhile"));
            assert_eq!(content_of(&engine, &snapshot).await, expected);
            assert_eq!(snapshots().await, 1);
            snapshot.release().await.unwrap();
            assert_eq!(snapshots().await, 0);
            assert_eq!(engine.statistics().snapshots_made, 1);
        });
    }
}

#[test]
fn a_start_removes_snapshots_and_the_region_keeps_its_tables() {
    simulated(1, async || {
        let Started { engine, .. } = start_with_first().await;
        write(&engine, FIRST, 20..300, b"first").await;
        let snapshots_made =
            [engine.make_snapshot(FIRST).await.unwrap(), engine.make_snapshot(FIRST).await.unwrap()];
        assert_eq!(snapshots().await, 2);
        drop(snapshots_made);
        engine.close().await.unwrap();
        let found = start().await;
        assert_eq!(snapshots().await, 0);
        assert_eq!(content(&found.region(FIRST).unwrap().tree).await, pairs(0..300, b"first"));
    });
}

#[test]
fn a_snapshot_outlives_the_removal_of_its_region() {
    simulated(2, async || {
        let Started { engine, .. } = start_with_first().await;
        let snapshot = engine.make_snapshot(FIRST).await.unwrap();
        engine.remove_region(FIRST, Bytes::new()).await.unwrap();
        pinion_runtime::sleep(Duration::from_millis(100)).await;
        assert_eq!(content_of(&engine, &snapshot).await, pairs(0..20, b"first"));
        assert!(matches!(engine.make_snapshot(FIRST).await, Err(Error::NoSuchRegion { region: FIRST })));
        let no_file = snapshot.read(999, 0, 100).await;
        assert!(matches!(no_file, Err(Error::SnapshotRefused { .. })));
        let file = snapshot.files[0];
        assert!(snapshot.read(file.number, u64::MAX, 100).await.unwrap().is_empty());
    });
}

#[test]
fn a_snapshot_that_finds_no_room_leaves_nothing() {
    sim::run(sim::Config::new(3), |simulation| {
        let host = simulation.driver();
        simulation.block_on(async {
            let Started { engine, .. } = start_with_first().await;
            host.set_disk_size(Some(host.disk_used() + 1000));
            assert!(engine.make_snapshot(FIRST).await.is_err());
            assert_eq!(snapshots().await, 0);
            host.set_disk_size(None);
            assert_eq!(engine.make_snapshot(FIRST).await.unwrap().position.0, LogIndex(25));
        });
    });
}

/// A description with a table on each of two levels.
pub(super) fn described() -> SnapshotDescription {
    let table = |file, level, smallest: &[u8], largest: &[u8]| {
        let mut table = TableRef { file, level, ..TableRef::default() };
        table.meta.file_len = 5000;
        table.meta.smallest = smallest.to_vec();
        table.meta.largest = largest.to_vec();
        (table.meta.smallest_sequence, table.meta.largest_sequence) = (1, 9);
        table
    };
    let tables = vec![table(3, 0, b"\0ra", b"\0rz"), table(4, 1, b"\0ra", b"\0rc")];
    let state =
        TreeState { edit: 7, tables, last_sequence: 9, applied_index: 40, applied_term: 3, next_file: 5 };
    SnapshotDescription { region: RegionId(4), state, bytes: 9000 }
}

#[test]
fn a_description_comes_back_and_a_changed_one_is_refused() {
    let described = described();
    let bytes = described.encode();
    assert_eq!(SnapshotDescription::decode(&bytes).unwrap(), described);
    for position in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[position] ^= 1;
        assert!(SnapshotDescription::decode(&changed).is_err(), "byte {position}");
        assert!(SnapshotDescription::decode(&bytes[..position]).is_err(), "{position} bytes");
    }
    let mut version = bytes;
    version[4] = 2;
    let refused = SnapshotDescription::decode(&version);
    assert!(matches!(refused, Err(Error::SnapshotVersion { got: 2, known: 1 })));
}

#[test]
fn a_description_that_says_what_cannot_be_is_refused() {
    let wrongs: [fn(&mut TreeState); 14] = [
        |state| state.edit = u64::MAX,
        |state| state.applied_index = u64::MAX,
        |state| state.next_file = u64::MAX,
        |state| state.last_sequence = u64::MAX,
        |state| state.last_sequence = 8,
        |state| state.tables[0].meta.file_len = 0,
        |state| state.tables[0].meta.file_len = u64::MAX,
        |state| state.tables[0].meta.largest = vec![0; 1 << 20],
        |state| state.tables[0].file = 4,
        |state| state.tables[0].file = 5,
        |state| state.tables[0].level = 200,
        |state| state.tables[0].meta.largest = b"\x01a".to_vec(),
        |state| state.tables[0].meta.smallest = vec![255],
        |state| {
            state.tables[0].bound_start = b"rm".to_vec();
            state.tables[0].bound_end = b"rb".to_vec();
        },
    ];
    for (number, wrong) in wrongs.iter().enumerate() {
        let mut description = described();
        wrong(&mut description.state);
        assert!(SnapshotDescription::decode(&description.encode()).is_err(), "number {number}");
    }
}
