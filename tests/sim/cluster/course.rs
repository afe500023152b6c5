//! Rows of the course (its projects 2B, 2C and 3B) in simulated time, over several seeds each: every row is the campaign with some of the trouble
//! and some of the administrator's wishes. The rows' names are the course's, so that its table can be ticked off by listing the tests.
//!
//! What a row's clients must find is more than the course demands: the whole history is judged, and replicas must hold the same.

use super::administrator::Wishes;
use super::campaign::{Setting, play_as};
use super::coverage::{Coverage, SNAPSHOTS};
use super::trouble::Fault;
use crate::seeds;
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

#[expect(clippy::struct_excessive_bools, reason = "each is a kind of trouble of its own")]
struct Row {
    clients: u32,
    lossy: bool,
    restarts: bool,
    parted: bool,
    changes: bool,
    splits: bool,
    snapshots: bool,
}

const PLAIN: Row = Row {
    clients: 5,
    lossy: false,
    restarts: false,
    parted: false,
    changes: false,
    splits: false,
    snapshots: false,
};

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

macro_rules! rows {
    ($($name:ident: $row:expr;)*) => {
        $(
            #[test]
            fn $name() {
                demand(stringify!($name), &$row);
            }
        )*
    };
}

rows! {
    test_basic_2b: Row { clients: 1, ..PLAIN };
    test_concurrent_2b: PLAIN;
    test_unreliable_2b: Row { lossy: true, ..PLAIN };
    test_many_partitions_one_client_2b: Row { clients: 1, parted: true, ..PLAIN };
    test_many_partitions_many_clients_2b: Row { parted: true, ..PLAIN };
    test_persist_one_client_2b: Row { clients: 1, restarts: true, ..PLAIN };
    test_persist_concurrent_2b: Row { restarts: true, ..PLAIN };
    test_persist_concurrent_unreliable_2b: Row { restarts: true, lossy: true, ..PLAIN };
    test_persist_partition_2b: Row { restarts: true, parted: true, ..PLAIN };
    test_persist_partition_unreliable_2b: Row { restarts: true, parted: true, lossy: true, ..PLAIN };
    test_snapshot_recover_2c: Row { clients: 1, restarts: true, snapshots: true, ..PLAIN };
    test_snapshot_recover_many_clients_2c: Row { clients: 20, restarts: true, snapshots: true, ..PLAIN };
    test_snapshot_unreliable_2c: Row { lossy: true, snapshots: true, ..PLAIN };
    test_snapshot_unreliable_recover_2c: Row { lossy: true, restarts: true, snapshots: true, ..PLAIN };
    test_snapshot_unreliable_recover_concurrent_partition_2c:
        Row { lossy: true, restarts: true, parted: true, snapshots: true, ..PLAIN };
    test_conf_change_recover_3b: Row { clients: 1, changes: true, restarts: true, ..PLAIN };
    test_conf_change_recover_many_clients_3b: Row { clients: 20, changes: true, restarts: true, ..PLAIN };
    test_conf_change_unreliable_3b: Row { changes: true, lossy: true, ..PLAIN };
    test_conf_change_unreliable_recover_3b: Row { changes: true, lossy: true, restarts: true, ..PLAIN };
    test_conf_change_snapshot_unreliable_recover_3b: Row { changes: true, lossy: true, restarts: true, snapshots: true, ..PLAIN };
    test_conf_change_snapshot_unreliable_recover_concurrent_partition_3b:
        Row { changes: true, lossy: true, restarts: true, parted: true, snapshots: true, ..PLAIN };
    test_split_recover_3b: Row { clients: 1, splits: true, restarts: true, ..PLAIN };
    test_split_recover_many_clients_3b: Row { clients: 20, splits: true, restarts: true, ..PLAIN };
    test_split_unreliable_3b: Row { splits: true, lossy: true, ..PLAIN };
    test_split_unreliable_recover_3b: Row { splits: true, lossy: true, restarts: true, ..PLAIN };
    test_split_conf_change_snapshot_unreliable_recover_3b:
        Row { splits: true, changes: true, lossy: true, restarts: true, snapshots: true, ..PLAIN };
    test_split_conf_change_snapshot_unreliable_recover_concurrent_partition_3b:
        Row { splits: true, changes: true, lossy: true, restarts: true, parted: true, snapshots: true, ..PLAIN };
}
