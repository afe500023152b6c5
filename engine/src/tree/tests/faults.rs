//! Disks that fail or fill up during flush and compaction, and manifests that do.

use super::*;
use pinion_runtime::sim::{self, DiskError, Failing};

/// Two overlapping tables and a full memtable: a flush and a compaction are due.
async fn due(directory: PathBuf) -> Fixture {
    let mut fixture = Fixture::new(directory, tiny()).await;
    for round in 0..3u8 {
        for number in 0..100 {
            fixture.put(&key(number), &[round; 20]);
        }
        if round < 2 {
            fixture.flush().await;
        }
    }
    fixture
}

/// Flushes and compacts while operation `at` of the disk fails; gives `false` when there are not so many.
fn with_failing(at: u64, persists: bool, error: DiskError) -> bool {
    sim::run(Config::new(at), |simulation| {
        let host = simulation.driver();
        simulation.block_on(async {
            let directory = PathBuf::from("/tree");
            pinion_runtime::fs::create_dir_all(&directory).await.unwrap();
            let fixture = due(directory).await;
            let content = fixture.content().await;
            let begin = host.io_count();
            let number = begin + at;
            host.fail_io(if persists { Failing::From(number) } else { Failing::Once(number) }, error);
            let state = fixture.tree.state();
            let flushed = fixture.tree.flush().await;
            let between = fixture.tree.state();
            assert_eq!(flushed.is_ok(), between != state, "a flush that fails leaves the manifest as it was");
            let compacted = fixture.tree.compact_once().await;
            assert_eq!(compacted.is_ok(), fixture.tree.state() != between, "and so does a compaction");
            let has_struck = host.io_count() > number;
            host.clear_disk_faults();
            assert_eq!(fixture.content().await, content, "operation {at}");
            fixture.flush().await;
            fixture.compact_all().await;
            assert_eq!(fixture.content().await, content, "operation {at}");
            fixture.tree.purge_obsolete().await.unwrap();
            let named = fixture.tree.state().tables.len();
            assert_eq!(
                tables_in(&fixture.directory).await.len(),
                named,
                "operation {at}: partial files are removed"
            );
            let fixture = fixture.reopen().await;
            assert_eq!(fixture.content().await, content, "operation {at}");
            has_struck
        })
    })
}

#[test]
fn any_failed_operation_leaves_the_tree_whole_and_can_be_tried_again() {
    for error in [DiskError::Io, DiskError::NoSpace] {
        for persists in [false, true] {
            let mut at = 0;
            while with_failing(at, persists, error) {
                at += 1;
            }
            assert!(at > 10, "a flush and a compaction are many operations: {at}");
        }
    }
}

#[test]
fn a_full_disk_refuses_a_flush_and_reads_go_on() {
    sim::run(Config::new(1), |simulation| {
        let host = simulation.driver();
        simulation.block_on(async {
            let directory = PathBuf::from("/tree");
            pinion_runtime::fs::create_dir_all(&directory).await.unwrap();
            let fixture = due(directory).await;
            let content = fixture.content().await;
            host.set_disk_size(Some(host.disk_used() + 2000));
            for _ in 0..3 {
                assert!(matches!(fixture.tree.flush().await, Err(Error::Io { .. })));
                assert_eq!(fixture.content().await, content);
            }
            host.set_disk_size(None);
            fixture.flush().await;
            assert_eq!(fixture.content().await, content);
        });
    });
}

#[test]
fn after_a_failed_edit_of_the_manifest_nothing_is_removed_and_nothing_goes_on() {
    simulated(1, |directory| async move {
        let mut fixture = due(directory).await;
        let content = fixture.content().await;
        fixture.sink.fails.set(true);
        assert!(fixture.tree.flush().await.is_err());
        fixture.sink.fails.set(false);
        assert!(matches!(fixture.tree.flush().await, Err(Error::ManifestUncertain)));
        assert!(matches!(fixture.tree.compact_once().await, Err(Error::ManifestUncertain)));
        assert!(tables_in(&fixture.directory).await.len() >= 3, "the edit may be durable: its table stays");
        fixture.put(b"rz", b"later");
        assert_eq!(fixture.content().await.len(), content.len() + 1, "reads and writes go on");
    });
}
