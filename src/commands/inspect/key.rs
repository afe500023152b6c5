//! `pinion inspect DIR key KEY`: the versions of a raw key, in the log and in the tables.

use crate::cli::exit;
use crate::cli::raw::Output;
use crate::commands::text::Notation;
use pinion_engine::batch::{Operation, WriteBatch};
use pinion_engine::cache::BlockCache;
use pinion_engine::table::{EntryKind, ReadOptions, SEQUENCE_MAX, Table, TableId};
use pinion_engine::{ExaminedRegion, ExaminedStore};
use pinion_shard::command::{self, Body, Command};
use pinion_shard::value;
use pinion_types::key::Zone;
use pinion_types::{ColumnFamily, LogIndex, RegionId};
use serde_json::json;
use std::ffi::OsStr;
use std::process::ExitCode;

const CACHE_BYTES: usize = 1 << 20;

/// What is looked for, and how it is printed.
struct Wanted {
    family: ColumnFamily,
    stored: Vec<u8>,
    notation: Notation,
    output: Output,
    found: bool,
}

impl Wanted {
    fn print(&mut self, place: &str, position: u64, what: &str, stored_value: Option<&[u8]>) {
        self.found = true;
        let opened = stored_value.and_then(|stored| Some((value::open(stored)?, stored)));
        let text = opened.as_ref().map(|(opened, stored)| self.notation.show(&stored[opened.value_offset..]));
        let expiry = opened.as_ref().and_then(|(opened, _)| opened.expiry_ms);
        match self.output {
            Output::Plain => {
                let expiry = expiry.map_or_else(String::new, |expiry| format!("\texpires={expiry}"));
                println!("{place}\t{position}\t{what}\t{}{expiry}", text.unwrap_or_default());
            }
            Output::Json => println!(
                "{}",
                json!({"place": place, "position": position, "what": what, "value": text, "expiry_ms": expiry})
            ),
        }
    }
}

/// Prints what the log has of the key and is not in tables yet, newest last, then what each table has, newest first.
pub(super) async fn show(
    store: &ExaminedStore,
    key: &OsStr,
    family: ColumnFamily,
    hex: bool,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let notation = Notation::new(hex);
    let stored = Zone::Raw.stored(&notation.argument(key)?);
    let mut wanted = Wanted { family, stored, notation, output, found: false };
    for (id, region) in &store.regions {
        let region = region.as_ref().map_err(|error| anyhow::anyhow!("region {id}: {error}"))?;
        if !super::described(region).contains(&wanted.stored) {
            continue;
        }
        in_log(store, *id, region, &mut wanted)?;
        in_tables(region, &mut wanted).await?;
    }
    Ok(if wanted.found { ExitCode::SUCCESS } else { ExitCode::from(exit::NOT_FOUND) })
}

fn in_log(
    store: &ExaminedStore,
    id: RegionId,
    region: &ExaminedRegion,
    wanted: &mut Wanted,
) -> anyhow::Result<()> {
    let Some(Ok(log)) = store.cores.get(&region.core) else { return Ok(()) };
    let Some(entries) = log.entries.get(&id) else { return Ok(()) };
    for (index, entry) in entries.range(LogIndex(region.state.applied_index + 1)..) {
        if entry.payload.is_empty() {
            continue;
        }
        let (_, body) = command::decode(&entry.payload)?;
        let Body::Commands(commands) = body else { continue };
        let place = if *index <= region.hard_state.2 { "log" } else { "log, perhaps not committed" };
        for command in commands {
            in_command(place, *index, &command, wanted)?;
        }
    }
    Ok(())
}

fn in_command(place: &str, index: LogIndex, command: &Command, wanted: &mut Wanted) -> anyhow::Result<()> {
    let position = index.0;
    match command {
        Command::CompareAndSwap(swap) => {
            if (swap.family, &swap.key[..]) == (wanted.family, &wanted.stored[..]) {
                wanted.print(place, position, "compare and swap", swap.new.as_deref());
            }
        }
        Command::Write(batch) => {
            for operation in &WriteBatch::decode(batch)? {
                match operation {
                    Operation::Put { family, key, value }
                        if (family, key) == (wanted.family, &wanted.stored[..]) =>
                    {
                        wanted.print(place, position, "put", Some(value));
                    }
                    Operation::Delete { family, key }
                        if (family, key) == (wanted.family, &wanted.stored[..]) =>
                    {
                        wanted.print(place, position, "delete", None);
                    }
                    Operation::DeleteRange { family, start, end }
                        if family == wanted.family
                            && start <= &wanted.stored[..]
                            && (end.is_empty() || &wanted.stored[..] < end) =>
                    {
                        wanted.print(place, position, "delete range", None);
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

async fn in_tables(region: &ExaminedRegion, wanted: &mut Wanted) -> anyhow::Result<()> {
    let cache = BlockCache::new(CACHE_BYTES);
    let tree_key = [&[wanted.family.as_byte()], &wanted.stored[..]].concat();
    for (number, reference) in (0..).zip(&region.state.tables) {
        let path = region.directory.join(reference.file_name());
        let place = format!("level {}, {}", reference.level, path.display());
        let table = Table::open(&path, TableId(number), &cache).await?;
        let mut entries = table.iter(ReadOptions::default());
        entries.seek(&tree_key, SEQUENCE_MAX).await?;
        while entries.valid() && entries.key() == tree_key {
            let entry = entries.entry();
            let (sequence, is_put) = (entry.sequence, entry.kind == EntryKind::Put);
            let value = is_put.then(|| entry.value.to_vec());
            wanted.print(&place, sequence, if is_put { "put" } else { "delete" }, value.as_deref());
            entries.next().await?;
        }
        for tombstone in table.range_tombstones() {
            if tombstone.start <= tree_key && tree_key < tombstone.end {
                wanted.print(&place, tombstone.sequence, "delete range", None);
            }
        }
    }
    Ok(())
}
