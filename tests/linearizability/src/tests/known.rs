//! Histories whose verdict everybody can see.

use crate::{CallId, History, Key, Limits, Operation, Outcome, Reason, ValueId, Verdict, Violation, check};

const ONE: ValueId = ValueId(1);
const TWO: ValueId = ValueId(2);

/// What a test says: the first tick, the last tick, the call and what came back.
type Said = (u64, u64, Operation, Outcome);

fn history(calls: &[Said]) -> History {
    let mut history = History::new();
    for (client, (invoked, returned, operation, outcome)) in (0..).zip(calls) {
        let call = history.invoke_at(*invoked, client, operation.clone());
        history.complete_at(*returned, call, outcome.clone());
    }
    history
}

fn verdict(calls: &[Said]) -> Result<Verdict, Violation> {
    check(&history(calls), &Limits::default())
}

fn assert_right(calls: &[Said]) {
    let verdict = verdict(calls);
    assert!(matches!(verdict, Ok(Verdict::Linearizable { .. })), "{verdict:?}");
}

fn wrong(calls: &[Said]) -> Violation {
    verdict(calls).expect_err("this cannot have happened")
}

fn put(invoked: u64, returned: u64, key: &str, value: ValueId) -> Said {
    (invoked, returned, Operation::put(key, value), Outcome::Written)
}

fn put_unknown(invoked: u64, key: &str, value: ValueId) -> Said {
    (invoked, invoked, Operation::put(key, value), Outcome::Unknown)
}

fn delete(invoked: u64, returned: u64, key: &str) -> Said {
    (invoked, returned, Operation::delete(key), Outcome::Written)
}

fn delete_unknown(invoked: u64, key: &str) -> Said {
    (invoked, invoked, Operation::delete(key), Outcome::Unknown)
}

fn get(invoked: u64, returned: u64, key: &str, value: Option<ValueId>) -> Said {
    (invoked, returned, Operation::get(key), Outcome::Read(value))
}

/// Swaps, and says whether it did and what it found.
fn swap(at: [u64; 2], [expected, new]: [ValueId; 2], swapped: bool, previous: Option<ValueId>) -> Said {
    let operation = Operation::compare_and_swap("a", Some(expected), new);
    (at[0], at[1], operation, Outcome::Compared { swapped, previous })
}

fn put_both(invoked: u64, returned: u64, outcome: Outcome) -> Said {
    let writes = vec![(Key::from("a"), ONE), (Key::from("b"), TWO)];
    (invoked, returned, Operation::BatchPut { writes }, outcome)
}

fn get_both(invoked: u64, returned: u64, values: [Option<ValueId>; 2]) -> Said {
    let keys = vec![Key::from("a"), Key::from("b")];
    (invoked, returned, Operation::BatchGet { keys }, Outcome::BatchRead(values.to_vec()))
}

#[test]
fn nothing_is_linearizable() {
    assert_eq!(check(&History::new(), &Limits::default()), Ok(Verdict::Linearizable { configurations: 0 }));
}

#[test]
fn calls_at_the_same_time_have_any_order() {
    assert_right(&[put(0, 10, "a", ONE), put(0, 10, "a", TWO), get(11, 12, "a", Some(ONE))]);
    assert_right(&[put(0, 10, "a", ONE), put(0, 10, "a", TWO), get(11, 12, "a", Some(TWO))]);
    assert_right(&[put(0, 10, "a", ONE), get(1, 2, "a", None), get(3, 4, "a", Some(ONE))]);
    assert_right(&[put(0, 10, "a", ONE), get(10, 12, "a", None)]);
}

