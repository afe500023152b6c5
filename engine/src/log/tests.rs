//! The log on real files: what was acknowledged is found again, and damage is named.

use super::*;
use pinion_runtime::machine;

fn scratch(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("pinion-log-{}-{name}", std::process::id()));
    remove(&directory);
    make(&directory);
    directory
}

#[expect(clippy::disallowed_methods, reason = "a test's own directory")]
fn remove(directory: &Path) {
    let _ = std::fs::remove_dir_all(directory);
}

#[expect(clippy::disallowed_methods, reason = "a test's own directory")]
fn make(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
}

/// Changes a byte of a file behind the log's back.
#[expect(clippy::disallowed_methods, reason = "a test damages files")]
fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 0xff;
    std::fs::write(path, bytes).unwrap();
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 64 << 10, ..LogConfig::default() }
}

fn entry(index: u64, term: u64, payload: &Bytes) -> Record<'_> {
    Record::Entry { stream: RegionId(1), index: LogIndex(index), term: Term(term), kind: 0, payload }
}

async fn append(log: &Log, index: u64, payload: &[u8]) {
    let payload = Bytes::copy_from_slice(payload);
    log.append(&[entry(index, 1, &payload)], Durability::Sync).await.unwrap();
}

async fn read(log: &Log, index: u64) -> Bytes {
    let index = LogIndex(index);
    log.entries(RegionId(1), index, index.next(), 1).await.unwrap().remove(0).payload
}

fn run(name: &str, test: impl AsyncFnOnce(PathBuf) + 'static) {
    let directory = scratch(name);
    let used = directory.clone();
    machine::block_on(async move { test(used).await }).unwrap();
    remove(&directory);
}

#[test]
fn what_was_appended_is_there_after_a_restart() {
    run("restart", async |directory| {
        let (log, recovered) = Log::open(&directory, config()).await.unwrap();
        assert!(recovered.streams.is_empty());
        let stream = RegionId(1);
        for index in 1..=50 {
            append(&log, index, format!("payload {index}").as_bytes()).await;
        }
        log.append(
            &[
                Record::HardState { stream, term: Term(3), vote: 7, commit: LogIndex(40) },
                Record::Edit { stream, payload: b"edit" },
                Record::Structure { payload: b"identity" },
            ],
            Durability::Sync,
        )
        .await
        .unwrap();
        log.close().await.unwrap();
        drop(log);
        let (log, recovered) = Log::open(&directory, config()).await.unwrap();
        let found = &recovered.streams[&stream];
        assert_eq!(found.hard_state, (Term(3), 7, LogIndex(40)));
        assert_eq!(found.last_index, LogIndex(50));
        assert_eq!(found.edits.len(), 1);
        assert_eq!(recovered.structures, [Bytes::from_static(b"identity")]);
        for index in 1..=50 {
            assert_eq!(read(&log, index).await, format!("payload {index}"));
        }
    });
}

#[test]
fn an_entry_takes_the_place_of_what_was_there_and_behind_it() {
    run("conflict", async |directory| {
        let (log, _) = Log::open(&directory, config()).await.unwrap();
        for index in 1..=5 {
            append(&log, index, b"old").await;
        }
        let payload = Bytes::from_static(b"new");
        log.append(&[entry(3, 2, &payload)], Durability::Sync).await.unwrap();
        let expect_replaced = async |log: &Log| {
            assert_eq!(log.last_index(RegionId(1)), LogIndex(3));
            assert_eq!(log.term(RegionId(1), LogIndex(3)), Some(Term(2)));
            assert_eq!(read(log, 3).await, "new");
        };
        expect_replaced(&log).await;
        // Closed first: a live log makes its next segment ready in the background, under the feet of a second one.
        log.close().await.unwrap();
        drop(log);
        let (log, _) = Log::open(&directory, config()).await.unwrap();
        expect_replaced(&log).await;
    });
}

