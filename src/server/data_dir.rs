//! The data directory: one store's, of one format, held by one process.
//!
//! The file `PINION` names the format:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | magic `PINIONKV` |
//! | 8 | 4 | format version of the directory, 1, little-endian |
//! | 12 | 4 | crc32 of the bytes before, little-endian |

use anyhow::{Context, Result, bail};
use pinion_runtime::fs::{self, DirLock};
use std::io;
use std::path::Path;

const MAGIC: &[u8; 8] = b"PINIONKV";
const VERSION: u32 = 1;
const FORMAT_FILE: &str = "PINION";
const LOCK_FILE: &str = "LOCK";

/// Takes the directory for this process: makes it when it does not exist, and refuses what is not a data directory of this format.
pub(crate) async fn open(path: &Path) -> Result<DirLock> {
    let shown = path.display();
    fs::create_dir_all(path).await.with_context(|| format!("cannot make the data directory {shown}"))?;
    // Before anything is written: what is not ours stays as it is.
    let _ = is_of_this_format(path).await?;
    let lock = match fs::lock(path.join(LOCK_FILE)).await {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => bail!(
            "the data directory {shown} is in use by another process: stop that one, or give this store a directory of its own"
        ),
        Err(error) => return Err(error).with_context(|| format!("cannot lock the data directory {shown}")),
    };
    make_format(path).await?;
    Ok(lock)
}

/// Takes the directory of a stopped store for looking at it; nothing in it is changed but the lock.
pub(crate) async fn open_to_look(path: &Path) -> Result<DirLock> {
    let (shown, file) = (path.display(), path.join(FORMAT_FILE));
    if !fs::exists(&file).await.with_context(|| format!("cannot look at {shown}"))? {
        bail!("{shown} has no file {FORMAT_FILE}: it is not a data directory of Pinion");
    }
    check(&fs::read(&file).await?).with_context(|| format!("{}", file.display()))?;
    match fs::lock(path.join(LOCK_FILE)).await {
        Ok(lock) => Ok(lock),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            bail!(
                "the data directory {shown} is in use by another process: stop it before looking at its files"
            )
        }
        Err(error) => Err(error).with_context(|| format!("cannot lock the data directory {shown}")),
    }
}

/// Makes an empty directory one of this format.
async fn make_format(path: &Path) -> Result<()> {
    if is_of_this_format(path).await? {
        return Ok(());
    }
    let file = path.join(FORMAT_FILE);
    fs::write_atomically(&file, &format_file())
        .await
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Whether the directory is of this format; `false` when it is empty.
async fn is_of_this_format(path: &Path) -> Result<bool> {
    let shown = path.display();
    let file = path.join(FORMAT_FILE);
    if fs::exists(&file).await? {
        check(&fs::read(&file).await?).with_context(|| format!("{}", file.display()))?;
        return Ok(true);
    }
    let others = fs::read_dir(path).await?.into_iter().find(|entry| {
        let ours = entry.name == LOCK_FILE || entry.name.starts_with(FORMAT_FILE);
        !ours
    });
    if let Some(other) = others {
        bail!(
            "{shown} holds {:?} but no file {FORMAT_FILE}: it is not a data directory of Pinion",
            other.name
        );
    }
    Ok(false)
}

fn format_file() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn check(bytes: &[u8]) -> Result<()> {
    let (Some(magic), Some(version), Some(checksum)) = (bytes.get(..8), word(bytes, 8), word(bytes, 12))
    else {
        bail!("the file is {} bytes, not 16: the directory is not Pinion's, or it is damaged", bytes.len());
    };
    if magic != MAGIC {
        bail!("the file does not begin with {}: the directory is not Pinion's", MAGIC.escape_ascii());
    }
    if checksum != crc32fast::hash(&bytes[..12]) {
        bail!("the checksum does not match: the file is damaged");
    }
    if version != VERSION {
        bail!(
            "the directory is of format {version}, and this program knows format {VERSION}: use the program that made it"
        );
    }
    Ok(())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_file_is_checked_to_the_byte() {
        let whole = format_file();
        check(&whole).unwrap();
        for position in 0..whole.len() {
            let mut changed = whole.clone();
            changed[position] ^= 1;
            assert!(check(&changed).is_err(), "byte {position}");
            assert!(check(&whole[..position]).is_err(), "{position} bytes");
        }
    }

    #[test]
    fn another_version_says_so() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&7u32.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        assert!(check(&bytes).unwrap_err().to_string().contains("format 7"));
    }
}