#[test]
fn an_old_value_is_not_read_after_a_completed_write() {
    let calls =
        [put(0, 1, "a", ONE), put(2, 3, "a", TWO), get(4, 5, "a", Some(ONE)), put(6, 7, "a", ValueId(3))];
    let violation = wrong(&calls);
    assert_eq!(
        *violation.reason,
        Reason::BothFirst {
            key: Key::from("a"),
            values: [ONE, TWO],
            first_before_second: [CallId(0), CallId(1)],
            second_before_first: [CallId(1), CallId(2)],
        }
    );
    assert_eq!((violation.prefix_end, violation.is_smallest), (5, true));
    assert_eq!(
        violation.to_string(),
        "not linearizable: a: value 1 was there before value 2, because #0 had returned when #1 was \
         invoked; and value 2 before value 1, because #1 had returned when #2 was invoked\n\
         the first tick at which it is wrong is 5\n   \
         #0 client 0 [0, 1] put a = value 1: done\n   \
         #1 client 1 [2, 3] put a = value 2: done\n\
         -> #2 client 2 [4, 5] get a: value 1"
    );
}

#[test]
fn a_completed_write_is_not_lost() {
    let violation = wrong(&[put(0, 1, "a", ONE), get(2, 3, "a", None)]);
    assert!(matches!(*violation.reason, Reason::Lost { value: ONE, .. }), "{violation}");
    let violation = wrong(&[delete(0, 1, "a"), put(2, 3, "a", ONE), get(4, 5, "a", None), delete(6, 7, "a")]);
    assert!(matches!(*violation.reason, Reason::Lost { value: ONE, .. }), "{violation}");
    assert_right(&[put(0, 1, "a", ONE), delete(2, 6, "a"), get(2, 3, "a", None)]);
}

#[test]
fn what_nobody_wrote_is_not_read() {
    let violation = wrong(&[get(0, 1, "a", Some(ONE)), put(2, 3, "a", ONE)]);
    let attempt = Some(CallId(1));
    let key = Key::from("a");
    assert_eq!(*violation.reason, Reason::NeverWritten { key, value: ONE, seen_by: CallId(0), attempt });
    let refused = (0, 1, Operation::put("a", ONE), Outcome::Refused);
    let violation = wrong(&[refused, get(2, 3, "a", Some(ONE))]);
    assert!(
        matches!(*violation.reason, Reason::NeverWritten { attempt: Some(CallId(0)), .. }),
        "{violation}"
    );
    assert_eq!(violation.operations.len(), 2, "the refused one is shown");
}

#[test]
fn the_value_of_a_swap_that_failed_is_not_read() {
    let failed = swap([2, 3], [TWO, ValueId(3)], false, Some(ONE));
    let violation = wrong(&[put(0, 1, "a", ONE), failed.clone(), get(4, 5, "a", Some(ValueId(3)))]);
    assert!(
        matches!(*violation.reason, Reason::NeverWritten { attempt: Some(CallId(1)), .. }),
        "{violation}"
    );
    assert_right(&[put(0, 1, "a", ONE), failed, get(4, 5, "a", Some(ONE))]);
}

#[test]
fn a_value_is_swapped_once() {
    let [first, second] = [3, 4].map(|new| swap([2, 9], [ONE, ValueId(new)], true, Some(ONE)));
    wrong(&[put(0, 1, "a", ONE), first.clone(), second]);
    let late = swap([2, 9], [ONE, ValueId(4)], false, Some(ValueId(3)));
    assert_right(&[put(0, 1, "a", ONE), late, first]);
}

#[test]
fn the_answer_to_a_swap_does_not_contradict_itself() {
    for (swapped, previous) in [(true, TWO), (false, ONE)] {
        let swap = swap([2, 3], [ONE, ValueId(3)], swapped, Some(previous));
        let violation = wrong(&[put(0, 9, "a", ONE), put(0, 9, "a", TWO), swap]);
        assert!(matches!(*violation.reason, Reason::Contradiction { .. }), "{violation}");
    }
}

