//! The log's files: which is written to, which is ready next, which hold something that is needed.
//!
//! Making a segment ready: a new file is written with zeros under a provisional name and synced, or a dead one is taken; then it gets its number by
//! a rename, and the directory is synced before anything of the new number is written. Its header is written when the log comes to
//! it, at the same time as its first group, and the group is not acknowledged before the header is durable.

use super::format::{BLOCK, segment_name};
use super::{Log, LogConfig};
use crate::Error;
use pinion_runtime::fs::{self, Buffer, File, OpenOptions};
use std::collections::VecDeque;
use std::io::ErrorKind::NotFound;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of zeros that are written at a time.
const FILL_BYTES: usize = 256 << 10;
/// The pause between two such writes while the present segment has room: whoever waits for a group would wait for the zeros before it.
const FILL_PAUSE: Duration = Duration::from_millis(1);
/// The name of a file that is being filled, or removed.
pub(super) const PROVISIONAL: &str = "spare.tmp";
/// Dead segments that are kept to be written again, however many are in use.
const DEAD_SEGMENTS_MIN: usize = 2;

/// How long a full disk is left alone before another segment is tried.
const FULL_DISK_WAIT: Duration = Duration::from_millis(100);

/// One file of the log.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) file: File,
    /// The first group in it.
    pub(super) first_group: u64,
    /// Where the next group goes.
    pub(super) end: u64,
}

/// A segment that is not needed, as far as memory knows.
#[derive(Clone, Copy)]
struct Dead {
    number: u64,
    /// The last group that had records then. What superseded the segment's records may be in it, on its way behind groups that say already
    /// that the segment is not needed.
    superseded_through: u64,
}

/// What of the log is durable, as far as dead segments depend on it.
#[derive(Clone, Copy)]
pub(super) struct Durable {
    /// The oldest segment in use that a durable group names.
    pub(super) oldest: u64,
    /// Every group up to here is durable.
    pub(super) through: u64,
}

/// All files of the log.
pub(super) struct Segments {
    directory: PathBuf,
    segment_bytes: u64,
    data_sync: bool,
    /// Files that are kept, in use or dead.
    kept: usize,
    /// Oldest first; the last one is written to.
    pub(super) live: VecDeque<Segment>,
    /// Numbered, empty, next in line.
    pub(super) spare: Option<(u64, File)>,
    /// Dead segments, whose files still have their old names.
    dead: VecDeque<Dead>,
    /// The highest number that a file has.
    pub(super) last_number: u64,
    pub(super) preparing: bool,
    /// The last attempt to make a segment ready found no room on the disk.
    pub(super) disk_full: bool,
    /// Offsets of the groups, in the order of their numbers from `first_group` on: segment number, offset.
    groups: VecDeque<(u64, u64)>,
    first_group: u64,
}

