//! Regions are made.

use super::*;
use crate::Error;

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