#[test]
fn clients_see_writes_in_one_order() {
    let writes = [put(0, 100, "a", ONE), put(0, 100, "a", TWO)];
    let one = [get(1, 2, "a", Some(ONE)), get(5, 6, "a", Some(TWO))];
    let other = [get(1, 2, "a", Some(TWO)), get(5, 6, "a", Some(ONE))];
    assert_right(&[writes.as_slice(), &one].concat());
    assert_right(&[writes.as_slice(), &other].concat());
    let violation = wrong(&[writes.as_slice(), &one, &other].concat());
    assert!(matches!(*violation.reason, Reason::BothFirst { .. }), "{violation}");
}

#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    assert_right(&[
        put_both(0, 9, Outcome::Written),
        get_both(1, 2, [None, None]),
        get_both(3, 4, [Some(ONE), Some(TWO)]),
    ]);
    let violation = wrong(&[put_both(0, 9, Outcome::Written), get_both(1, 2, [Some(ONE), None])]);
    assert_eq!((violation.keys.len(), &*violation.reason), (2, &Reason::NoOrder));
    // Two single reads tell as much when one follows the other.
    let gets = [get(1, 2, "a", Some(ONE)), get(3, 4, "b", None)];
    wrong(&[[put_both(0, 9, Outcome::Written)].as_slice(), &gets].concat());
    wrong(&[[put_both(0, 0, Outcome::Unknown)].as_slice(), &gets].concat());
    // The first may have come before the batch.
    assert_right(&[put_both(0, 9, Outcome::Written), get(1, 2, "b", None), get(3, 4, "a", Some(ONE))]);
}

#[test]
fn a_batch_joins_its_keys_and_no_others() {
    let mut calls = vec![put_both(0, 1, Outcome::Written), get_both(2, 3, [Some(ONE), Some(TWO)])];
    calls.extend([put(0, 1, "c", ONE), get(2, 3, "c", None)]);
    assert_eq!(wrong(&calls).keys, vec![Key::from("c")]);
}

#[test]
fn an_unknown_write_may_be_seen_later_or_never() {
    assert_right(&[put_unknown(0, "a", ONE)]);
    assert_right(&[put_unknown(0, "a", ONE), get(5, 6, "a", None), get(7, 8, "a", None)]);
    assert_right(&[put_unknown(0, "a", ONE), get(5, 6, "a", None), get(7, 8, "a", Some(ONE))]);
    assert_right(&[
        put_both(0, 1, Outcome::Unknown),
        get_both(2, 3, [None; 2]),
        get_both(4, 5, [Some(ONE), Some(TWO)]),
    ]);
    let mut history = History::new();
    history.invoke(1, Operation::put("a", ONE));
    let get = history.invoke(2, Operation::get("a"));
    history.complete(get, Outcome::Read(Some(ONE)));
    history.invoke(2, Operation::get("a"));
    assert!(check(&history, &Limits::default()).is_ok(), "no answer is as good as an unknown one");
}

#[test]
fn an_unknown_write_that_was_seen_stays() {
    let calls = [put_unknown(0, "a", ONE), get(5, 6, "a", Some(ONE)), get(7, 8, "a", None)];
    let violation = wrong(&calls);
    assert!(matches!(*violation.reason, Reason::Lost { .. }), "{violation}");
    let calls =
        [put(0, 1, "a", TWO), put_unknown(2, "a", ONE), get(5, 6, "a", Some(ONE)), get(7, 8, "a", Some(TWO))];
    let violation = wrong(&calls);
    assert!(matches!(*violation.reason, Reason::BothFirst { .. }), "{violation}");
}

#[test]
fn an_unknown_swap_that_was_seen_has_seen_what_it_expected() {
    let swap = |new| Operation::compare_and_swap("a", Some(ONE), new);
    let unknown = (2, 3, swap(TWO), Outcome::Unknown);
    assert_right(&[
        put(0, 1, "a", ONE),
        unknown.clone(),
        get(4, 5, "a", Some(ONE)),
        get(6, 7, "a", Some(TWO)),
    ]);
    assert_right(&[put_unknown(0, "a", ONE), unknown.clone(), get(6, 7, "a", Some(TWO))]);
    wrong(&[unknown.clone(), get(6, 7, "a", Some(TWO))]);
    let violation = wrong(&[put(8, 9, "a", ONE), unknown, get(6, 7, "a", Some(TWO))]);
    assert_eq!(violation.prefix_end, 7);
}

