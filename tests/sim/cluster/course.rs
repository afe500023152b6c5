//! Rows of the course (its projects 2B, 2C and 3B) in simulated time, over several seeds each: every row is the campaign with some of the trouble
//! and some of the administrator's wishes. The rows' names are the course's, so that its table can be ticked off by listing the tests.
//!
//! What a row's clients must find is more than the course demands: the whole history is judged, and replicas must hold the same.

use super::administrator::Wishes;
use super::campaign::{Setting, play_as};
use super::coverage::{Coverage, SNAPSHOTS};
use super::trouble::Fault;
use crate::seeds;
use pinion_workload::course::Row;
use std::time::Duration;

/// Seeds of each row: as a plain test, and in a long campaign at most.
const FEW: u64 = 4;
const MANY: u64 = 20;

const LOSSY: &[Fault] = &[Fault::SlowNetwork, Fault::Reset, Fault::HalfOpen, Fault::OneWayCut];
const PARTED: &[Fault] = &[Fault::Partition, Fault::TwoWayCut];
const LOSSY_AND_PARTED: &[Fault] = &[
    Fault::SlowNetwork,
    Fault::Reset,
    Fault::HalfOpen,
    Fault::OneWayCut,
    Fault::Partition,
    Fault::TwoWayCut,
];
const RESTARTS: &[Fault] = &[Fault::PowerCut, Fault::PowerCutOfAll, Fault::Kill];

/// Entries that a log keeps, and where it is to be so short that whoever is away for a moment needs a snapshot.
const LOG_ENTRIES: u64 = 100;
const SHORT_LOG_ENTRIES: u64 = 2;

fn play(name: &str, row: &Row) -> Coverage {
    let setting = Setting {
        stores: 5..6,
        cores_max: 1,
        callers: row.clients,
        region_split_bytes: 0,
        log_entries_max: if row.snapshots { SHORT_LOG_ENTRIES } else { LOG_ENTRIES },
        lasts_min: Duration::from_secs(15),
        operations_min: 50 * u64::from(row.clients),
        kinds_min: usize::from(row.restarts) + usize::from(row.lossy) + usize::from(row.parted),
        of_stores: if row.restarts { RESTARTS } else { &[] },
        of_links: match (row.lossy, row.parted) {
            (false, false) => &[],
            (true, false) => LOSSY,
            (false, true) => PARTED,
            (true, true) => LOSSY_AND_PARTED,
        },
        of_machines: &[],
        wishes: Wishes { splits: row.splits, transfers: row.changes, changes: row.changes },
        snapshots_min: u64::from(row.snapshots),
        each_wish: true,
        joins: false,
    };
    seeds::play(name, FEW, MANY, |seed| play_as(&setting, seed).0)
}

/// Demands that what the row is about has happened.
fn demand(name: &str, row: &Row) {
    let reached = play(name, row);
    let demand = |what: &str| assert!(reached.get(what) > 0, "there were no {what}");
    demand("operations done");
    if row.splits {
        demand("engine: splits");
    }
    if row.changes {
        demand("asked: peers added");
        demand("asked: peers removed");
        demand("asked: peers moved");
        demand("asked: transfers of leadership");
    }
    if row.snapshots {
        demand(SNAPSHOTS);
    }
    if row.restarts {
        demand("restarts");
    }
}

macro_rules! row {
    ($name:ident: $row:expr) => {
        #[test]
        fn $name() {
            demand(stringify!($name), &$row);
        }
    };
}

pinion_workload::course_rows! { row }