#[test]
fn bytes_of_entries_are_those_that_are_there() {
    run("entry-bytes", async |directory| {
        let bytes = |log: &Log, low, high| log.entry_bytes(RegionId(1), LogIndex(low), LogIndex(high));
        let (log, _) = Log::open(&directory, config()).await.unwrap();
        assert_eq!(bytes(&log, 1, 9), 0);
        for index in 1..=5 {
            append(&log, index, &vec![7; 10 * usize::try_from(index).unwrap()]).await;
        }
        assert_eq!(
            [bytes(&log, 1, 6), bytes(&log, 2, 4), bytes(&log, 0, 99), bytes(&log, 4, 4)],
            [150, 50, 150, 0]
        );
        // What takes the place of others counts for them.
        let payload = Bytes::from_static(b"new");
        log.append(&[entry(4, 2, &payload)], Durability::Sync).await.unwrap();
        assert_eq!(bytes(&log, 1, 6), 63);
        // What is compacted counts no more, whether it is released or not.
        let compact = Record::Compact { stream: RegionId(1), index: LogIndex(2), term: Term(1) };
        log.append(&[compact], Durability::Sync).await.unwrap();
        assert_eq!(bytes(&log, 1, 6), 33);
        log.close().await.unwrap();
        drop(log);
        let (log, _) = Log::open(&directory, config()).await.unwrap();
        assert_eq!(bytes(&log, 1, 6), 33);
        log.release(RegionId(1), Released { entries_through: LogIndex(1), edits_through: 0 });
        assert_eq!(bytes(&log, 1, 6), 33);
        log.release(RegionId(1), Released { entries_through: LogIndex(2), edits_through: 0 });
        append(&log, 5, b"five").await;
        assert_eq!([bytes(&log, 1, 6), bytes(&log, 5, 6)], [37, 4]);
    });
}

#[test]
fn entries_before_a_conflict_outlive_the_segment_with_what_it_replaced() {
    run("replaced", async |directory| {
        let (log, _) = Log::open(&directory, config()).await.unwrap();
        append(&log, 1, b"one").await;
        append(&log, 2, b"two").await;
        // The second of these stands in the second segment.
        for index in 3..=5 {
            append(&log, index, &vec![7; 25_000]).await;
        }
        let payload = Bytes::from_static(b"new");
        log.append(&[entry(3, 2, &payload)], Durability::Sync).await.unwrap();
        // The first segment goes; what it has of the stream is written again, but not what was replaced.
        log.release(RegionId(1), Released { entries_through: LogIndex(0), edits_through: 0 });
        log.settle().await;
        log.append(&[entry(4, 2, &payload)], Durability::Sync).await.unwrap();
        // Its file becomes another segment's.
        let large = Bytes::from(vec![8; 25_000]);
        for index in 1..=2 {
            let stream = RegionId(9);
            let other =
                Record::Entry { stream, index: LogIndex(index), term: Term(1), kind: 0, payload: &large };
            log.append(&[other], Durability::Sync).await.unwrap();
            log.settle().await;
        }
        let (reused, rewritten) = log.reuse();
        assert!(reused >= 1 && rewritten >= 2, "{reused} segments, {rewritten} records");
        log.close().await.unwrap();
        drop(log);
        let (log, _) = Log::open(&directory, config()).await.unwrap();
        assert_eq!(log.last_index(RegionId(1)), LogIndex(4));
        for (index, payload) in [(1, "one"), (2, "two"), (3, "new"), (4, "new")] {
            assert_eq!(read(&log, index).await, payload);
        }
    });
}

#[test]
fn segments_are_used_again_and_what_is_needed_outlives_them() {
    run("recycle", async |directory| {
        let (mut log, _) = Log::open(&directory, config()).await.unwrap();
        let stream = RegionId(1);
        let cold = RegionId(9);
        let payload = Bytes::from(vec![7; 3000]);
        log.append(
            &[
                Record::Entry { stream: cold, index: LogIndex(1), term: Term(1), kind: 2, payload: &payload },
                Record::HardState { stream: cold, term: Term(1), vote: 2, commit: LogIndex(1) },
                Record::Edit { stream: cold, payload: b"cold edit" },
                Record::Structure { payload: b"identity" },
            ],
            Durability::Sync,
        )
        .await
        .unwrap();
        for round in 0..3u64 {
            for index in round * 200 + 1..=round * 200 + 200 {
                append(&log, index, &[u8::try_from(index % 251).unwrap(); 2000]).await;
                if index % 10 == 0 {
                    let compact = Record::Compact { stream, index: LogIndex(index), term: Term(1) };
                    log.append(&[compact], Durability::Sync).await.unwrap();
                    log.release(stream, Released { entries_through: LogIndex(index), edits_through: 0 });
                }
            }
            assert!(log.live_bytes() < 6 * (64 << 10), "{} bytes are in use", log.live_bytes());
            log.close().await.unwrap();
            drop(log);
            let (again, recovered) = Log::open(&directory, config()).await.unwrap();
            log = again;
            assert_eq!(recovered.structures, [Bytes::from_static(b"identity")]);
            assert_eq!(recovered.streams[&cold].hard_state, (Term(1), 2, LogIndex(1)));
            assert_eq!(recovered.streams[&cold].edits[0].1, "cold edit");
            let found = log.entries(cold, LogIndex(1), LogIndex(2), 1).await.unwrap();
            assert_eq!(
                (found[0].kind, &found[0].payload),
                (2, &payload),
                "what is written again keeps its kind"
            );
        }
        let names = pinion_runtime::fs::read_dir(&directory).await.unwrap();
        assert!(names.len() < 10, "{} files", names.len());
    });
}

