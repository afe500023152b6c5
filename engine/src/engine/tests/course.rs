//! Rows of the course about region snapshots: what describes one, where its files are, and that what is made on a store, sent, and installed on
//! another is what was there.

use super::snapshots::described;
use super::*;
use crate::Error;
use crate::engine::examine;
use crate::engine::incoming::IncomingSnapshot;
use crate::engine::snapshot::SnapshotDescription;
use crate::manifest::table_file_name;
use pinion_runtime::sim::{Host, Simulation};
use pinion_types::ColumnFamily;

const CHUNK_BYTES: usize = 2000;
const HARD_STATE: (Term, u64, LogIndex) = (Term(8), 3, LogIndex(500));

/// A store with one region, which is empty.
async fn start_empty() -> Engine {
    let started = start().await;
    started.engine.bootstrap(Bytes::from_static(b"identity"), vec![new_tree(FIRST)]).await.unwrap();
    started.engine
}

/// Fills every family, with deletes and a deleted range, over several flushes.
async fn fill_families(engine: &Engine) {
    let tree = engine.tree(FIRST).unwrap();
    for family in ColumnFamily::ALL {
        for number in 0..120 {
            let mut batch = WriteBatch::new();
            batch.put(family, &key(number), &[family.as_byte(); 150]);
            if number % 10 == 3 {
                batch.delete(family, &key(number - 1));
            }
            drop(append(engine, FIRST, &tree, batch, Durability::Buffered));
        }
        engine.log().sync().await.unwrap();
        engine.flush_region(FIRST).await.unwrap();
    }
    let mut batch = WriteBatch::new();
    batch.delete_range(ColumnFamily::Default, &key(40), &key(60));
    append(engine, FIRST, &tree, batch, Durability::Sync).await.unwrap();
}

/// What every family holds.
async fn all_content(tree: &Tree) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut all = Vec::new();
    for family in ColumnFamily::ALL {
        all.push(collect(tree.iter(family, b"", b"", IterOptions::default())).await);
    }
    all
}

/// A snapshot as it leaves its store, and what the region held.
#[derive(Clone)]
struct Made {
    description: Vec<u8>,
    files: Vec<(u64, Bytes)>,
    content: Vec<Vec<(Vec<u8>, Vec<u8>)>>,
}

async fn make(with_data: bool) -> Made {
    let engine = start_empty().await;
    if with_data {
        fill_families(&engine).await;
    }
    let snapshot = engine.make_snapshot(FIRST).await.unwrap();
    let mut files = Vec::new();
    for file in &snapshot.files {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < file.bytes {
            bytes.extend(snapshot.read(file.number, bytes.len() as u64, CHUNK_BYTES).await.unwrap());
        }
        files.push((file.number, bytes.into()));
    }
    let content = all_content(&engine.tree(FIRST).unwrap()).await;
    Made { description: snapshot.description(), files, content }
}

/// Makes a snapshot on a host of its own.
fn made_elsewhere(simulation: &Simulation, with_data: bool) -> Made {
    let host = simulation.add_host("sender");
    let made = simulation.block_on(host.spawn_core(CoreId(0), make(with_data))).unwrap();
    assert_eq!(made.files.is_empty(), !with_data);
    made
}

/// Copies what is missing, chunk by chunk.
async fn copy(made: &Made, incoming: &mut IncomingSnapshot) -> Result<(), Error> {
    for (number, offset) in incoming.progress() {
        let (_, bytes) = made.files.iter().find(|(there, _)| *there == number).unwrap();
        let mut offset = usize::try_from(offset).unwrap();
        while offset < bytes.len() {
            let chunk = bytes.slice(offset..bytes.len().min(offset + CHUNK_BYTES));
            let (at, crc) = (offset as u64, crc32fast::hash(&chunk));
            offset += chunk.len();
            incoming.write(number, at, chunk, crc).await?;
        }
    }
    incoming.finish().await
}

async fn install(engine: &Engine, made: &Made) -> Result<(), Error> {
    let mut incoming = engine.receive_snapshot(FIRST, &made.description).await?;
    copy(made, &mut incoming).await?;
    engine.install_snapshot(incoming, new_tree(FIRST), HARD_STATE).await.map(drop)
}

/// Sees that a start finds what was sent.
async fn look(made: &Made) {
    let found = start().await;
    assert_eq!(all_content(&found.region(FIRST).unwrap().tree).await, made.content);
    assert!(!fs::exists("/store/incoming/1").await.unwrap(), "nothing is left over");
}

#[test]
fn test_snap_gen_meta() {
    for with_data in [true, false] {
        simulated(1, async move || {
            let engine = start_empty().await;
            if with_data {
                fill_families(&engine).await;
            }
            let tree = engine.tree(FIRST).unwrap();
            let snapshot = engine.make_snapshot(FIRST).await.unwrap();
            let described = SnapshotDescription::decode(&snapshot.description()).unwrap();
            assert_eq!((described.region, described.position()), (FIRST, tree.applied()));
            assert_eq!((&described.state, described.bytes), (&tree.state(), snapshot.bytes));
            // Every family's files with their sizes, and no others.
            let directory = Path::new("/store/snapshots/1-0");
            let on_disk = fs::read_dir(directory).await.unwrap();
            assert_eq!(on_disk.len(), described.files().len());
            for family in ColumnFamily::ALL {
                let has = described.state.tables.iter().any(|table| table.family() == Some(family));
                assert_eq!(has, with_data, "{family}");
            }
            let mut sum = 0;
            for file in described.files() {
                let content = fs::read(directory.join(table_file_name(file.number))).await.unwrap();
                assert_eq!(content.len() as u64, file.bytes);
                sum += file.bytes;
            }
            assert_eq!(described.bytes, sum, "all of it is this region's");
            // Whatever byte of it is damaged is found out.
            let bytes = snapshot.description();
            for place in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[place] ^= 0x10;
                assert!(SnapshotDescription::decode(&damaged).is_err(), "byte {place}");
            }
        });
    }
}

