//! States, edits and their frames, damaged ones too.

use super::*;

fn table(file: u64, level: u8, smallest: &[u8], largest: &[u8]) -> TableRef {
    let meta = TableMeta {
        smallest: smallest.to_vec(),
        largest: largest.to_vec(),
        smallest_sequence: 1,
        largest_sequence: 9,
        ..TableMeta::default()
    };
    TableRef { file, level, meta, ..TableRef::default() }
}

fn edit(number: u64, removed: &[u64], added: &[TableRef]) -> ManifestEdit {
    ManifestEdit {
        number,
        removed: removed.to_vec(),
        added: added.to_vec(),
        next_file: 100,
        ..ManifestEdit::default()
    }
}

#[test]
fn states_and_edits_come_back_from_their_bytes() {
    let edit = edit(1, &[], &[table(3, 0, b"\0ra", b"\0rz"), table(4, 1, b"\0ra", b"\0rc")]);
    assert_eq!(ManifestEdit::from_bytes(&edit.to_bytes()).unwrap(), edit);
    let mut state = TreeState::default();
    assert!(state.apply(&edit).unwrap());
    assert_eq!(TreeState::from_bytes(&state.to_bytes()).unwrap(), state);
}

#[test]
fn an_edit_applied_again_changes_nothing() {
    let mut state = TreeState::default();
    let first = edit(1, &[], &[table(3, 0, b"\0ra", b"\0rz")]);
    let second = edit(2, &[3], &[table(3, 1, b"\0ra", b"\0rz")]);
    assert!(state.apply(&first).unwrap() && state.apply(&second).unwrap());
    let after = state.clone();
    assert!(!state.apply(&first).unwrap() && !state.apply(&second).unwrap());
    assert_eq!(state, after);
    assert_eq!(state.tables[0].level, 1);
}

#[test]
fn edits_that_do_not_fit_are_refused() {
    let mut state = TreeState::default();
    state.apply(&edit(1, &[], &[table(3, 1, b"\0ra", b"\0rm")])).unwrap();
    let before = state.clone();
    for wrong in [
        edit(3, &[], &[]),
        edit(2, &[7], &[]),
        edit(2, &[], &[table(3, 2, b"\0ra", b"\0rm")]),
        edit(2, &[], &[table(100, 2, b"\0ra", b"\0rm")]),
        edit(2, &[], &[table(5, 1, b"\0rc", b"\0rz")]),
        edit(2, &[], &[table(5, LEVELS_MAX, b"\0rc", b"\0rz")]),
        edit(2, &[], &[table(5, 2, b"\0rc", b"\x01rz")]),
        edit(2, &[], &[table(5, 2, b"\0rc", b"\0ra")]),
        edit(2, &[], &[table(5, 2, b"\x09rc", b"\x09rd")]),
        ManifestEdit { next_file: 4, ..edit(2, &[], &[]) },
    ] {
        assert!(state.apply(&wrong).is_err(), "{wrong:?}");
        assert_eq!(state, before, "a refused edit leaves the state as it was");
    }
}

#[test]
fn tables_may_touch_where_a_range_tombstone_was_cut() {
    let mut state = TreeState::default();
    let cut = [table(3, 1, b"\0ra", b"\0rm"), table(4, 1, b"\0rm", b"\0rz")];
    assert!(state.apply(&edit(1, &[], &cut)).unwrap());
}

#[test]
fn damage_is_found_at_every_byte() {
    let bytes = edit(1, &[], &[table(3, 0, b"\0ra", b"\0rz")]).to_bytes();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(ManifestEdit::from_bytes(&damaged).is_err(), "byte {at}");
        assert!(ManifestEdit::from_bytes(&bytes[..at]).is_err(), "cut to {at}");
    }
    assert!(TreeState::from_bytes(&bytes).is_err(), "an edit is no state");
}

#[test]
fn an_unknown_version_is_named() {
    let mut bytes = TreeState::default().to_bytes();
    bytes[4] = 2;
    assert!(matches!(TreeState::from_bytes(&bytes), Err(Error::ManifestVersion { got: 2, known: 1 })));
}

#[test]
fn bounds_clip_and_only_narrow() {
    let mut state = TreeState::default();
    state
        .apply(&edit(
            1,
            &[],
            &[
                table(3, 1, b"\0ra", b"\0rm"),
                table(4, 1, b"\0rn", b"\0rz"),
                table(5, 0, b"\x02ra", b"\x02rz"),
            ],
        ))
        .unwrap();
    let left = state.bounded(b"r", b"rk");
    assert_eq!(left.tables.iter().map(|table| table.file).collect::<Vec<_>>(), [5, 3]);
    assert_eq!(left.tables[0].clipped(), (b"\x02ra".to_vec(), b"\x02rk".to_vec()));
    assert_eq!(left.tables[1].clipped(), (b"\0ra".to_vec(), b"\0rk".to_vec()));
    assert_eq!(left.bounded(b"r", b""), left, "never widened");
    let right = state.bounded(b"rk", b"");
    assert_eq!(right.tables.len(), 3);
    assert_eq!(right.tables[1].clipped(), (b"\0rk".to_vec(), b"\0rm\0".to_vec()));
}

#[test]
fn table_names_are_numbers() {
    assert_eq!(table_file_name(42), "0000000042.sst");
    assert_eq!(table_file_number("0000000042.sst"), Some(42));
    for name in ["42.sst", "0000000042.sst.new", "x.sst", "0000000042", "+000000042.sst"] {
        assert_eq!(table_file_number(name), None, "{name}");
    }
}
