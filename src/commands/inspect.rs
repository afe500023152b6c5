//! `pinion inspect`: a stopped store's files, as a start would read them. Nothing is changed.

mod key;
mod verify;

use crate::cli::exit;
use crate::cli::raw::Output;
use crate::cli::server::{InspectArguments, InspectCommand};
use crate::commands::region::bound;
use crate::server::data_dir;
use bytes::Bytes;
use pinion_engine::log::{ReadBody, inspect};
use pinion_engine::{ExaminedRegion, ExaminedStore, core_directory, examine};
use pinion_shard::command::{self, Body, Command};
use pinion_shard::identity::Identity;
use pinion_shard::meta::Meta;
use pinion_shard::structures::{Structures, Tombstone};
use pinion_types::{CoreId, Region};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;

/// Runs the mode.
pub(crate) fn run(arguments: &InspectArguments) -> anyhow::Result<ExitCode> {
    let arguments = arguments.clone();
    pinion_runtime::machine::block_on(async move { look(arguments).await })?
}

async fn look(arguments: InspectArguments) -> anyhow::Result<ExitCode> {
    let InspectArguments { directory, output, command } = arguments;
    let _lock = data_dir::open_to_look(&directory).await?;
    let store = examine(&directory).await?;
    let mut printer = Printer { output, damaged: false };
    match command {
        None => overview(&store, &mut printer),
        Some(InspectCommand::Log) => log(&directory, &store, &mut printer).await?,
        Some(InspectCommand::Manifest) => manifests(&store, &mut printer),
        Some(InspectCommand::Tables) => tables(&store, &mut printer),
        Some(InspectCommand::Key { key, family, hex }) => {
            return key::show(&store, &key, family, hex, output).await;
        }
        Some(InspectCommand::Verify) => verify::all(&store, &mut printer).await,
    }
    Ok(if printer.damaged { ExitCode::from(exit::ERROR) } else { ExitCode::SUCCESS })
}

/// Prints lines, as fields or as JSON.
struct Printer {
    output: Output,
    /// Something was found to be wrong.
    damaged: bool,
}

impl Printer {
    /// Prints one line: its fields' names and values.
    fn line(&self, kind: &str, fields: &[(&str, Value)]) {
        match self.output {
            Output::Plain => {
                let fields: Vec<String> =
                    fields.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
                println!("{kind}\t{}", fields.join("\t"));
            }
            Output::Json => {
                let mut object = json!({ "kind": kind });
                for (name, value) in fields {
                    object[*name] = value.clone();
                }
                println!("{object}");
            }
        }
    }

