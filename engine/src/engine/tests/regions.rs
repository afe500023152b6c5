//! Regions are made and removed.

use super::*;
use crate::Error;
use std::time::Duration;

const MADE: RegionId = RegionId(9);

#[test]
fn a_region_that_is_made_alone_is_whole_or_not_there() {
    let position = (LogIndex(40), Term(3));
    cut_at_every_operation(
        start_with_first,
        async move |engine, done| {
            let hard_state = (Term(4), 5, LogIndex(40));
            let made = engine.create_region(new_tree(MADE), position, hard_state).await.unwrap();
            assert_eq!((made.tree.applied(), made.hard_state), (position, hard_state));
            done.set(true);
            assert_eq!(engine.statistics().regions_created, 1);
        },
        async move |found, was_done| {
            assert_eq!(found.structures, [Bytes::from_static(b"identity")]);
            assert_eq!(content(&found.region(FIRST).unwrap().tree).await, pairs(0..20, b"first"));
            let Some(region) = found.region(MADE) else {
                assert!(!was_done, "it was made durably");
                // What is left of it is in nobody's way.
                let again = found.engine.create_region(new_tree(MADE), position, Default::default()).await;
                assert_eq!(content(&again.unwrap().tree).await, []);
                return;
            };
            assert_eq!(region.meta, new_tree(MADE).meta);
            assert_eq!((region.tree.applied(), region.tree.flushed()), (position, position));
            assert_eq!(region.hard_state, (Term(4), 5, LogIndex(40)));
            let log = found.engine.log();
            assert_eq!((log.first_index(MADE), log.last_index(MADE)), (LogIndex(41), LogIndex(40)));
            assert_eq!(log.term(MADE, LogIndex(40)), Some(Term(3)));
        },
    );
}

#[test]
fn a_peer_that_has_heard_of_nothing_begins_at_index_one() {
    simulated(1, async || {
        let Started { engine, .. } = start_with_first().await;
        let made =
            engine.create_region(new_tree(MADE), Default::default(), Default::default()).await.unwrap();
        let log = engine.log().clone();
        assert_eq!((log.first_index(MADE), log.last_index(MADE)), (LogIndex(1), LogIndex(0)));
        assert_eq!((log.term(MADE, LogIndex(0)), log.term(MADE, LogIndex(1))), (Some(Term(0)), None));
        assert_eq!((made.tree.applied(), made.hard_state), Default::default());
        engine.close().await.unwrap();
        let found = start().await;
        let region = found.region(MADE).expect("it has nothing and is there");
        assert_eq!((region.tree.applied(), region.hard_state), Default::default());
        write(&found.engine, MADE, 0..300, b"value").await;
        found.engine.flush_region(MADE).await.unwrap();
        found.engine.close().await.unwrap();
        let found = start().await;
        assert_eq!(content(&found.region(MADE).unwrap().tree).await, pairs(0..300, b"value"));
        assert_eq!(found.engine.log().first_index(MADE), LogIndex(1));
    });
}

#[test]
fn an_edit_is_not_taken_for_one_that_the_manifest_file_has_and_the_log_has_no_more() {
    simulated(1, async || {
        let Started { engine, .. } = start_with_first().await;
        let mut number = 20;
        while engine.statistics().checkpoints == 0 {
            write(&engine, FIRST, number..number + 1, b"value").await;
            engine.flush_region(FIRST).await.unwrap();
            number += 1;
        }
        // The segment with that edit is used again; the entries before it are needed still, and written again.
        let made =
            engine.create_region(new_tree(MADE), Default::default(), Default::default()).await.unwrap();
        let reused = engine.statistics().segments_reused;
        while engine.statistics().segments_reused < reused + 3 {
            write(&engine, MADE, 0..100, &[7; 1000]).await;
            engine.flush_region(MADE).await.unwrap();
            let (index, term) = made.tree.applied();
            engine.compact_log(MADE, index, term, new_tree(MADE).meta);
        }
        engine.close().await.unwrap();
        let found = start().await;
        write(&found.engine, FIRST, number..number + 1, b"value").await;
        found.engine.flush_region(FIRST).await.unwrap();
        let flushed = found.engine.tree(FIRST).unwrap().flushed();
        found.engine.close().await.unwrap();
        let found = start().await;
        assert_eq!(found.region(FIRST).unwrap().tree.flushed(), flushed);
    });
}

#[test]
fn a_region_that_is_there_is_not_made_again() {
    simulated(2, async || {
        let Started { engine, .. } = start_with_first().await;
        let again = engine.create_region(new_tree(FIRST), Default::default(), Default::default()).await;
        assert!(matches!(again.err(), Some(Error::RegionExists { region: FIRST })));
        assert_eq!(content(&engine.tree(FIRST).unwrap()).await, pairs(0..20, b"first"));
    });
}

