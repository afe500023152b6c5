//! The calls that are made, and the records that they are about.

use anyhow::Result;
use clap::ValueEnum;
use etcd_client::{Client, Txn, TxnOp};

/// What is called.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Write every record once, and measure nothing
    Load,
    /// Puts of random records
    Put,
    /// Transactions of several puts, without a condition
    Txn,
    /// Linearizable gets of random records
    Get,
}

impl Workload {
    /// Operations that one call makes.
    pub(crate) fn operations(self, batch: u64) -> u64 {
        match self {
            Self::Txn => batch,
            Self::Load | Self::Put | Self::Get => 1,
        }
    }

    /// The name of such a call among the latencies of `pinion bench raw`.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Load | Self::Put => "update",
            Self::Txn => "batch",
            Self::Get => "read",
        }
    }
}

/// Calls about records `0..records` with values of one size.
#[derive(Clone)]
pub(crate) struct Calls {
    records: u64,
    value: Vec<u8>,
    batch: u64,
}

impl Calls {
    pub(crate) fn new(records: u64, value_size: usize, batch: u64) -> Self {
        // Nothing that can be compressed: neither side is to win by that.
        let words = (0..).flat_map(|number: u64| mix(number).to_le_bytes());
        Self { records, value: words.take(value_size).collect(), batch }
    }

    /// Writes every record once.
    pub(crate) async fn load(&self, mut connection: Client, batch: u64) -> Result<()> {
        let mut first = 0;
        while first < self.records {
            let end = self.records.min(first + batch);
            let puts: Vec<TxnOp> = (first..end).map(|record| self.put(record)).collect();
            connection.txn(Txn::new().and_then(puts)).await?;
            first = end;
        }
        Ok(())
    }

    /// One call; `choice` decides about which records.
    pub(crate) async fn call(&self, connection: &mut Client, workload: Workload, choice: u64) -> Result<()> {
        match workload {
            Workload::Load | Workload::Put => {
                connection.put(key(self.choose(choice)), self.value.clone(), None).await?;
            }
            Workload::Txn => {
                // A transaction may put a key once: neighbours are never the same one.
                let first = self.choose(choice);
                let puts: Vec<TxnOp> =
                    (0..self.batch).map(|next| self.put((first + next) % self.records)).collect();
                connection.txn(Txn::new().and_then(puts)).await?;
            }
            Workload::Get => {
                connection.get(key(self.choose(choice)), None).await?;
            }
        }
        Ok(())
    }

    fn choose(&self, choice: u64) -> u64 {
        mix(choice) % self.records
    }

    fn put(&self, record: u64) -> TxnOp {
        TxnOp::put(key(record), self.value.clone(), None)
    }
}

/// A record's key: neighbouring records lie far from each other.
fn key(record: u64) -> String {
    format!("user{:020}", mix(record))
}

/// The finaliser of splitmix64: a permutation of all numbers.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