#[test]
fn test_snap_display_path() {
    simulated(1, async || {
        let engine = start_empty().await;
        fill_families(&engine).await;
        let names = async |directory: &str| {
            let found = fs::read_dir(directory).await.unwrap();
            let mut names: Vec<_> = found.into_iter().map(|entry| entry.name).collect();
            names.sort();
            names
        };
        let [first, second] =
            [engine.make_snapshot(FIRST).await.unwrap(), engine.make_snapshot(FIRST).await.unwrap()];
        assert_eq!(names("/store/snapshots").await, ["1-0", "1-1"], "the region, and a number");
        let mut files: Vec<_> = second.files.iter().map(|file| format!("{:010}.sst", file.number)).collect();
        files.sort();
        assert_eq!(names("/store/snapshots/1-1").await, files);
        first.release().await.unwrap();
        assert_eq!(names("/store/snapshots").await, ["1-1"]);

        // On its way in: the description first, a part under another name than a whole file.
        let other = RegionId(9);
        let sent = SnapshotDescription::decode(&second.description()).unwrap();
        let description = SnapshotDescription { region: other, ..sent }.encode();
        let mut incoming = engine.receive_snapshot(other, &description).await.unwrap();
        assert_eq!(names("/store/incoming/9").await, ["DESCRIPTION"]);
        let number = second.files[0].number;
        let whole = second.read(number, 0, usize::MAX).await.unwrap();
        incoming.write(number, 0, whole.clone(), crc32fast::hash(&whole)).await.unwrap();
        assert_eq!(names("/store/incoming/9").await, [format!("{number:010}.sst"), "DESCRIPTION".into()]);
        drop(incoming);
        let mut large = described();
        large.state.tables.truncate(1);
        large.state.tables[0].meta.file_len = 1 << 20;
        let mut incoming = engine.receive_snapshot(large.region, &large.encode()).await.unwrap();
        let half = Bytes::from(vec![7; 512 << 10]);
        incoming.write(3, 0, half.clone(), crc32fast::hash(&half)).await.unwrap();
        assert_eq!(names("/store/incoming/4").await, ["0000000003.part", "DESCRIPTION"]);
        drop(incoming);

        // Where a stopped store's tables are shown to be, they are.
        engine.close().await.unwrap();
        let examined = examine("/store".as_ref()).await.unwrap();
        let region = examined.regions[&FIRST].as_ref().unwrap();
        assert_eq!(region.directory, Path::new("/store/regions/1"));
        for table in &region.state.tables {
            assert!(fs::exists(region.directory.join(table.file_name())).await.unwrap());
        }
    });
}

/// Installs a snapshot with the power cut at operation `at` of the receiver's disk, and again after a start. Whether it was cut.
fn install_with_cut(with_data: bool, at: u64) -> bool {
    sim::run(sim::Config::new(at), |simulation| {
        let made = made_elsewhere(simulation, with_data);
        let host: Host = simulation.add_host("receiver");
        let (node, sent) = (host.clone(), made.clone());
        let cut = host.spawn_core(CoreId(0), async move {
            let engine = start().await.engine;
            node.crash_at_io(node.io_count() + at);
            install(&engine, &sent).await.unwrap();
        });
        let was_cut = simulation.block_on(cut).is_none();
        if !was_cut {
            host.crash();
        }
        host.clear_disk_faults();
        host.start();
        let again = host.spawn_core(CoreId(0), async move {
            let engine = start().await.engine;
            match engine.tree(FIRST) {
                Some(tree) => assert_eq!(all_content(&tree).await, made.content, "installed before the cut"),
                None => {
                    assert!(was_cut, "it was installed durably");
                    install(&engine, &made).await.unwrap();
                }
            }
            engine.close().await.unwrap();
            drop(engine);
            look(&made).await;
        });
        simulation.block_on(again).expect("the power stays on");
        was_cut
    })
}

#[test]
fn test_snap_file() {
    for with_data in [true, false] {
        let mut cuts = 0;
        while install_with_cut(with_data, cuts) {
            cuts += 1;
        }
        assert!(cuts > if with_data { 20 } else { 5 }, "{cuts} operations");
    }
    // A byte that is another than was sent, on the way or on the sender's disk.
    sim::run(sim::Config::new(1), |simulation| {
        let made = made_elsewhere(simulation, true);
        let host = simulation.add_host("receiver");
        let receiving = host.spawn_core(CoreId(0), async move {
            let engine = start().await.engine;
            let mut incoming = engine.receive_snapshot(FIRST, &made.description).await.unwrap();
            let (number, whole) = made.files[0].clone();
            let flipped: Bytes =
                whole.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 999)).collect();
            let refused = incoming.write(number, 0, flipped.clone(), crc32fast::hash(&whole)).await;
            assert!(matches!(refused, Err(Error::SnapshotRefused { .. })), "{refused:?}");
            assert!(incoming.progress().iter().all(|(_, bytes)| *bytes == 0), "nothing was taken");
            drop(incoming);
            let mut damaged = made.clone();
            damaged.files[0].1 = flipped;
            let refused = install(&engine, &damaged).await.unwrap_err();
            assert!(refused.damage().is_some(), "{refused}");
            assert!(engine.tree(FIRST).is_none(), "nothing was installed");
            install(&engine, &made).await.unwrap();
            engine.close().await.unwrap();
            drop(engine);
            look(&made).await;
        });
        simulation.block_on(receiving).unwrap();
    });
}