#[test]
fn an_unknown_delete_happens_at_most_once() {
    let before =
        [put(0, 1, "a", ONE), delete_unknown(2, "a"), get(3, 4, "a", Some(ONE)), get(5, 6, "a", None)];
    assert_right(&before);
    let again = [put(7, 8, "a", TWO), get(9, 10, "a", None)];
    wrong(&[before.as_slice(), &again].concat());
    assert_right(&[before.as_slice(), &[delete_unknown(2, "a")], &again].concat());
    wrong(&[before.as_slice(), &again, &[delete_unknown(11, "a")]].concat());
    // At equal ticks it may have come first.
    assert_right(&[before.as_slice(), &again, &[delete_unknown(10, "a")]].concat());
}

#[test]
fn a_failed_swap_may_reuse_its_value() {
    let failed = swap([2, 3], [TWO, ValueId(3)], false, Some(ONE));
    let swapped = swap([4, 5], [ONE, ValueId(3)], true, Some(ONE));
    assert_right(&[put(0, 1, "a", ONE), failed, swapped, get(6, 7, "a", Some(ValueId(3)))]);
}

#[test]
#[should_panic(expected = "is not fresh")]
fn a_value_that_is_written_twice_is_refused() {
    let _ = verdict(&[put(0, 1, "a", ONE), put(2, 3, "a", ONE)]);
}

/// Writes of many keys at the same time, and two snapshots that see two of them in different orders: all orders of the rest are tried.
fn hard(keys: u64) -> History {
    let names: Vec<Key> = (0..keys).map(|number| number.to_string().into_bytes()).collect();
    let mut calls: Vec<Said> = Vec::new();
    for (number, name) in (0..).zip(&names) {
        calls.push((0, 100, Operation::Put { key: name.clone(), value: ValueId(number) }, Outcome::Written));
    }
    for seen in 0..2 {
        let values = (0..keys).map(|number| (number == seen).then_some(ValueId(number))).collect();
        calls.push((0, 100, Operation::BatchGet { keys: names.clone() }, Outcome::BatchRead(values)));
    }
    history(&calls)
}

#[test]
fn what_takes_too_long_is_undecided_and_never_wrong() {
    let violation = check(&hard(10), &Limits::default()).expect_err("the snapshots contradict each other");
    assert_eq!(*violation.reason, Reason::NoOrder);
    let few = Limits { configurations_max: 100, ..Limits::default() };
    let small = Limits { cache_bytes_max: 1000, ..Limits::default() };
    for limits in [few, small] {
        let verdict = check(&hard(10), &limits);
        assert!(
            matches!(verdict, Ok(Verdict::Undecided { ref keys, .. }) if keys.len() == 10),
            "{verdict:?}"
        );
    }
}

#[test]
fn an_explanation_shows_what_was_written_and_seen_long_ago() {
    let mut calls = vec![put(0, 1, "a", ONE), get(2, 99, "a", Some(TWO)), put(200, 201, "a", TWO)];
    calls.extend((0..40).map(|number| put(10 + number, 60, "a", ValueId(10 + number))));
    calls.push(get(61, 300, "a", Some(ONE)));
    let violation = wrong(&calls);
    assert_eq!(violation.prefix_end, 99);
    assert!(violation.operations.len() < calls.len(), "{violation}");
    assert!(violation.operations.iter().any(|record| record.id == CallId(1)), "{violation}");
    calls.remove(1);
    let violation = wrong(&calls);
    assert_eq!(violation.prefix_end, 300);
    assert!(violation.operations.iter().any(|record| record.id == CallId(0)), "{violation}");
}
