//! What a tree promises, one by one.

use super::*;

#[test]
fn a_reader_sees_what_was_there_at_its_moment() {
    simulated(1, |directory| async move {
        let mut fixture = Fixture::new(directory, tiny()).await;
        fixture.put(b"ra", b"1");
        let first = fixture.tree.snapshot();
        fixture.put(b"ra", b"2");
        fixture.put(b"rb", b"2");
        let iterator = fixture.tree.iter(Values, b"", b"", IterOptions::default());
        let mut batch = WriteBatch::new();
        batch.delete(Values, b"ra");
        fixture.write(&batch);
        assert_eq!(first.get(Values, b"ra").await.unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(first.get(Values, b"rb").await.unwrap(), None);
        assert_eq!(fixture.get(b"ra").await, None);
        let pair = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
        assert_eq!(collect(iterator).await, [pair(b"ra", b"2"), pair(b"rb", b"2")]);
        fixture.flush().await;
        assert_eq!(first.get(Values, b"ra").await.unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(fixture.content().await, [pair(b"rb", b"2")]);
    });
}

#[test]
fn a_deleted_range_stays_deleted_and_what_is_put_later_stays() {
    simulated(2, |directory| async move {
        let mut fixture = Fixture::new(directory, tiny()).await;
        for number in 0..300 {
            fixture.put(&key(number), &[1; 30]);
        }
        fixture.flush().await;
        fixture.compact_all().await;
        fixture.delete_range(&key(50), &key(250));
        fixture.put(&key(100), b"again");
        for round in 0..3 {
            let keys: Vec<_> = fixture.content().await.into_iter().map(|(key, _)| key).collect();
            let expected: Vec<_> = (0..50).chain([100]).chain(250..300).map(key).collect();
            assert_eq!(keys, expected, "round {round}");
            assert_eq!(fixture.get(&key(100)).await.as_deref(), Some(&b"again"[..]));
            assert_eq!(fixture.get(&key(99)).await, None);
            match round {
                0 => fixture.flush().await,
                _ => fixture.tree.settle().await.unwrap(),
            }
        }
        let state = fixture.tree.state();
        assert_eq!(
            state.tables.iter().map(|table| table.meta.entries).sum::<u64>(),
            101,
            "what is deleted is gone"
        );
        assert!(
            state.tables.iter().all(|table| table.meta.range_tombstones == 0),
            "and so are the tombstones"
        );
    });
}

async fn filled(directory: PathBuf, keys: u64) -> Fixture {
    let mut fixture = Fixture::new(directory, tiny()).await;
    // An order in which neighbours come far apart, so that tables overlap.
    for number in 0..keys {
        fixture.put(&key(number * 7919 % keys), &number.to_le_bytes());
        if number % 40 == 39 {
            fixture.flush().await;
            fixture.tree.compact_once().await.unwrap();
        }
    }
    fixture
}

#[test]
fn a_tree_comes_back_as_its_manifest_says() {
    simulated(3, |directory| async move {
        let mut fixture = filled(directory, 500).await;
        fixture.flush().await;
        let (content, flushed) = (fixture.content().await, fixture.tree.flushed());
        let levels = fixture.shape().iter().filter(|tables| **tables > 0).count();
        assert!(levels >= 3, "there are several levels: {:?}", fixture.shape());
        fixture.put(b"rlost", b"not flushed");
        let stray = fixture.directory.join("0000009999.sst");
        pinion_runtime::fs::write_atomically(&stray, b"left by a crash").await.unwrap();
        let other = fixture.directory.join("manifest");
        pinion_runtime::fs::write_atomically(&other, b"not ours").await.unwrap();
        let fixture = fixture.reopen().await;
        assert_eq!(fixture.content().await, content);
        assert_eq!((fixture.tree.flushed(), fixture.tree.applied()), (flushed, flushed));
        assert_eq!(fixture.tree.last_sequence(), 500);
        assert!(!pinion_runtime::fs::exists(&stray).await.unwrap(), "a table that nobody names goes");
        assert!(pinion_runtime::fs::exists(&other).await.unwrap(), "what is not a table stays");
    });
}

#[test]
fn another_table_than_the_manifest_means_is_refused() {
    simulated(4, |directory| async move {
        let mut fixture = Fixture::new(directory, tiny()).await;
        fixture.put(b"ra", b"1");
        fixture.flush().await;
        fixture.put(b"rb", b"2");
        fixture.flush().await;
        let (first, second) = (fixture.tree.0.files.path(0), fixture.tree.0.files.path(1));
        let Fixture { tree, sink, env, directory, .. } = fixture;
        drop(tree);
        pinion_runtime::fs::rename(&first, &second).await.unwrap();
        let state = sink.state.borrow().clone();
        let opened = Tree::open(env, sink, directory, state).await;
        assert!(matches!(opened.err(), Some(Error::Io { .. } | Error::Corrupt { .. })));
    });
}

#[test]
fn readers_keep_what_a_compaction_replaces_and_it_goes_with_them() {
    simulated(5, |directory| async move {
        let mut fixture = filled(directory, 300).await;
        fixture.flush().await;
        let content = fixture.content().await;
        let mut iterator = fixture.tree.iter(Values, b"", b"", IterOptions::default());
        assert!(iterator.seek(&key(150)).await.unwrap());
        for number in 0..300 {
            fixture.put(&key(number), b"new");
        }
        fixture.flush().await;
        fixture.tree.settle().await.unwrap();
        let named = fixture.tree.state().tables.len();
        assert!(tables_in(&fixture.directory).await.len() > named, "the iterator's tables are there");
        for (key, value) in &content[150..] {
            assert_eq!((iterator.key(), iterator.value()), (&key[..], &value[..]));
            iterator.next().await.unwrap();
        }
        drop(iterator);
        assert!(fixture.tree.has_obsolete());
        fixture.tree.purge_obsolete().await.unwrap();
        assert_eq!(tables_in(&fixture.directory).await.len(), named);
    });
}

#[test]
fn ascending_keys_are_written_once() {
    simulated(6, |directory| async move {
        let mut fixture = Fixture::new(directory, tiny()).await;
        let mut files = Vec::new();
        for round in 0..20 {
            for number in 0..20 {
                fixture.put(&key(round * 20 + number), &[1; 20]);
            }
            fixture.flush().await;
            files.push(fixture.tree.0.files.next() - 1);
            fixture.compact_all().await;
        }
        let mut left: Vec<_> = fixture.tree.state().tables.iter().map(|table| table.file).collect();
        left.sort_unstable();
        assert_eq!(left, files, "tables only change levels");
        assert_eq!(fixture.content().await.len(), 400);
    });
}

/// Keeps no value that begins with a zero byte.
struct NoZeros;

impl crate::tree::CompactionFilter for NoZeros {
    fn keep(&self, _family: ColumnFamily, _key: &[u8], value: &[u8], _mark: u64) -> bool {
        value.first() != Some(&0)
    }
}

#[test]
fn what_the_filter_does_not_want_goes_and_nothing_older_comes_back() {
    simulated(7, |directory| async move {
        let env = TreeEnv::new(tiny(), BlockCache::new(1 << 20)).with_filter(Rc::new(NoZeros));
        let mut fixture = Fixture::open(directory, Rc::new(env), TreeState::default()).await;
        for number in 0..200 {
            fixture.put(&key(number), &[1; 20]);
        }
        fixture.flush().await;
        fixture.compact_all().await;
        for number in 0..200 {
            fixture.put(&key(number), &[u8::from(number % 3 != 0); 20]);
        }
        let snapshot = fixture.tree.snapshot();
        fixture.flush().await;
        fixture.tree.settle().await.unwrap();
        let seen = collect(snapshot.iter(Values, b"", b"", IterOptions::default())).await;
        assert_eq!(seen.len(), 200, "what a snapshot sees is not asked about");
        drop(snapshot);
        // What no snapshot sees any more is asked about when it is compacted the next time.
        for number in 0..200 {
            fixture.put(&key(number), &[u8::from(number % 3 != 0); 20]);
        }
        fixture.flush().await;
        fixture.tree.settle().await.unwrap();
        let content = fixture.content().await;
        assert_eq!(content.len(), 200 - 67);
        assert!(content.iter().all(|(_, value)| value[0] == 1));
    });
}

#[test]
fn a_compaction_goes_on_where_its_budget_ended_and_can_be_given_up() {
    simulated(8, |directory| async move {
        let mut fixture = Fixture::new(directory, tiny()).await;
        for round in 0..2u8 {
            for number in 0..200 {
                fixture.put(&key(number), &[round; 20]);
            }
            fixture.flush().await;
        }
        let before = fixture.tree.state();
        assert!(fixture.tree.compaction_debt() > 0);
        let mut steps = 0;
        while let crate::CompactionStep::Progress(bytes) = fixture.tree.compact_step(1000).await.unwrap() {
            assert!((1000..2000).contains(&bytes), "about as much as was allowed: {bytes}");
            assert_eq!(fixture.tree.state(), before, "nothing changes before the end");
            steps += 1;
        }
        assert!(steps > 5);
        assert_eq!(fixture.tree.compaction_debt(), 0);
        for round in 2..4u8 {
            for number in 0..200 {
                fixture.put(&key(number), &[round; 20]);
            }
            fixture.flush().await;
        }
        let before = fixture.tree.state();
        fixture.tree.compact_step(3000).await.unwrap();
        fixture.tree.install(before.clone()).await.unwrap();
        fixture.tree.purge_obsolete().await.unwrap();
        assert_eq!(tables_in(&fixture.directory).await.len(), before.tables.len());
        assert_eq!(fixture.content().await.len(), 200);
    });
}

#[test]
fn both_sides_of_a_split_share_tables_and_see_their_own_part() {
    simulated(9, |directory| async move {
        let mut fixture = filled(directory, 400).await;
        fixture.delete_range(&key(150), &key(250));
        fixture.flush().await;
        let whole = fixture.content().await;
        let (middle, right_directory) = (key(200), PathBuf::from("/right"));
        pinion_runtime::fs::create_dir_all(&right_directory).await.unwrap();
        let state = fixture.tree.checkpoint(&right_directory).await.unwrap();
        assert_eq!(state, fixture.tree.state());
        let right_state = state.bounded(&middle, b"");
        let mut right = Fixture::open(right_directory, fixture.env.clone(), right_state).await;
        let mut left_state = state.bounded(b"r", &middle);
        left_state.edit += 1;
        *fixture.sink.state.borrow_mut() = left_state.clone();
        fixture.tree.install(left_state).await.unwrap();
        let (left_part, right_part): (Vec<_>, Vec<_>) = whole.into_iter().partition(|(key, _)| *key < middle);
        for round in 0..2 {
            assert_eq!(fixture.content().await, left_part, "round {round}");
            assert_eq!(right.content().await, right_part, "round {round}");
            let mut backward = right.tree.iter(Values, b"", b"", IterOptions::default());
            assert!(backward.seek_to_last().await.unwrap());
            for (key, _) in right_part.iter().rev() {
                assert_eq!(backward.key(), key);
                backward.prev().await.unwrap();
            }
            assert!(!backward.is_valid());
            let (left, right_bytes) =
                (fixture.tree.approximate_size(b"", b""), right.tree.approximate_size(b"", b""));
            assert!(left > 0 && right_bytes > 0 && left.abs_diff(right_bytes) < left.max(right_bytes) / 2);
            let keys = fixture.tree.size().keys + right.tree.size().keys;
            assert!(
                (250..=500).contains(&keys),
                "{keys} keys of 300: each side counts its part of shared tables"
            );
            fixture.tree.settle().await.unwrap();
            right.tree.settle().await.unwrap();
        }
        // The deleted range is cut at the border: it deletes nothing on the other side.
        right.put(&key(120), b"a key that only a merge could bring");
        assert_eq!(right.get(&key(120)).await.as_deref(), Some(&b"a key that only a merge could bring"[..]));
    });
}

#[test]
fn what_is_written_over_and_over_is_counted_once() {
    simulated(10, |directory| async move {
        let mut fixture = filled(directory, 1000).await;
        fixture.flush().await;
        fixture.tree.settle().await.unwrap();
        let once = fixture.tree.size();
        assert!(once.lasting_bytes <= once.bytes() && (600..=1000).contains(&once.lasting_keys), "{once:?}");
        for round in 0..3u8 {
            for number in 0..1000 {
                fixture.put(&key(number), &[round; 100]);
            }
            let written = fixture.tree.size();
            assert!(written.lasting_keys >= 1600 && written.memtable_bytes > 100_000, "{written:?}");
            fixture.tree.flush().await.unwrap();
            let flushed = fixture.tree.size();
            assert!(flushed.keys > once.keys && flushed.lasting_keys <= 1100, "{flushed:?}");
        }
        // What is new at the end counts as soon as it is in a table.
        let before = fixture.tree.size();
        for number in 2000..3000 {
            fixture.put(&key(number), &[7; 100]);
        }
        fixture.tree.flush().await.unwrap();
        assert_eq!(fixture.tree.size().lasting_keys, before.lasting_keys + 1000);
    });
}

#[test]
fn a_split_key_parts_the_bytes() {
    simulated(10, |directory| async move {
        let fixture = filled(directory, 1000).await;
        fixture.flush().await;
        fixture.tree.settle().await.unwrap();
        for (percent, expected) in [(25, 250), (50, 500), (75, 750)] {
            let found = fixture.tree.split_key(b"r", b"s", percent).await.unwrap().unwrap();
            assert!(found > key(expected - 60) && found < key(expected + 60), "{percent} %: {found:?}");
        }
        let within = fixture.tree.split_key(&key(100), &key(200), 50).await.unwrap().unwrap();
        assert!(within > key(110) && within < key(190), "{within:?}");
        assert_eq!(fixture.tree.split_key(b"s", b"t", 50).await.unwrap(), None);
        assert_eq!(
            fixture.tree.split_key(&key(10), &key(11), 50).await.unwrap(),
            None,
            "one key cannot be split"
        );
        let (part, whole) =
            (fixture.tree.approximate_size(&key(0), &key(500)), fixture.tree.approximate_size(b"", b""));
        assert!(part > whole / 3 && part < whole / 3 * 2, "{part} of {whole}");
    });
}

#[test]
fn an_entry_without_writes_moves_the_flushed_position() {
    simulated(11, |directory| async move {
        let mut fixture = Fixture::new(directory, tiny()).await;
        fixture.write(&WriteBatch::new());
        fixture.flush().await;
        assert_eq!(fixture.tree.flushed(), (LogIndex(1), Term(1)));
        assert!(fixture.tree.state().tables.is_empty() && !fixture.tree.wants_flush());
        fixture.put(b"ra", b"1");
        fixture.tree.rotate();
        assert!(fixture.tree.wants_flush());
        fixture.write(&WriteBatch::new());
        fixture.flush().await;
        assert_eq!(fixture.tree.flushed(), (LogIndex(3), Term(1)));
        assert_eq!(fixture.tree.state().edit, 2);
        fixture.flush().await;
        assert_eq!(fixture.tree.state().edit, 2, "a flush with nothing to do does nothing");
    });
}

#[test]
fn pressure_grows_with_what_waits() {
    simulated(12, |directory| async move {
        let options = TreeOptions { memtables_waiting_max: 2, level0_tables_max: 4, ..tiny() };
        let mut fixture = Fixture::new(directory, options).await;
        assert!(fixture.tree.write_pressure() < 0.1);
        for number in 0..4 {
            fixture.put(&key(number), b"value");
            fixture.tree.rotate();
        }
        assert!(fixture.tree.write_pressure() >= 2.0);
        fixture.flush().await;
        assert!(fixture.tree.write_pressure() < 1.0);
        for number in 0..4 {
            fixture.put(&key(number), b"value");
            fixture.flush().await;
        }
        assert!(fixture.tree.write_pressure() >= 1.0);
        fixture.compact_all().await;
        assert!(fixture.tree.write_pressure() < 1.0);
    });
}

/// Keeps a value while the mark is below its first byte.
struct UntilMark;

impl crate::tree::CompactionFilter for UntilMark {
    fn keep(&self, _family: ColumnFamily, _key: &[u8], value: &[u8], mark: u64) -> bool {
        mark < u64::from(value[0])
    }
}

#[test]
fn the_filter_judges_by_what_is_flushed() {
    simulated(8, |directory| async move {
        let env = TreeEnv::new(tiny(), BlockCache::new(1 << 20)).with_filter(Rc::new(UntilMark));
        let mut fixture = Fixture::open(directory, Rc::new(env), TreeState::default()).await;
        fixture.tree.set_mark(4);
        // Twice, so that there is something to merge.
        for _ in 0..2 {
            for number in 0..200 {
                fixture.put(&key(number), &[5; 20]);
            }
            fixture.flush().await;
        }
        // Entries behind the flush are applied again after a crash, and must find what they found before it.
        fixture.tree.set_mark(5);
        for number in 0..200 {
            fixture.put(&key(number), &[5; 20]);
        }
        fixture.tree.rotate();
        fixture.tree.settle().await.unwrap();
        assert_eq!(fixture.content().await.len(), 200);
        let tables: u64 = fixture.tree.state().tables.iter().map(|table| table.meta.entries).sum();
        assert_eq!(tables, 200);
        fixture.flush().await;
        fixture.tree.settle().await.unwrap();
        assert_eq!(fixture.content().await.len(), 0);
    });
}