#[test]
fn what_the_log_held_under_a_new_regions_id_is_void() {
    simulated(3, async || {
        let Started { engine, .. } = start_with_first().await;
        let payload = Bytes::from_static(b"of another life");
        let record =
            Record::Entry { stream: MADE, index: LogIndex(2), term: Term(1), kind: 0, payload: &payload };
        engine.log().append(&[record], Durability::Sync).await.unwrap();
        let new = NewTree { generation: 4, ..new_tree(MADE) };
        let made = engine.create_region(new, Default::default(), Default::default()).await.unwrap();
        assert_eq!((made.generation, engine.log().last_index(MADE)), (4, LogIndex(0)));
        engine.close().await.unwrap();
        let found = start().await;
        assert_eq!(found.region(MADE).unwrap().generation, 4);
        assert_eq!(found.engine.log().last_index(MADE), LogIndex(0));
    });
}

const TOMBSTONE: Bytes = Bytes::from_static(b"region 9 is gone");

/// A store with a second region, which has tables and what is not flushed.
async fn start_with_second() -> Started {
    let mut started = start_with_first().await;
    let engine = &started.engine;
    started
        .regions
        .push(engine.create_region(new_tree(MADE), Default::default(), Default::default()).await.unwrap());
    fill(engine, MADE, 0..150, b"value").await;
    engine.flush_region(MADE).await.unwrap();
    fill(engine, MADE, 150..200, b"value").await;
    started
}

#[test]
fn a_region_is_there_or_its_tombstone_is() {
    cut_at_every_operation(
        start_with_second,
        async move |engine, done| {
            engine.remove_region(MADE, TOMBSTONE).await.unwrap();
            done.set(true);
            assert_eq!(engine.statistics().regions_removed, 1);
            // The files go in the background.
            pinion_runtime::sleep(Duration::from_millis(100)).await;
        },
        async move |found, was_done| {
            assert_eq!(content(&found.region(FIRST).unwrap().tree).await, pairs(0..20, b"first"));
            let has_tombstone = found.structures.contains(&TOMBSTONE);
            if let Some(region) = found.region(MADE) {
                assert!(!was_done && !has_tombstone, "it was removed durably");
                assert_eq!(content(&region.tree).await, pairs(0..200, b"value"));
                return;
            }
            assert!(has_tombstone);
            assert_eq!(directories().await, ["1"], "nothing is left of it");
            let log = found.engine.log();
            assert_eq!((log.last_index(MADE), log.hard_state(MADE)), Default::default());
            let again =
                found.engine.create_region(new_tree(MADE), Default::default(), Default::default()).await;
            assert_eq!(content(&again.unwrap().tree).await, []);
            write(&found.engine, MADE, 0..3, b"again").await;
            found.engine.close().await.unwrap();
            let found = start().await;
            assert!(found.structures.contains(&TOMBSTONE));
            assert_eq!(content(&found.region(MADE).unwrap().tree).await, pairs(0..3, b"again"));
        },
    );
}

#[test]
fn who_reads_a_removed_region_reads_on_and_then_its_files_go() {
    simulated(4, async || {
        let Started { engine, regions, .. } = start_with_second().await;
        let tree = engine.tree(MADE).unwrap();
        let mut iterator = tree.iter(Values, b"", b"", IterOptions::default());
        assert!(iterator.seek(&key(70)).await.unwrap());
        engine.remove_region(MADE, TOMBSTONE).await.unwrap();
        assert!(engine.tree(MADE).is_none());
        // What comes later to the old tree goes nowhere.
        let mut batch = WriteBatch::new();
        batch.put(Values, &key(999), b"late");
        tree.write(&batch, (LogIndex(201), TERM));
        assert!(matches!(tree.flush().await, Err(Error::TreeRetired)));
        assert!(matches!(tree.compact_once().await, Err(Error::TreeRetired)));
        engine.create_region(new_tree(MADE), Default::default(), Default::default()).await.unwrap();
        write(&engine, MADE, 0..300, b"new").await;
        engine.flush_region(MADE).await.unwrap();
        assert!(directories().await.len() > 2, "the old tables are read");
        for (key, value) in &pairs(70..200, b"value") {
            assert_eq!((iterator.key(), iterator.value()), (&key[..], &value[..]));
            iterator.next().await.unwrap();
        }
        drop((iterator, tree, regions));
        pinion_runtime::sleep(Duration::from_millis(200)).await;
        assert_eq!(directories().await, ["1", "9"], "with the last reader the files go");
        assert_eq!(content(&engine.tree(MADE).unwrap()).await, pairs(0..300, b"new"));
        engine.close().await.unwrap();
        let found = start().await;
        assert_eq!(content(&found.region(MADE).unwrap().tree).await, pairs(0..300, b"new"));
    });
}

