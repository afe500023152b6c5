//! The device itself on trial: what was synced must survive its cut, and what was not must be lost in part. A device that loses nothing
//! would find no fault in anybody.

use crate::medium::Medium;
use anyhow::{Result, ensure};
use pinion_workload::Random;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const BLOCK_LEN: usize = 4096;
const BLOCKS: usize = 500;

/// What a cut left of blocks that were overwritten.
#[derive(Debug, Default, PartialEq, Eq)]
struct Blocks {
    new: usize,
    old: usize,
    torn: usize,
}

pub(crate) fn run(medium: &mut dyn Medium, random: &mut Random) -> Result<()> {
    let folder = medium.data_dir();
    std::fs::create_dir_all(&folder)?;
    for name in ["synced", "unsynced"] {
        let mut file = File::create(folder.join(name))?;
        file.write_all(&vec![0; BLOCK_LEN * BLOCKS])?;
        file.sync_all()?;
    }
    File::open(&folder)?.sync_all()?;
    overwrite(&folder.join("synced"), libc::O_DIRECT | libc::O_DSYNC)?;
    overwrite(&folder.join("unsynced"), libc::O_DIRECT)?;
    medium.fail(random)?;
    medium.recover()?;
    let (synced, unsynced) = (found(&folder.join("synced"))?, found(&folder.join("unsynced"))?);
    println!("synced: {synced:?}; not synced: {unsynced:?}");
    ensure!(synced == Blocks { new: BLOCKS, old: 0, torn: 0 }, "the device lost what was synced");
    ensure!(unsynced.old > 0 && unsynced.torn > 0, "the device lost nothing, or tore nothing");
    Ok(())
}

/// Direct writes need aligned memory: a page-aligned part of a larger buffer.
fn aligned(buffer: &mut [u8]) -> &mut [u8] {
    let skip = buffer.as_ptr().align_offset(BLOCK_LEN);
    &mut buffer[skip..skip + BLOCK_LEN]
}

fn overwrite(path: &Path, flags: i32) -> Result<()> {
    let mut file = File::options().write(true).custom_flags(flags).open(path)?;
    let mut buffer = vec![0; 2 * BLOCK_LEN];
    let block = aligned(&mut buffer);
    block.fill(1);
    for index in 0..BLOCKS {
        file.seek(SeekFrom::Start(u64::try_from(index * BLOCK_LEN)?))?;
        file.write_all(block)?;
    }
    Ok(())
}

fn found(path: &Path) -> Result<Blocks> {
    let mut content = Vec::new();
    File::open(path)?.read_to_end(&mut content)?;
    ensure!(content.len() == BLOCK_LEN * BLOCKS, "{}: {} bytes", path.display(), content.len());
    let mut blocks = Blocks::default();
    for block in content.chunks(BLOCK_LEN) {
        match (block.contains(&0), block.contains(&1)) {
            (false, _) => blocks.new += 1,
            (true, false) => blocks.old += 1,
            (true, true) => blocks.torn += 1,
        }
    }
    Ok(blocks)
}
