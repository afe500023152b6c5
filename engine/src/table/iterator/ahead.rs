//! Reading ahead.
#![deny(clippy::indexing_slicing, clippy::expect_used)]

use super::ReadOptions;
use crate::error::Result;
use crate::table::footer::Section;
use crate::table::reader::Table;
use pinion_runtime::fs::ReadBuffer;

/// What a scan reads at once with its second block.
const WINDOW_FIRST: usize = 16 << 10;
/// What is read at once at most.
const WINDOW_MAX: usize = 256 << 10;

/// A piece of the file that was read at once.
pub(in crate::table) struct Ahead {
    options: ReadOptions,
    next_len: usize,
    window: Option<(u64, ReadBuffer)>,
}

impl Ahead {
    pub(in crate::table) fn new(options: ReadOptions) -> Self {
        Self { options, next_len: WINDOW_FIRST, window: None }
    }

    /// How much to read where a block is missing; 0 for that block alone.
    pub(in crate::table) fn window_len(&mut self, sequential: bool) -> usize {
        match self.options {
            ReadOptions::Bulk => WINDOW_MAX,
            ReadOptions::Scan if sequential => {
                let len = self.next_len;
                self.next_len = (len * 2).min(WINDOW_MAX);
                len
            }
            ReadOptions::Scan => {
                self.next_len = WINDOW_FIRST;
                0
            }
        }
    }

    /// Reads a piece of the file in place of the one before.
    pub(in crate::table) async fn fill(&mut self, table: &Table, window: Section) -> Result<()> {
        self.window = None;
        let bytes = table.read(window).await?;
        self.window = Some((window.offset, bytes));
        Ok(())
    }

    /// A frame, when it lies whole in what was read.
    pub(in crate::table) fn frame(&self, section: Section) -> Option<&[u8]> {
        let (offset, bytes) = self.window.as_ref()?;
        let start = usize::try_from(section.offset.checked_sub(*offset)?).ok()?;
        bytes.get(start..start.checked_add(section.len as usize)?)
    }
}