#[test]
fn a_removal_that_is_refused_changes_nothing() {
    simulated(5, async || {
        let Started { engine, .. } = start_with_second().await;
        let too_large = Bytes::from(vec![0; 100 << 10]);
        let refused = engine.remove_region(MADE, too_large).await;
        assert!(matches!(refused, Err(Error::RecordTooLarge { .. })));
        write(&engine, MADE, 200..300, b"value").await;
        engine.flush_region(MADE).await.unwrap();
        assert_eq!(content(&engine.tree(MADE).unwrap()).await, pairs(0..300, b"value"));
        let unknown = engine.remove_region(RegionId(77), TOMBSTONE).await;
        assert!(matches!(unknown, Err(Error::NoSuchRegion { region: RegionId(77) })));
    });
}

#[test]
fn a_region_is_removed_between_flushes_and_compactions() {
    for seed in 0..20 {
        simulated(seed, async move || {
            let Started { engine, .. } = start_with_second().await;
            write(&engine, MADE, 0..20 * seed, b"other").await;
            let flushing = {
                let engine = engine.clone();
                pinion_runtime::spawn(async move { engine.flush_region(MADE).await })
            };
            pinion_runtime::sleep(Duration::from_micros(seed * 30)).await;
            engine.remove_region(MADE, TOMBSTONE).await.unwrap();
            let flushed = flushing.await;
            assert!(matches!(flushed, Ok(()) | Err(Error::NoSuchRegion { .. })), "{flushed:?}");
            write(&engine, FIRST, 0..300, b"later").await;
            engine.close().await.unwrap();
            let found = start().await;
            assert!(found.region(MADE).is_none(), "nothing came into the log behind the removal");
            assert_eq!(content(&found.region(FIRST).unwrap().tree).await, pairs(0..300, b"later"));
        });
    }
}

#[test]
fn a_split_gives_a_peer_that_waits_for_it_its_part_and_leaves_it_its_vote() {
    cut_at_every_operation(
        async || {
            let mut started = start_with_first().await;
            let hard_state = (Term(9), 4, LogIndex(0));
            let made = started.engine.create_region(new_tree(MADE), Default::default(), hard_state).await;
            started.regions.push(made.unwrap());
            started
        },
        async move |engine, done| {
            let position = (LogIndex(25), TERM);
            let parent = NewTree { end: key(10), ..new_tree(FIRST) };
            let child = NewTree { start: key(10), meta: Bytes::from_static(b"split off"), ..new_tree(MADE) };
            let made = engine.split(FIRST, position, parent, vec![child], || {}).await.unwrap();
            done.set(true);
            assert_eq!(content(&made[0].tree).await, pairs(10..20, b"first"));
        },
        async move |found, was_done| {
            let region = found.region(MADE).unwrap();
            let (term, vote, commit) = region.hard_state;
            assert_eq!((term, vote), (Term(9), 4), "a vote that was given stays given");
            if region.meta == "split off" {
                assert_eq!((content(&region.tree).await, commit), (pairs(10..20, b"first"), LogIndex(5)));
                assert_eq!(found.engine.log().first_index(MADE), LogIndex(6));
                assert_eq!(content(&found.region(FIRST).unwrap().tree).await, pairs(0..10, b"first"));
                return;
            }
            assert!(!was_done, "it was split durably");
            assert_eq!((content(&region.tree).await, commit), (Vec::new(), LogIndex(0)));
            assert_eq!(content(&found.region(FIRST).unwrap().tree).await, pairs(0..20, b"first"));
        },
    );
}

#[test]
fn a_split_does_not_take_the_place_of_a_region_that_has_something() {
    simulated(6, async || {
        let Started { engine, .. } = start_with_second().await;
        let parent = NewTree { end: key(10), ..new_tree(FIRST) };
        let split = engine.split(FIRST, (LogIndex(25), TERM), parent, vec![new_tree(MADE)], || {}).await;
        assert!(matches!(split.err(), Some(Error::RegionExists { region: MADE })));
        assert_eq!(content(&engine.tree(FIRST).unwrap()).await, pairs(0..20, b"first"));
        assert_eq!(content(&engine.tree(MADE).unwrap()).await, pairs(0..200, b"value"));
    });
}
