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