    /// Prints what is wrong.
    fn damage(&mut self, what: &str, error: &dyn std::fmt::Display) {
        self.damaged = true;
        self.line("damaged", &[("what", what.into()), ("error", error.to_string().into())]);
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A region's description, or an empty one where it cannot be read.
fn described(region: &ExaminedRegion) -> Region {
    Meta::decode(region.meta.clone()).map(|meta| meta.region).unwrap_or_default()
}

fn overview(store: &ExaminedStore, printer: &mut Printer) {
    for (core, log) in &store.cores {
        match log {
            Ok(log) => {
                own(&log.recovered.structures, printer);
                let fields = [
                    ("id", core.0.into()),
                    ("segments", log.segments.into()),
                    ("groups", log.groups.into()),
                    ("streams", log.recovered.streams.len().into()),
                    ("cut_groups", log.recovered.cut_groups.into()),
                ];
                printer.line("core", &fields);
            }
            Err(error) => printer.damage(&format!("log of core {core}"), error),
        }
    }
    for (id, region) in &store.regions {
        match region {
            Ok(region) => {
                let description = described(region);
                let bytes: u64 = region.state.tables.iter().map(|table| table.meta.file_len).sum();
                let fields = [
                    ("id", id.0.into()),
                    ("start", bound(&description.start, "-").into()),
                    ("end", bound(&description.end, "+").into()),
                    ("epoch", format!("{}.{}", description.epoch.conf_ver, description.epoch.version).into()),
                    ("core", region.core.0.into()),
                    ("tables", region.state.tables.len().into()),
                    ("table_bytes", bytes.into()),
                    ("flushed", region.state.applied_index.into()),
                    ("commit", region.hard_state.2.0.into()),
                    ("first", region.log.0.0.into()),
                    ("last", region.log.1.0.into()),
                ];
                printer.line("region", &fields);
            }
            Err(error) => printer.damage(&format!("region {id}"), error),
        }
    }
}

/// Who the store is, and which peers it must never have again, as far as a core's log says.
fn own(structures: &[Bytes], printer: &mut Printer) {
    let structures = match Structures::decode(structures) {
        Ok(structures) => structures,
        Err(error) => return printer.damage("identity", &error),
    };
    if let Some(Identity { cluster, store, .. }) = structures.identity {
        printer.line("store", &[("id", store.0.into()), ("cluster", format!("{cluster:016x}").into())]);
    }
    for Tombstone { region, peer, .. } in structures.tombstones {
        printer.line("tombstone", &[("region", region.0.into()), ("peer", peer.0.into())]);
    }
}

async fn log(directory: &Path, store: &ExaminedStore, printer: &mut Printer) -> anyhow::Result<()> {
    for (core, examined) in &store.cores {
        for segment in inspect(&core_directory(directory, *core).join("log")).await? {
            let (epoch, first_group) = segment.header.unwrap_or_default();
            let fields = [
                ("core", core.0.into()),
                ("file", segment.name.clone().into()),
                ("epoch", epoch.into()),
                ("first_group", first_group.into()),
                ("groups", segment.groups.len().into()),
            ];
            printer.line("segment", &fields);
            for group in &segment.groups {
                log_group(*core, group, printer);
            }
        }
        if let Err(error) = examined {
            printer.damage(&format!("log of core {core}"), error);
        }
    }
    Ok(())
}

fn log_group(core: CoreId, group: &pinion_engine::log::GroupSummary, printer: &mut Printer) {
    let records = match &group.records {
        Ok(records) => records,
        Err(what) => return printer.damage(&format!("group {} of core {core}", group.number), what),
    };
    let fields = [
        ("number", group.number.into()),
        ("offset", group.offset.into()),
        ("durable_through", group.durable_through.into()),
        ("records", records.len().into()),
    ];
    printer.line("group", &fields);
    for record in records {
        let what = match &record.body {
            ReadBody::Entry { index, term, kind, offset, len } => {
                let payload = group.body.slice(*offset..offset + len);
                format!("entry {index} of term {term}, {}, {len} bytes", said(*kind, &payload))
            }
            ReadBody::HardState { term, vote, commit } => {
                format!("term {term}, vote {vote}, commit {commit}")
            }
            ReadBody::Compact { index, term } => format!("compacted through {index} of term {term}"),
            ReadBody::Edit(payload) => format!("edit, {} bytes", payload.len()),
            ReadBody::Structure(payload) => format!("structure, {} bytes", payload.len()),
            ReadBody::Adopt { generation } => format!("adopted as generation {generation}"),
            ReadBody::Remove => "removed".to_owned(),
        };
        let fields =
            [("region", record.stream.0.into()), ("sequence", record.sequence.into()), ("what", what.into())];
        printer.line("record", &fields);
    }
}

/// What an entry says, in a word.
fn said(kind: u8, payload: &Bytes) -> String {
    match kind {
        _ if payload.is_empty() => "empty".to_owned(),
        0 => match command::decode(payload) {
            Ok((_, Body::Commands(commands))) => {
                let conditional = |command: &&Command| matches!(command, Command::CompareAndSwap(_));
                match commands.iter().filter(conditional).count() {
                    0 => "writes".to_owned(),
                    count if count == commands.len() => "swaps".to_owned(),
                    _ => "writes and swaps".to_owned(),
                }
            }
            Ok((_, Body::Split(_))) => "split".to_owned(),
            Ok((_, Body::Compact(..))) => "compaction".to_owned(),
            Err(error) => format!("unreadable ({error})"),
        },
        1 | 2 => "change of members".to_owned(),
        _ => format!("unknown kind {kind}"),
    }
}

fn manifests(store: &ExaminedStore, printer: &mut Printer) {
    for (id, region) in &store.regions {
        match region {
            Ok(region) => {
                let state = &region.state;
                let fields = [
                    ("region", id.0.into()),
                    ("edit", state.edit.into()),
                    ("generation", region.generation.into()),
                    ("applied_index", state.applied_index.into()),
                    ("applied_term", state.applied_term.into()),
                    ("last_sequence", state.last_sequence.into()),
                    ("next_file", state.next_file.into()),
                    ("tables", state.tables.len().into()),
                ];
                printer.line("manifest", &fields);
            }
            Err(error) => printer.damage(&format!("manifest of region {id}"), error),
        }
    }
}

fn tables(store: &ExaminedStore, printer: &mut Printer) {
    for (id, region) in &store.regions {
        let region = match region {
            Ok(region) => region,
            Err(error) => {
                printer.damage(&format!("manifest of region {id}"), error);
                continue;
            }
        };
        for table in &region.state.tables {
            let meta = &table.meta;
            let fields = [
                ("region", id.0.into()),
                ("file", region.directory.join(table.file_name()).display().to_string().into()),
                ("level", table.level.into()),
                ("bytes", meta.file_len.into()),
                ("entries", meta.entries.into()),
                ("tombstones", meta.tombstones.into()),
                ("range_tombstones", meta.range_tombstones.into()),
                ("smallest", bound(meta.smallest.get(1..).unwrap_or_default(), "-").into()),
                ("largest", bound(meta.largest.get(1..).unwrap_or_default(), "+").into()),
                ("bound_start", bound(&table.bound_start, "-").into()),
                ("bound_end", bound(&table.bound_end, "+").into()),
                ("sequences", format!("{}-{}", meta.smallest_sequence, meta.largest_sequence).into()),
            ];
            printer.line("table", &fields);
        }
    }
}
