//! The model against stores that err: each fault that it must see, and what it must let pass.

use super::*;

const A: KeyIndex = KeyIndex(0);
const B: KeyIndex = KeyIndex(1);

fn model() -> Model {
    Model::new(vec![b"a".to_vec(), b"b".to_vec()])
}

fn put(model: &mut Model, key: KeyIndex) -> u64 {
    let batch = model.begin_write(&[(key, Kind::Put)]);
    model.acknowledge(&batch);
    batch[0].1
}

fn delete(model: &mut Model, key: KeyIndex) -> u64 {
    let batch = model.begin_write(&[(key, Kind::Delete)]);
    model.acknowledge(&batch);
    batch[0].1
}

fn read(model: &mut Model, key: KeyIndex, observed: Observed) -> Result<(), Violation> {
    let floor = model.begin_read(key);
    model.observe(key, floor, observed)
}

#[test]
fn an_acknowledged_write_must_be_read() {
    let mut model = model();
    assert!(read(&mut model, A, Observed::Absent).is_ok());
    put(&mut model, A);
    assert!(read(&mut model, A, Observed::Version(1)).is_ok());
    assert!(read(&mut model, A, Observed::Absent).is_err());
    put(&mut model, A);
    assert!(read(&mut model, A, Observed::Version(1)).is_err());
    delete(&mut model, A);
    assert!(read(&mut model, A, Observed::Version(2)).is_err());
    assert!(read(&mut model, A, Observed::Absent).is_ok());
}

#[test]
fn what_was_never_written_is_a_violation() {
    assert!(read(&mut model(), A, Observed::Version(1)).is_err());
}

#[test]
fn a_read_may_show_what_was_overwritten_while_it_ran() {
    let mut model = model();
    put(&mut model, A);
    let floor = model.begin_read(A);
    put(&mut model, A);
    delete(&mut model, A);
    assert!(model.observe(A, floor, Observed::Version(1)).is_ok());
    assert!(read(&mut model, A, Observed::Absent).is_ok());
}

#[test]
fn an_open_write_may_be_read_and_is_then_there_for_good() {
    let mut model = model();
    put(&mut model, A);
    model.begin_write(&[(A, Kind::Put)]);
    assert!(read(&mut model, A, Observed::Version(1)).is_ok());
    assert!(read(&mut model, A, Observed::Version(2)).is_ok());
    assert!(read(&mut model, A, Observed::Version(1)).is_err());
    assert!(model.settle(&[Observed::Version(1), Observed::Absent]).is_err());
}

#[test]
fn an_open_write_is_settled_by_the_restart() {
    for (found, later) in [(1, 2), (2, 1)] {
        let mut model = model();
        put(&mut model, A);
        model.begin_write(&[(A, Kind::Put)]);
        assert_eq!(model.open(), 1);
        assert!(model.settle(&[Observed::Version(found), Observed::Absent]).is_ok());
        assert_eq!(model.open(), 0);
        assert!(read(&mut model, A, Observed::Version(later)).is_err(), "{found} then {later}");
        assert!(read(&mut model, A, Observed::Version(found)).is_ok());
        assert_eq!(put(&mut model, A), 3);
    }
}

#[test]
fn a_restart_that_loses_an_acknowledged_write_is_a_violation() {
    let mut model = model();
    put(&mut model, A);
    put(&mut model, B);
    assert!(model.settle(&[Observed::Version(1), Observed::Absent]).is_err());
}

#[test]
fn a_restart_that_brings_a_deleted_key_back_is_a_violation() {
    let mut model = model();
    put(&mut model, A);
    delete(&mut model, A);
    assert!(model.settle(&[Observed::Version(1), Observed::Absent]).is_err());
}

#[test]
fn a_batch_happens_whole_or_not_at_all() {
    for (a, b, whole) in [(1, 1, true), (2, 2, true), (1, 2, false), (2, 1, false)] {
        let mut model = model();
        put(&mut model, A);
        put(&mut model, B);
        model.begin_write(&[(A, Kind::Put), (B, Kind::Put)]);
        let settled = model.settle(&[Observed::Version(a), Observed::Version(b)]);
        assert_eq!(settled.is_ok(), whole, "{a} and {b}: {settled:?}");
    }
}

#[test]
fn deleting_what_was_absent_says_nothing_of_its_batch() {
    for b in [Observed::Version(1), Observed::Absent] {
        let mut model = model();
        model.begin_write(&[(A, Kind::Delete), (B, Kind::Put)]);
        assert!(model.settle(&[Observed::Absent, b]).is_ok());
    }
}

#[test]
fn a_refused_write_never_happens() {
    let mut model = model();
    let batch = model.begin_write(&[(A, Kind::Put)]);
    assert!(model.refuse(&batch).is_ok());
    assert!(read(&mut model, A, Observed::Version(1)).is_err());
    let batch = model.begin_write(&[(A, Kind::Put)]);
    assert!(read(&mut model, A, Observed::Version(2)).is_ok());
    assert!(model.refuse(&batch).is_err());
}

#[test]
fn a_read_older_than_the_history_goes_unchecked() {
    let mut model = model();
    put(&mut model, A);
    let floor = model.begin_read(A);
    for _ in 0..=HISTORY_MAX {
        put(&mut model, A);
    }
    assert!(model.observe(A, floor, Observed::Version(1)).is_ok());
    assert!(read(&mut model, A, Observed::Version(1)).is_err());
}

#[test]
fn keys_are_found_by_their_bytes() {
    let model = model();
    assert_eq!(model.find(b"b"), Some(B));
    assert_eq!(model.find(b"c"), None);
}