impl Segments {
    pub(super) fn new(directory: &Path, config: &LogConfig, first_group: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            segment_bytes: config.segment_bytes,
            data_sync: config.data_sync,
            kept: config.segments_kept,
            live: VecDeque::new(),
            spare: None,
            dead: VecDeque::new(),
            last_number: 0,
            preparing: false,
            disk_full: false,
            groups: VecDeque::new(),
            first_group,
        }
    }

    pub(super) fn path_of(&self, number: u64) -> PathBuf {
        self.directory.join(segment_name(number))
    }

    /// Notes where a group is. Groups come in the order of their numbers.
    pub(super) fn note_group(&mut self, number: u64, segment: u64, offset: u64) {
        assert!(number == self.first_group + self.groups.len() as u64, "groups are numbered without gaps");
        self.groups.push_back((segment, offset));
    }

    /// The segment that holds a group, and the group's offset in it.
    pub(super) fn place_of(&self, group: u64) -> Option<(&Segment, u64)> {
        let index = usize::try_from(group.checked_sub(self.first_group)?).ok()?;
        let (number, offset) = *self.groups.get(index)?;
        let segment = self.live.iter().find(|segment| segment.number == number)?;
        Some((segment, offset))
    }

    /// The place for a group of so many bytes in the present segment, if it fits.
    pub(super) fn place_for(&mut self, bytes: usize) -> Option<(u64, File, u64)> {
        let limit = self.segment_bytes;
        let segment = self.live.back_mut()?;
        let offset = segment.end;
        if offset + bytes as u64 > limit {
            return None;
        }
        segment.end += bytes as u64;
        Some((segment.number, segment.file.clone(), offset))
    }

    /// Takes the last segment out if no group is in it.
    pub(super) fn take_unused(&mut self) -> Option<(u64, File)> {
        self.live.pop_back_if(|last| last.end == BLOCK as u64).map(|last| (last.number, last.file))
    }

    /// Goes on to the segment that is ready, if one is; gives its number and file.
    pub(super) fn advance(&mut self, first_group: u64) -> Option<(u64, File)> {
        let spare = self.spare.take();
        self.begin(spare, first_group)
    }

    /// Begins a segment: `empty`, or the one that is ready; gives its number and file.
    pub(super) fn begin(&mut self, empty: Option<(u64, File)>, first_group: u64) -> Option<(u64, File)> {
        let (number, file) = empty.or_else(|| self.spare.take())?;
        self.live.push_back(Segment { number, file: file.clone(), first_group, end: BLOCK as u64 });
        Some((number, file))
    }

    /// Whether writes from outside should be taken: a segment is ready, or half of the present one is left.
    pub(super) fn has_room(&self) -> bool {
        let half = self.segment_bytes / 2;
        !self.disk_full || self.spare.is_some() || self.live.back().is_some_and(|segment| segment.end <= half)
    }

    /// Whether the next segment will be needed soon, or is needed.
    fn is_nearly_full(&self) -> bool {
        self.live.back().is_none_or(|segment| segment.end > self.segment_bytes / 2)
    }

    /// Whether anything at all can be taken: what is appended now gets a place.
    pub(super) fn has_any_room(&self) -> bool {
        let most = self.segment_bytes / 8 * 7;
        !self.disk_full || self.spare.is_some() || self.live.back().is_some_and(|segment| segment.end <= most)
    }

    /// The number of the oldest segment in use.
    pub(super) fn oldest(&self) -> u64 {
        self.live.front().map_or(0, |segment| segment.number)
    }

    /// Bytes in use. A segment that is not written to any more counts whole, however little is in it.
    pub(super) fn live_bytes(&self) -> u64 {
        let written_to = self.live.back().map_or(0, |segment| segment.end);
        self.live.len().saturating_sub(1) as u64 * self.segment_bytes + written_to
    }

    /// Bytes in use from a group on.
    pub(super) fn bytes_from(&self, group: u64) -> u64 {
        let from = self.place_of(group).map_or(0, |(segment, _)| segment.number);
        self.live.iter().filter(|segment| segment.number >= from).map(|segment| segment.end).sum()
    }

    /// Takes the oldest segment out of use. It must not be the one that is written to. Groups up to `superseded_through` say why.
    pub(super) fn free_oldest(&mut self, superseded_through: u64) {
        assert!(self.live.len() > 1, "the segment that is written to is in use");
        let Some(segment) = self.live.pop_front() else { return };
        self.dead.push_back(Dead { number: segment.number, superseded_through });
        let next = self.live.front().map_or(self.first_group, |segment| segment.first_group);
        while self.first_group < next && self.groups.pop_front().is_some() {
            self.first_group += 1;
        }
    }

    /// How many of the dead segments, the oldest of them, can go or be used again: a durable group says that they are not needed, and what
    /// superseded their records is durable too.
    fn reusable(&self, durable: Durable) -> usize {
        let is_reusable =
            |dead: &&Dead| dead.number < durable.oldest && dead.superseded_through <= durable.through;
        self.dead.iter().take_while(is_reusable).count()
    }

    /// The oldest dead segment, if it can be used again.
    fn next_reusable(&self, durable: Durable) -> Option<u64> {
        self.dead.front().filter(|_| self.reusable(durable) > 0).map(|dead| dead.number)
    }

    /// How many of the dead segments can go that are not worth keeping.
    fn surplus(&self, durable: Durable) -> usize {
        let free = self.reusable(durable);
        free.saturating_sub(self.kept.saturating_sub(self.live.len()).max(DEAD_SEGMENTS_MIN))
    }

    fn options(&self) -> OpenOptions {
        match self.data_sync {
            true => OpenOptions::write().data_sync(),
            false => OpenOptions::write(),
        }
    }
}

impl Log {
    /// Makes the next segment ready in the background, unless one is, and removes dead ones, if there are too many.
    pub(super) fn prepare_spare(&self) {
        let durable = self.0.writer.borrow().durable();
        {
            let mut segments = self.0.segments.borrow_mut();
            let is_in_order = segments.spare.is_some() && segments.surplus(durable) == 0;
            if is_in_order || segments.preparing {
                return;
            }
            segments.preparing = true;
        }
        let log = self.clone();
        pinion_runtime::spawn(async move {
            match log.prepare().await {
                Ok(()) => log.0.segments.borrow_mut().disk_full = false,
                Err(error) if error.is_disk_full() => {
                    log.0.segments.borrow_mut().disk_full = true;
                    // Whoever asks meanwhile would find the disk as full.
                    pinion_runtime::sleep(FULL_DISK_WAIT).await;
                }
                Err(error) => log.fail(&error),
            }
            log.0.segments.borrow_mut().preparing = false;
            log.write_pending();
        });
    }

