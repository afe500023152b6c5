//! Rows of the course (its projects 2B, 2C and 3B) that are clients and trouble at random: what each is about. The simulator plays them over many
//! seeds, and real stores once each.

/// What a row is about.
#[expect(clippy::struct_excessive_bools, reason = "each is a kind of trouble of its own")]
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// How many clients there are, each with one call at a time.
    pub clients: u32,
    /// The network loses packets, or delays and cuts connections.
    pub lossy: bool,
    /// Stores are killed and start again.
    pub restarts: bool,
    /// The network is parted.
    pub parted: bool,
    /// Regions get other members and leaders.
    pub changes: bool,
    /// Regions are split.
    pub splits: bool,
    /// Logs are so short that who was away for a moment needs a snapshot.
    pub snapshots: bool,
}

/// Clients, and nothing else.
pub const PLAIN: Row = Row {
    clients: 5,
    lossy: false,
    restarts: false,
    parted: false,
    changes: false,
    splits: false,
    snapshots: false,
};

/// Calls the caller's macro with each row, as `name: row`. The names are the course's, so that its table can be ticked off by listing the
/// tests.
#[macro_export]
macro_rules! course_rows {
    ($one:ident) => {
        $one! { test_basic_2b: $crate::course::Row { clients: 1, ..$crate::course::PLAIN } }
        $one! { test_concurrent_2b: $crate::course::PLAIN }
        $one! { test_unreliable_2b: $crate::course::Row { lossy: true, ..$crate::course::PLAIN } }
        $one! { test_many_partitions_one_client_2b: $crate::course::Row { clients: 1, parted: true, ..$crate::course::PLAIN } }
        $one! { test_many_partitions_many_clients_2b: $crate::course::Row { parted: true, ..$crate::course::PLAIN } }
        $one! { test_persist_one_client_2b: $crate::course::Row { clients: 1, restarts: true, ..$crate::course::PLAIN } }
        $one! { test_persist_concurrent_2b: $crate::course::Row { restarts: true, ..$crate::course::PLAIN } }
        $one! { test_persist_concurrent_unreliable_2b: $crate::course::Row { restarts: true, lossy: true, ..$crate::course::PLAIN } }
        $one! { test_persist_partition_2b: $crate::course::Row { restarts: true, parted: true, ..$crate::course::PLAIN } }
        $one! { test_persist_partition_unreliable_2b: $crate::course::Row { restarts: true, parted: true, lossy: true, ..$crate::course::PLAIN } }
        $one! { test_snapshot_recover_2c: $crate::course::Row { clients: 1, restarts: true, snapshots: true, ..$crate::course::PLAIN } }
        $one! { test_snapshot_recover_many_clients_2c: $crate::course::Row { clients: 20, restarts: true, snapshots: true, ..$crate::course::PLAIN } }
        $one! { test_snapshot_unreliable_2c: $crate::course::Row { lossy: true, snapshots: true, ..$crate::course::PLAIN } }
        $one! { test_snapshot_unreliable_recover_2c: $crate::course::Row { lossy: true, restarts: true, snapshots: true, ..$crate::course::PLAIN } }
        $one! { test_snapshot_unreliable_recover_concurrent_partition_2c: $crate::course::Row { lossy: true, restarts: true, parted: true, snapshots: true, ..$crate::course::PLAIN } }
        $one! { test_conf_change_recover_3b: $crate::course::Row { clients: 1, changes: true, restarts: true, ..$crate::course::PLAIN } }
        $one! { test_conf_change_recover_many_clients_3b: $crate::course::Row { clients: 20, changes: true, restarts: true, ..$crate::course::PLAIN } }
        $one! { test_conf_change_unreliable_3b: $crate::course::Row { changes: true, lossy: true, ..$crate::course::PLAIN } }
        $one! { test_conf_change_unreliable_recover_3b: $crate::course::Row { changes: true, lossy: true, restarts: true, ..$crate::course::PLAIN } }
        $one! { test_conf_change_snapshot_unreliable_recover_3b: $crate::course::Row { changes: true, lossy: true, restarts: true, snapshots: true, ..$crate::course::PLAIN } }
        $one! { test_conf_change_snapshot_unreliable_recover_concurrent_partition_3b: $crate::course::Row { changes: true, lossy: true, restarts: true, parted: true, snapshots: true, ..$crate::course::PLAIN } }
        $one! { test_split_recover_3b: $crate::course::Row { clients: 1, splits: true, restarts: true, ..$crate::course::PLAIN } }
        $one! { test_split_recover_many_clients_3b: $crate::course::Row { clients: 20, splits: true, restarts: true, ..$crate::course::PLAIN } }
        $one! { test_split_unreliable_3b: $crate::course::Row { splits: true, lossy: true, ..$crate::course::PLAIN } }
        $one! { test_split_unreliable_recover_3b: $crate::course::Row { splits: true, lossy: true, restarts: true, ..$crate::course::PLAIN } }
        $one! { test_split_conf_change_snapshot_unreliable_recover_3b: $crate::course::Row { splits: true, changes: true, lossy: true, restarts: true, snapshots: true, ..$crate::course::PLAIN } }
        $one! { test_split_conf_change_snapshot_unreliable_recover_concurrent_partition_3b: $crate::course::Row { splits: true, changes: true, lossy: true, restarts: true, parted: true, snapshots: true, ..$crate::course::PLAIN } }
    };
}
