//! `pinion inspect DIR verify`: every checksum of logs, manifests and tables.

use super::Printer;
use pinion_engine::ExaminedStore;
use pinion_engine::cache::BlockCache;
use pinion_engine::table::{Table, TableId};

/// Bytes of blocks that are kept meanwhile: each is read once.
const CACHE_BYTES: usize = 1 << 20;

/// Reads everything and says what is wrong, each with its file and offset.
pub(super) async fn all(store: &ExaminedStore, printer: &mut Printer) {
    for (core, log) in &store.cores {
        match log {
            Ok(log) => {
                let fields = [
                    ("core", core.0.into()),
                    ("segments", log.segments.into()),
                    ("groups", log.groups.into()),
                ];
                printer.line("log", &fields);
            }
            Err(error) => printer.damage(&format!("log of core {core}"), error),
        }
    }
    let cache = BlockCache::new(CACHE_BYTES);
    let mut number = 0;
    for (id, region) in &store.regions {
        let region = match region {
            Ok(region) => region,
            Err(error) => {
                printer.damage(&format!("manifest of region {id}"), error);
                continue;
            }
        };
        for table in &region.state.tables {
            let path = region.directory.join(table.file_name());
            number += 1;
            let verified = match Table::open(&path, TableId(number), &cache).await {
                Ok(opened) => opened.verify().await,
                Err(error) => Err(error),
            };
            match verified {
                Ok(verified) => {
                    let fields = [
                        ("file", path.display().to_string().into()),
                        ("blocks", verified.blocks.into()),
                        ("entries", verified.entries.into()),
                    ];
                    printer.line("table", &fields);
                }
                Err(error) => printer.damage(&format!("table {}", path.display()), &error),
            }
        }
    }
    let outcome = if printer.damaged { "damage was found" } else { "every checksum matches" };
    printer.line("verified", &[("outcome", outcome.into())]);
}