    async fn prepare(&self) -> Result<(), Error> {
        if self.0.segments.borrow().spare.is_none() {
            self.make_spare().await?;
        }
        self.remove_surplus().await
    }

    /// Makes the next segment ready. What fails for want of room can be tried again, from whatever step on: a dead segment is dead until
    /// all of it is done.
    pub(super) async fn make_spare(&self) -> Result<(), Error> {
        let (directory, number, dead, options, bytes) = {
            let segments = self.0.segments.borrow();
            // Oldest first, so that a file that is missing among older ones is known to be lost; and only once a durable group says that
            // it is not needed, so that it is not missed.
            let dead = segments.next_reusable(self.0.writer.borrow().durable());
            (
                segments.directory.clone(),
                segments.last_number + 1,
                dead,
                segments.options(),
                segments.segment_bytes,
            )
        };
        let path = directory.join(segment_name(number));
        let failed = |source| Error::io(&path, source);
        match dead {
            Some(dead) => match fs::rename(&directory.join(segment_name(dead)), &path).await {
                // An earlier attempt came this far.
                Err(error) if error.kind() == NotFound && fs::exists(&path).await.map_err(failed)? => {}
                renamed => renamed.map_err(failed)?,
            },
            None => {
                let provisional = directory.join(PROVISIONAL);
                let in_hurry = || self.0.segments.borrow().is_nearly_full();
                fill(&provisional, bytes, in_hurry).await?;
                fs::rename(&provisional, &path).await.map_err(failed)?;
            }
        }
        fs::sync_dir(&directory).await.map_err(|source| Error::io(&directory, source))?;
        let file = options.open(&path).await.map_err(failed)?;
        let mut segments = self.0.segments.borrow_mut();
        if dead.is_some() {
            segments.dead.pop_front();
            self.0.segments_reused.update(|count| count + 1);
        }
        segments.last_number = number;
        segments.spare = Some((number, file));
        Ok(())
    }

    /// Removes dead segments that are not needed to be written again; one after the other, oldest first: removals that became durable in
    /// another order would look like a file that was lost. The room is given back in parts, under a name that a start removes whatever is
    /// left of the file.
    async fn remove_surplus(&self) -> Result<(), Error> {
        loop {
            let durable = self.0.writer.borrow().durable();
            let (directory, oldest) = {
                let segments = self.0.segments.borrow();
                // The next segment comes first.
                let is_due = segments.spare.is_some() && segments.surplus(durable) > 0;
                let oldest = segments.next_reusable(durable).filter(|_| is_due);
                (segments.directory.clone(), oldest)
            };
            let Some(oldest) = oldest else { return Ok(()) };
            let path = directory.join(segment_name(oldest));
            let provisional = directory.join(PROVISIONAL);
            match fs::rename(&path, &provisional).await {
                // An earlier attempt came this far.
                Err(error) if error.kind() == NotFound => {}
                renamed => renamed.map_err(|source| Error::io(&path, source))?,
            }
            fs::sync_dir(&directory).await.map_err(|source| Error::io(&directory, source))?;
            self.0.segments.borrow_mut().dead.pop_front();
            match fs::remove_large_file(&provisional).await {
                Err(error) if error.kind() == NotFound => {}
                removed => removed.map_err(|source| Error::io(&provisional, source))?,
            }
        }
    }
}

/// Makes a file of zeros, every block of it written and durable.
async fn fill(path: &Path, bytes: u64, in_hurry: impl Fn() -> bool) -> Result<(), Error> {
    let failed = |source| Error::io(path, source);
    let filled = async {
        let file = OpenOptions::write().create().truncate().open(path).await.map_err(failed)?;
        file.allocate(bytes).await.map_err(failed)?;
        let mut offset = 0;
        while offset < bytes {
            let len = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(FILL_BYTES);
            file.write_at(Buffer::zeroed(len), offset).await.map_err(failed)?;
            offset += len as u64;
            if !in_hurry() {
                pinion_runtime::sleep(FILL_PAUSE).await;
            }
        }
        file.sync_data().await.map_err(failed)
    }
    .await;
    if filled.is_err() {
        // What could not be filled must not take the room that somebody else needs. It may not even exist.
        let _ = fs::remove_file(path).await;
    }
    filled
}
