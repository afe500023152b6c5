//! Rows that are clients at random, and some of the trouble and some of the administrator's wishes at random: plays of tests/campaign. Every answer is
//! judged for linearizability; after each trouble all keys must take writes again in time; at the end the replicas are compared.

use crate::stage::{STORES, demand_short_logs, never, program, settings, snapshots, stage};
use pinion_campaign::administrator::Wishes;
use pinion_campaign::clients::Load;
use pinion_campaign::cluster::{Cluster, Plan};
use pinion_campaign::play::{Setting, play};
use pinion_campaign::shared::Shared;
use pinion_campaign::trouble::{Kind, Trouble, Troubles};
use pinion_workload::Random;
use pinion_workload::course::Row;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How long clients are at work, at least and at most; between the two a row ends when all that it is about has come.
const TIME_MIN: Duration = Duration::from_secs(3);
const TIME_MAX: Duration = Duration::from_secs(30);
/// How long clients go on when all is mended.
const CALM: Duration = Duration::from_secs(1);
/// Operations a second, of all clients together.
const RATE: u64 = 300;
/// What must be done at least.
const OPERATIONS_MIN: u64 = 200;
/// Packets of a hundred that a lossy network loses.
const LOSS_PERCENT: u8 = 10;
/// How long a trouble lasts at most: several elections.
const LASTS_MAX: Duration = Duration::from_secs(2);
/// How long the administrator rests at most.
const RESTS_MAX: Duration = Duration::from_millis(500);
/// Regions of a new cluster: the system's, and one for each zone of keys.
const REGIONS: usize = 3;
/// Entries that logs keep in rows about snapshots: fewer than a follower misses that is away for a second.
const LOG_ENTRIES_MAX: u64 = 16;
/// Names a number that chooses keys, values and troubles.
const SEED: &str = "PINION_REALTIME_SEED";

fn setting_of(row: &Row) -> Setting {
    let raft = format!("[raft]\nlog_entries_max = {LOG_ENTRIES_MAX}\n");
    Setting {
        plan: Plan {
            stores: STORES,
            voters: usize::from(STORES),
            settings: settings(usize::from(STORES), if row.snapshots { &raft } else { "" }),
            borders: Vec::new(),
        },
        load: Load {
            clients: row.clients,
            rate: RATE,
            rests_max: RESTS_MAX,
            wishes: Wishes { transfers: row.changes, splits: row.splits, changes: row.changes },
        },
        troubles: Troubles {
            deck: match (row.restarts, row.parted) {
                (false, false) => &[],
                (true, false) => &[Kind::Kill, Kind::KillAll],
                (false, true) => &[Kind::Sides, Kind::TwoWay],
                (true, true) => &[Kind::Sides, Kind::KillAll],
            },
            lasts_max: LASTS_MAX,
            kills_amid_cuts: u64::from(row.restarts),
        },
        calm: CALM,
        loss_percent: if row.lossy { LOSS_PERCENT } else { 0 },
    }
}

/// What has not come that the row is about; the snapshots that there were at the start do not count.
fn lacks(row: &Row, trouble: &Trouble, snapshots_before: usize) -> Option<&'static str> {
    let (shared, works) = (&trouble.cluster.shared, &trouble.cluster.shared.works);
    let changes = works.removals.load(Relaxed) + works.demotions.load(Relaxed);
    let demands = [
        (shared.done() >= OPERATIONS_MIN, "operations"),
        (trouble.had_all(), "trouble of every kind"),
        (!row.changes || changes > 0, "changes of members"),
        (!row.splits || works.splits.load(Relaxed) > 0, "splits"),
        // Of a network that merely loses packets nobody can say whether a follower falls so far behind.
        (
            !(row.snapshots && (row.restarts || row.parted))
                || all_snapshots(&trouble.cluster) > snapshots_before,
            "snapshots",
        ),
    ];
    demands.into_iter().find(|(holds, _)| !holds).map(|(_, what)| what)
}

fn all_snapshots(cluster: &Cluster) -> usize {
    cluster.stores.iter().map(|store| snapshots(store, "")).sum()
}

fn run(name: &str, row: &Row, work: &Path) {
    let seed = std::env::var(SEED).map_or_else(|_| seed_of_clock(), |seed| seed.parse().unwrap());
    println!("{name}: again with {SEED}={seed}");
    let made = Instant::now();
    let mut begun = None;
    let goes_on = |trouble: &Trouble| {
        let (begun, before) = *begun.get_or_insert_with(|| (Instant::now(), all_snapshots(&trouble.cluster)));
        let time = begun.elapsed();
        time < TIME_MIN || (time < TIME_MAX && lacks(row, trouble, before).is_some())
    };
    let shared = Arc::new(Shared::default());
    let played = play(&setting_of(row), program(), work, &shared, never(), Random::new(seed), goes_on);
    let mut played = played.unwrap_or_else(|error| panic!("{error:#}"));
    let rest = played.end(program()).unwrap_or_else(|error| panic!("{error:#}"));
    let (before, works) = (begun.unwrap().1, &shared.works);
    let came: Vec<String> = played
        .trouble
        .counts()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    println!(
        "{name}: {:.1} s, {:.1} of them load: {} of {} operations done, {} keys checked; {} packets lost, {} snapshots, {} splits, {} voters \
         removed, {} demoted; {}; {}",
        made.elapsed().as_secs_f64(),
        played.time.as_secs_f64(),
        shared.done(),
        shared.operations(),
        works.keys_checked.load(Relaxed),
        played.packets_lost,
        all_snapshots(&played.trouble.cluster) - before,
        works.splits.load(Relaxed),
        works.removals.load(Relaxed),
        works.demotions.load(Relaxed),
        came.join(", "),
        played.trouble.recoveries()
    );
    assert_eq!(lacks(row, &played.trouble, before), None, "what never came within {TIME_MAX:?}");
    assert_eq!(works.keys_undecided.load(Relaxed), 0, "the checker's limits were reached");
    assert_eq!(played.packets_lost > 0, row.lossy);
    assert!(rest.keys > 0);
    assert!(rest.regions >= REGIONS + usize::from(row.splits), "{} regions", rest.regions);
    if row.snapshots {
        for store in &played.trouble.cluster.stores {
            demand_short_logs(store, LOG_ENTRIES_MAX);
        }
    }
}

/// A seed nobody chose.
fn seed_of_clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::from(since.subsec_nanos())
}

macro_rules! row {
    ($name:ident: $row:expr) => {
        #[test]
        fn $name() {
            stage(stringify!($name), |work| run(stringify!($name), &$row, work));
        }
    };
}

pinion_workload::course_rows! { row }