#[test]
fn damage_below_what_was_durable_is_told_from_a_torn_tail() {
    run("damage", async |directory| {
        let (log, _) = Log::open(&directory, config()).await.unwrap();
        for index in 1..=10 {
            append(&log, index, b"payload").await;
        }
        // The marker says that all of it is durable.
        pinion_runtime::sleep(std::time::Duration::from_millis(100)).await;
        log.close().await.unwrap();
        drop(log);
        let path = directory.join(format::segment_name(1));
        let groups = inspect(&directory).await.unwrap().remove(0).groups;
        let [.., acknowledged, marker] = groups.as_slice() else { panic!("no groups") };
        assert!(marker.durable_through >= acknowledged.number && marker.records.as_ref().unwrap().is_empty());
        let offset = |group: &GroupSummary| usize::try_from(group.offset).unwrap();
        flip(&path, offset(acknowledged) + 10);
        match Log::open(&directory, config()).await {
            Err(Error::LogDamaged { file, offset, .. }) => {
                assert_eq!((file, offset), (path.clone(), acknowledged.offset));
            }
            other => panic!("not damage: {:?}", other.map(|(_, recovered)| recovered)),
        }
        flip(&path, offset(acknowledged) + 10);
        // Nothing behind the marker names the marker: it is a tail.
        flip(&path, offset(marker) + 8);
        let (log, recovered) = Log::open(&directory, config()).await.unwrap();
        assert_eq!(recovered.streams[&RegionId(1)].last_index, LogIndex(10));
        log.close().await.unwrap();
        drop(log);
        // The start began an epoch: the tail, whole again, does not come back.
        flip(&path, offset(marker) + 8);
        let (_, recovered) = Log::open(&directory, config()).await.unwrap();
        assert_eq!(recovered.streams[&RegionId(1)].last_index, LogIndex(10));
    });
}

#[test]
fn a_lost_segment_is_noticed() {
    run("lost", async |directory| {
        let (log, _) = Log::open(&directory, config()).await.unwrap();
        for index in 1..=60 {
            append(&log, index, &[1; 5000]).await;
        }
        log.close().await.unwrap();
        drop(log);
        for number in [1, 3] {
            let path = directory.join(format::segment_name(number));
            flip(&path, 20);
            assert!(matches!(
                Log::open(&directory, config()).await,
                Err(Error::SegmentMissing { number: missing, .. }) if missing == number
            ));
            flip(&path, 20);
        }
        assert!(Log::open(&directory, config()).await.is_ok());
    });
}

#[test]
fn appends_are_durable_in_their_order_from_many_tasks() {
    run("tasks", async |directory| {
        let (log, _) = Log::open(&directory, config()).await.unwrap();
        let tasks: Vec<_> = (1..=32u64)
            .map(|stream| {
                let log = log.clone();
                pinion_runtime::spawn(async move {
                    let payload = Bytes::from(stream.to_string());
                    for index in 1..=50 {
                        let stream = RegionId(stream);
                        let record = Record::Entry {
                            stream,
                            index: LogIndex(index),
                            term: Term(1),
                            kind: 0,
                            payload: &payload,
                        };
                        log.append(&[record], Durability::Sync).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        log.close().await.unwrap();
        drop(log);
        let (log, recovered) = Log::open(&directory, config()).await.unwrap();
        for stream in 1..=32 {
            assert_eq!(recovered.streams[&RegionId(stream)].last_index, LogIndex(50));
            let entries = log.entries(RegionId(stream), LogIndex(1), LogIndex(51), usize::MAX).await.unwrap();
            assert!(entries.iter().all(|entry| entry.payload == stream.to_string()));
        }
    });
}

#[test]
fn what_is_too_large_is_refused_and_the_rest_goes_on() {
    run("large", async |directory| {
        let (log, _) = Log::open(&directory, config()).await.unwrap();
        let payload = Bytes::from(vec![0; 40 << 10]);
        let refused = log.append(&[entry(1, 1, &payload)], Durability::Sync).await;
        assert!(matches!(refused, Err(Error::RecordTooLarge { .. })));
        append(&log, 1, &vec![1; 20 << 10]).await;
        append(&log, 2, &vec![2; 20 << 10]).await;
        append(&log, 3, &vec![3; 20 << 10]).await;
        assert_eq!(read(&log, 3).await.len(), 20 << 10);
    });
}

#[test]
fn a_stream_that_left_and_came_back_has_only_what_is_new() {
    run("adopt", async |directory| {
        let (log, _) = Log::open(&directory, config()).await.unwrap();
        let stream = RegionId(1);
        for index in 1..=5 {
            append(&log, index, b"first").await;
        }
        log.remove_stream(stream);
        let payload = Bytes::from_static(b"second");
        log.append(
            &[
                Record::Adopt { stream, generation: 2 },
                Record::Compact { stream, index: LogIndex(7), term: Term(1) },
                entry(8, 1, &payload),
            ],
            Durability::Sync,
        )
        .await
        .unwrap();
        log.close().await.unwrap();
        drop(log);
        let (log, recovered) = Log::open(&directory, config()).await.unwrap();
        let found = &recovered.streams[&stream];
        assert_eq!((found.generation, found.last_index), (2, LogIndex(8)));
        assert_eq!(log.first_index(stream), LogIndex(8));
        assert_eq!(read(&log, 8).await, "second");
    });
}

#[test]
fn entries_that_are_not_cached_are_read_and_checked() {
    run("cold", async |directory| {
        let small = LogConfig { cache_bytes: 0, ..config() };
        let (log, _) = Log::open(&directory, small.clone()).await.unwrap();
        for index in 1..=10 {
            append(&log, index, format!("payload {index}").as_bytes()).await;
            log.applied(RegionId(1), LogIndex(index));
        }
        append(&log, 11, b"last").await;
        assert!(log.entries_cached(RegionId(1), LogIndex(3), LogIndex(4), 1).is_none());
        assert_eq!(read(&log, 3).await, "payload 3");
        let stream = RegionId(1);
        let groups = inspect(&directory).await.unwrap().remove(0).groups;
        let holds = |group: &&GroupSummary| {
            let mut records = group.records.as_ref().unwrap().iter();
            records.any(|record| matches!(record.body, ReadBody::Entry { index: LogIndex(3), .. }))
        };
        let offset = usize::try_from(groups.iter().find(holds).unwrap().offset).unwrap();
        let payload = format::GROUP_HEADER + RECORD_OVERHEAD_BYTES;
        flip(&directory.join(format::segment_name(1)), offset + payload + 2);
        let damaged = log.entries(stream, LogIndex(3), LogIndex(4), 1).await;
        assert!(matches!(damaged, Err(Error::ChecksumMismatch { .. })));
    });
}

#[test]
fn a_start_that_nothing_was_written_after_takes_no_segment() {
    run("idle-starts", async |directory| {
        for round in 0..20 {
            let (log, _) = Log::open(&directory, config()).await.unwrap();
            if round == 0 {
                append(&log, 1, b"kept").await;
            }
            assert_eq!(read(&log, 1).await, "kept");
            log.sync().await.unwrap();
            // No close: as after a kill.
            drop(log);
            // The segment that was being made ready goes on to be filled.
            pinion_runtime::sleep(std::time::Duration::from_millis(50)).await;
        }
        let names = pinion_runtime::fs::read_dir(&directory).await.unwrap();
        assert!(names.len() <= 4, "{} files", names.len());
    });
}

#[test]
fn files_that_are_kept_are_written_again_and_the_others_go() {
    run("kept", async |directory| {
        for kept in [8, 2] {
            let (log, _) =
                Log::open(&directory, LogConfig { segments_kept: kept, ..config() }).await.unwrap();
            let stream = RegionId(1);
            // Seven entries fill a segment; six segments come together before all of them are freed at once.
            for round in 0..4 {
                for _ in 0..42 {
                    append(&log, log.last_index(stream).0 + 1, &[1; 5000]).await;
                }
                let index = log.last_index(stream);
                let compact = Record::Compact { stream, index, term: Term(1) };
                log.append(&[compact], Durability::Sync).await.unwrap();
                log.release(stream, Released { entries_through: index, edits_through: 0 });
                // What is written after they are free makes that durable.
                for _ in 0..2 {
                    log.settle().await;
                    append(&log, log.last_index(stream).0 + 1, &[1; 5000]).await;
                }
                log.settle().await;
                let files = pinion_runtime::fs::read_dir(&directory).await.unwrap().len();
                assert!(files <= kept + 4, "{files} files, {kept} kept, round {round}");
            }
            let (reused, _) = log.reuse();
            let expected = if kept == 8 { 15..40 } else { 3..15 };
            assert!(expected.contains(&reused), "{reused} segments were written again with {kept} kept");
            log.close().await.unwrap();
        }
    });
}

#[test]
fn the_kind_of_an_entry_comes_back_and_is_checked_with_it() {
    run("kind", async |directory| {
        // Nothing stays cached, so that entries are read from disk.
        let config = LogConfig { cache_bytes: 0, ..config() };
        let (log, _) = Log::open(&directory, config.clone()).await.unwrap();
        let stream = RegionId(1);
        let payload = Bytes::from_static(b"of a kind");
        let with = |index, kind| Record::Entry {
            stream,
            index: LogIndex(index),
            term: Term(1),
            kind,
            payload: &payload,
        };
        log.append(&[with(1, 0), with(2, 1), with(3, 255)], Durability::Sync).await.unwrap();
        log.close().await.unwrap();
        drop(log);
        let (log, _) = Log::open(&directory, config).await.unwrap();
        let entries = log.entries(stream, LogIndex(1), LogIndex(4), usize::MAX).await.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.kind).collect::<Vec<_>>(), [0, 1, 255]);
        let crc = |kind| format::entry_crc(stream, LogIndex(1), Term(1), kind, &payload);
        assert_ne!(crc(0), crc(1));
    });
}

#[test]
fn a_log_of_the_format_before_is_refused_by_its_version() {
    run("version", async |directory| {
        let (log, _) = Log::open(&directory, config()).await.unwrap();
        append(&log, 1, b"x").await;
        log.close().await.unwrap();
        drop(log);
        set_version(&directory.join(format::segment_name(1)), 1);
        let opened = Log::open(&directory, config()).await.map(|_| ());
        assert!(
            matches!(opened, Err(Error::UnknownVersion { offset: 8, got: 1, known: 2, .. })),
            "{opened:?}"
        );
    });
}

/// Makes a segment's header one of another version.
#[expect(clippy::disallowed_methods, reason = "a test changes files")]
fn set_version(path: &Path, version: u8) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[8] = version;
    let crc = crc32fast::hash(&bytes[8..48]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

/// Supersedes a hard state behind a burst of groups that free its segment, and cuts the power at operation `at`; gives `false` when there
/// are not so many.
fn supersede_with_cut(at: u64) -> bool {
    use pinion_runtime::{fs, sim};

    const COLD: RegionId = RegionId(1);
    const BUSY: RegionId = RegionId(2);
    let state = |term| Record::HardState { stream: COLD, term: Term(term), vote: 7, commit: LogIndex(0) };
    let open = async || {
        fs::create_dir_durably("/", "log").await.unwrap();
        Log::open(Path::new("/log"), config()).await.unwrap()
    };
    sim::run(sim::Config::new(at), |simulation| {
        let host = simulation.add_host("store");
        let node = host.clone();
        let writing = host.spawn_core(CoreId(0), async move {
            let (log, _) = open().await;
            let payload = Bytes::from(vec![7; 5000]);
            let entry = |index| Record::Entry {
                stream: BUSY,
                index: LogIndex(index),
                term: Term(1),
                kind: 0,
                payload: &payload,
            };
            log.append(&[state(1)], Durability::Sync).await.unwrap();
            let release = |through| {
                let compact = Record::Compact { stream: BUSY, index: LogIndex(through), term: Term(1) };
                drop(log.append(&[compact], Durability::Buffered));
                log.release(BUSY, Released { entries_through: LogIndex(through), edits_through: 0 });
            };
            for index in 1..=24 {
                log.append(&[entry(index)], Durability::Sync).await.unwrap();
            }
            node.crash_at_io(node.io_count() + at);
            // Each of these is a group of its own; what supersedes the cold stream's hard state comes behind them.
            let tickets: Vec<_> =
                (25..=60).map(|index| log.append(&[entry(index)], Durability::Sync)).collect();
            let last = log.append(&[state(2)], Durability::Sync);
            release(24);
            for ticket in tickets {
                ticket.await.unwrap();
            }
            last.await.unwrap();
        });
        let was_cut = simulation.block_on(writing).is_none();
        if !was_cut {
            host.crash();
        }
        host.clear_disk_faults();
        host.start();
        let looking = host.spawn_core(CoreId(0), async move {
            let (_, recovered) = open().await;
            let found = recovered.streams.get(&COLD).map(|stream| stream.hard_state.0);
            let term = found.expect("the stream has a durable hard state");
            assert!(term == Term(2) || (was_cut && term == Term(1)), "operation {at}: {term}");
        });
        simulation.block_on(looking).expect("the power stays on");
        was_cut
    })
}

#[test]
fn a_segment_is_not_used_again_before_what_superseded_its_records_is_durable() {
    let mut at = 0;
    while supersede_with_cut(at) {
        at += 1;
    }
    assert!(at > 20, "the burst has many operations: {at}");
}

/// Writes a cold entry again, read from disk, while operation `at` fails; gives `false` when there are not so many.
fn write_again_with_failing(at: u64) -> bool {
    use futures_util::future::{Either, select};
    use pinion_runtime::sim::{Config, DiskError, Failing, run};
    use std::pin::pin;
    use std::time::Duration;

    const COLD: RegionId = RegionId(1);
    const BUSY: RegionId = RegionId(2);
    let (small, large) = (Bytes::from(vec![7; 500]), Bytes::from(vec![8; 5000]));
    let entry = |stream, index, payload| Record::Entry {
        stream,
        index: LogIndex(index),
        term: Term(1),
        kind: 0,
        payload,
    };
    run(Config::new(at), |simulation| {
        let host = simulation.driver();
        simulation.block_on(async {
            pinion_runtime::fs::create_dir_durably("/", "log").await.unwrap();
            let open = async || Log::open(Path::new("/log"), config()).await.unwrap().0;
            let log = open().await;
            log.append(&[entry(COLD, 1, &small)], Durability::Sync).await.unwrap();
            for index in 1..=30 {
                log.append(&[entry(BUSY, index, &large)], Durability::Sync).await.unwrap();
            }
            log.close().await.unwrap();
            drop(log);
            let log = open().await;
            let number = host.io_count() + at;
            host.fail_io(Failing::Once(number), DiskError::Io);
            let compact = Record::Compact { stream: BUSY, index: LogIndex(24), term: Term(1) };
            drop(log.append(&[compact], Durability::Buffered));
            log.release(BUSY, Released { entries_through: LogIndex(24), edits_through: 0 });
            for index in 31..=45 {
                drop(log.append(&[entry(BUSY, index, &large)], Durability::Sync));
            }
            pinion_runtime::sleep(Duration::from_millis(200)).await;
            let (syncing, too_long) = (pin!(log.sync()), pin!(pinion_runtime::sleep(Duration::from_secs(5))));
            let Either::Left((synced, _)) = select(syncing, too_long).await else {
                panic!("operation {at}: what the log took is never written")
            };
            assert_eq!(synced.is_ok(), log.failure().is_none(), "operation {at}: {synced:?}");
            host.io_count() > number
        })
    })
}

#[test]
fn a_log_that_fails_while_it_writes_records_again_lets_nobody_wait() {
    let mut at = 0;
    while write_again_with_failing(at) {
        at += 1;
    }
    assert!(at > 10, "there are many operations: {at}");
}
