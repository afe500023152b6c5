//! From appended records to durable groups.

use super::format::{BLOCK, GROUP_HEADER, GroupHeader, SegmentHeader, group_bytes};
use super::segments::Durable;
use super::{Durability, Log};
use crate::Error;
use pinion_runtime::fs::{Buffer, File};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long the log is idle before a marker says what is durable.
const MARKER_WAIT: Duration = Duration::from_millis(10);
/// Bytes of a group at most, unless one append is larger.
const GROUP_BYTES_MAX: usize = 2 << 20;
/// How long closing waits between two looks.
const CLOSE_WAIT: Duration = Duration::from_millis(1);
/// Bytes of memory that an empty pending group keeps.
const PENDING_BYTES_KEPT: usize = 1 << 20;

/// A group on its way, or in the making.
#[derive(Default)]
struct GroupState {
    ended: Cell<Option<bool>>,
    /// Why the group was never written, if it was not.
    cause: RefCell<Option<(PathBuf, String)>>,
    waiting: RefCell<Vec<Waker>>,
}

impl GroupState {
    fn end(&self, durable: bool) {
        self.ended.set(Some(durable));
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    fn fail(&self, directory: &Path, cause: &str) {
        *self.cause.borrow_mut() = Some((directory.to_owned(), cause.to_owned()));
        self.end(false);
    }

    fn error(&self) -> Error {
        let (directory, cause) = self.cause.borrow().clone().unwrap_or_default();
        Error::LogFailed { directory, cause }
    }
}

/// Done when what was appended is as durable as it was asked to be.
#[must_use = "an append is durable when its ticket is done"]
pub struct Ticket(Inside);

enum Inside {
    Done,
    Refused(Option<Error>),
    Waiting(Rc<GroupState>),
}

impl Ticket {
    pub(super) fn done() -> Self {
        Self(Inside::Done)
    }

    pub(super) fn refused(error: Error) -> Self {
        Self(Inside::Refused(Some(error)))
    }

    pub(super) fn waiting(group: Handle) -> Self {
        Self(Inside::Waiting(group.0))
    }

    /// Why the append was refused, if it was: then nothing of it was taken, and of the entries of its streams the next would leave a hole.
    pub fn refusal(&mut self) -> Option<Error> {
        match &mut self.0 {
            Inside::Refused(error) => error.take(),
            Inside::Done | Inside::Waiting(_) => None,
        }
    }
}

/// What an append waits for.
pub(super) struct Handle(Rc<GroupState>);

impl Future for Ticket {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Inside::Done => Poll::Ready(Ok(())),
            Inside::Refused(error) => {
                Poll::Ready(Err(error.take().expect("a ticket is not polled again after it was done")))
            }
            Inside::Waiting(group) => match group.ended.get() {
                Some(true) => Poll::Ready(Ok(())),
                Some(false) => Poll::Ready(Err(group.error())),
                None => {
                    group.waiting.borrow_mut().push(cx.waker().clone());
                    Poll::Pending
                }
            },
        }
    }
}

/// A group that was given to the disk.
struct InFlight {
    number: u64,
    oldest: u64,
    written: bool,
    group: Rc<GroupState>,
}

/// A group in the making.
struct Pending {
    /// Its body, behind room for its header.
    body: Vec<u8>,
    records: u32,
    /// Whether somebody waits for it.
    wanted: bool,
    state: Rc<GroupState>,
}

impl Pending {
    fn new(capacity: usize) -> Self {
        let mut body = Vec::with_capacity(capacity);
        body.resize(GROUP_HEADER, 0);
        Self { body, records: 0, wanted: false, state: Rc::default() }
    }
}

/// The groups in the making and on their way.
pub(super) struct Writer {
    /// What records are appended to.
    pending: Pending,
    /// Full groups that wait for their turn, oldest first. Admission bounds them.
    full: VecDeque<Pending>,
    /// The number of the group that is written next.
    next_group: u64,
    in_flight: VecDeque<InFlight>,
    /// Headers of segments that are not durable yet: the first group of each.
    headers: VecDeque<(u64, bool)>,
    /// Every group up to here is durable.
    pub(super) durable_through: u64,
    /// The oldest segment in use that a durable group names: older files may be used again.
    durable_oldest: u64,
    /// What the last header on disk says of `durable_through`.
    told: u64,
    marker_waits: bool,
    failed: bool,
    closed: bool,
}

impl Writer {
    pub(super) fn new(next_group: u64) -> Self {
        Self {
            pending: Pending::new(0),
            full: VecDeque::new(),
            next_group,
            in_flight: VecDeque::new(),
            headers: VecDeque::new(),
            durable_through: next_group - 1,
            durable_oldest: 0,
            told: next_group - 1,
            marker_waits: false,
            failed: false,
            closed: false,
        }
    }

    /// Makes room in the pending group for records of so many bytes; gives the group's number.
    pub(super) fn pending_group(&mut self, bytes: usize, group_bytes_max: usize) -> u64 {
        if self.pending.records > 0 && self.pending.body.len() + bytes > group_bytes_max {
            let mut full = std::mem::replace(&mut self.pending, Pending::new(0));
            full.wanted = true;
            self.full.push_back(full);
        }
        self.next_group + self.full.len() as u64
    }

    /// The number of the last group that has records, written or not.
    pub(super) fn last_group(&self) -> u64 {
        let pending = self.next_group + self.full.len() as u64;
        if self.pending.records > 0 { pending } else { pending - 1 }
    }

    /// What is durable, as far as dead segments depend on it.
    pub(super) fn durable(&self) -> Durable {
        Durable { oldest: self.durable_oldest, through: self.durable_through }
    }

    /// The pending group's bytes, to be appended to.
    pub(super) fn body(&mut self) -> &mut Vec<u8> {
        &mut self.pending.body
    }

    /// Records were appended, to a log that has not failed.
    pub(super) fn appended(&mut self, records: usize, durability: Durability) -> Handle {
        assert!(!self.failed, "a log that has failed takes nothing");
        self.pending.records += u32::try_from(records).expect("a group has few records");
        self.pending.wanted |= durability == Durability::Sync;
        Handle(self.pending.state.clone())
    }

    /// What to wait for until everything that was appended is durable; `None` when it is.
    pub(super) fn sync_ticket(&mut self) -> Option<Ticket> {
        if self.pending.records > 0 {
            self.pending.wanted = true;
            return Some(Ticket(Inside::Waiting(self.pending.state.clone())));
        }
        if let Some(last) = self.full.back() {
            return Some(Ticket(Inside::Waiting(last.state.clone())));
        }
        self.in_flight.back().map(|last| Ticket(Inside::Waiting(last.group.clone())))
    }

    /// Nothing will be written any more.
    pub(super) fn fail(&mut self, directory: &Path, cause: &str) {
        self.failed = true;
        for group in self.in_flight.drain(..) {
            group.group.fail(directory, cause);
        }
        for group in self.full.drain(..) {
            group.state.fail(directory, cause);
        }
        std::mem::replace(&mut self.pending, Pending::new(0)).state.fail(directory, cause);
    }

    fn is_wanted(&self, buffer_bytes_max: usize) -> bool {
        let pending = &self.pending;
        !self.full.is_empty()
            || (pending.records > 0 && (pending.wanted || pending.body.len() >= buffer_bytes_max))
    }

    /// The group that is written next.
    fn next(&self) -> &Pending {
        self.full.front().unwrap_or(&self.pending)
    }

    /// Takes the group out that is written next.
    fn take(&mut self) -> Pending {
        self.next_group += 1;
        if let Some(full) = self.full.pop_front() {
            return full;
        }
        let capacity = self.pending.body.len().min(PENDING_BYTES_KEPT);
        std::mem::replace(&mut self.pending, Pending::new(capacity))
    }

    /// Everything before the first group that is not written is durable.
    fn acknowledge(&mut self) -> Vec<Rc<GroupState>> {
        let mut durable = Vec::new();
        while let Some(first) = self.in_flight.front() {
            let header_missing =
                self.headers.front().is_some_and(|(group, done)| *group <= first.number && !done);
            if !first.written || header_missing {
                break;
            }
            if self.headers.front().is_some_and(|(group, done)| *group <= first.number && *done) {
                self.headers.pop_front();
                continue;
            }
            self.durable_through = first.number;
            self.durable_oldest = first.oldest;
            durable.extend(self.in_flight.pop_front().map(|group| group.group));
        }
        durable
    }
}

impl Log {
    /// Bytes of a group at most: a group fits into an empty segment, and a full one fits several times.
    pub(super) fn group_bytes_max(&self) -> usize {
        let segment = usize::try_from(self.0.config.segment_bytes).unwrap_or(usize::MAX);
        (segment / 8).clamp(BLOCK, GROUP_BYTES_MAX)
    }

    /// Waits until nothing of the log runs in the background and everything is durable.
    pub async fn close(&self) -> Result<(), Error> {
        self.sync().await?;
        self.settle().await;
        // From here on the directory may be another log's: a marker that still waits must not write to it.
        self.0.writer.borrow_mut().closed = true;
        Ok(())
    }

    /// Waits until nothing of the log runs in the background.
    pub(super) async fn settle(&self) {
        while self.0.segments.borrow().preparing || self.0.reclaiming.get() {
            pinion_runtime::sleep(CLOSE_WAIT).await;
        }
    }

    /// Waits until the next group could go to the disk at once, or the log has failed. Who collects what to append until then makes one
    /// append of it, and no group is later for it.
    pub async fn wait_for_place(&self) {
        std::future::poll_fn(|cx| {
            let writer = self.0.writer.borrow();
            let is_place = writer.in_flight.len() < self.0.config.groups_in_flight_max;
            if is_place || writer.failed {
                return Poll::Ready(());
            }
            self.0.waiting_for_place.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Wakes those who wait for a place.
    pub(super) fn announce_place(&self) {
        self.0.waiting_for_place.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// Gives the pending group to the disk when the tasks that can run now have had their turn: they may append to it, and of many that
    /// were woken by one group the first would otherwise write the next alone.
    pub(super) fn write_soon(&self) {
        if self.is_place_for_wanted() && !self.0.writing_soon.replace(true) {
            let log = self.clone();
            pinion_runtime::spawn(async move {
                log.0.writing_soon.set(false);
                log.write_pending();
            });
        }
    }

    /// Whether the pending group is wanted and there is a place for it.
    fn is_place_for_wanted(&self) -> bool {
        let writer = self.0.writer.borrow();
        !writer.failed
            && writer.in_flight.len() < self.0.config.groups_in_flight_max
            && writer.is_wanted(self.0.config.buffer_bytes_max)
    }

    /// Gives the pending group to the disk, if it is wanted and there is a place for it.
    pub(super) fn write_pending(&self) {
        while self.is_place_for_wanted() && self.write_group() {}
    }

    /// Writes the pending group; false when it must wait for a segment.
    fn write_group(&self) -> bool {
        let body_len = self.0.writer.borrow().next().body.len() - GROUP_HEADER;
        let bytes = group_bytes(body_len);
        let number = self.0.writer.borrow().next_group;
        let mut place = self.0.segments.borrow_mut().place_for(bytes);
        if place.is_none() {
            let next = self.0.segments.borrow_mut().advance(number);
            let Some((segment, file)) = next else {
                self.prepare_spare();
                return false;
            };
            self.write_segment_header(segment, file, number);
            place = self.0.segments.borrow_mut().place_for(bytes);
            self.prepare_spare();
            self.reclaim();
        }
        let (segment, file, offset) = place.expect("a group fits into an empty segment");
        let (Pending { body: mut group, records, .. }, durable_through) = {
            let mut writer = self.0.writer.borrow_mut();
            let oldest = self.0.segments.borrow().oldest();
            let pending = writer.take();
            writer.told = writer.durable_through;
            let state = pending.state.clone();
            writer.in_flight.push_back(InFlight { number, oldest, written: false, group: state });
            (pending, writer.durable_through)
        };
        let header = GroupHeader {
            epoch: self.0.epoch,
            segment,
            number,
            durable_through,
            oldest: self.0.segments.borrow().oldest(),
            body_len: u32::try_from(body_len).expect("a group is smaller than a segment"),
            records,
        };
        header.encode(&mut group);
        self.0.segments.borrow_mut().note_group(number, segment, offset);
        let mut buffer = Buffer::new(bytes);
        buffer[..group.len()].copy_from_slice(&group);
        buffer[group.len()..].fill(0);
        let log = self.clone();
        // The task owns the write: it runs to its end whoever gives up waiting.
        pinion_runtime::spawn(async move {
            match file.write_at(buffer, offset).await {
                Ok(_) => log.written(number),
                Err(source) => log.fail(&Error::io(&log.0.segments.borrow().path_of(segment), source)),
            }
        });
        true
    }

    /// Writes the header of a segment that the log has come to.
    fn write_segment_header(&self, number: u64, file: File, first_group: u64) {
        let header = self.segment_header(number, first_group);
        self.0.writer.borrow_mut().headers.push_back((first_group, false));
        let log = self.clone();
        pinion_runtime::spawn(async move {
            let mut block = Buffer::new(BLOCK);
            header.encode(&mut block);
            match file.write_at(block, 0).await {
                Ok(_) => {
                    let mut writer = log.0.writer.borrow_mut();
                    if let Some(header) = writer.headers.iter_mut().find(|(group, _)| *group == first_group) {
                        header.1 = true;
                    }
                    drop(writer);
                    log.acknowledge();
                }
                Err(source) => log.fail(&Error::io(&log.0.segments.borrow().path_of(number), source)),
            }
        });
    }

    pub(super) fn segment_header(&self, number: u64, first_group: u64) -> SegmentHeader {
        SegmentHeader {
            core: u32::from(self.0.config.core.0),
            number,
            epoch: self.0.epoch,
            first_group,
            size: self.0.config.segment_bytes,
        }
    }

    fn written(&self, number: u64) {
        {
            let mut writer = self.0.writer.borrow_mut();
            if let Some(group) = writer.in_flight.iter_mut().find(|group| group.number == number) {
                group.written = true;
            }
        }
        self.acknowledge();
    }

    fn acknowledge(&self) {
        if self.0.writer.borrow().failed {
            return;
        }
        let durable = self.0.writer.borrow_mut().acknowledge();
        // First, so that the next group is on its way before the answers of the last are.
        self.announce_place();
        for group in durable {
            group.end(true);
        }
        self.write_pending();
        self.mark_when_idle();
        self.prepare_spare();
    }

    /// Writes a marker when nothing was written for a while, so that a recovery knows that what is there was acknowledged.
    fn mark_when_idle(&self) {
        {
            let mut writer = self.0.writer.borrow_mut();
            let untold = writer.durable_through > writer.told;
            if !untold || writer.marker_waits || !writer.in_flight.is_empty() {
                return;
            }
            writer.marker_waits = true;
        }
        let log = self.clone();
        pinion_runtime::spawn(async move {
            pinion_runtime::sleep(MARKER_WAIT).await;
            let idle = {
                let mut writer = log.0.writer.borrow_mut();
                writer.marker_waits = false;
                if writer.closed {
                    return;
                }
                writer.in_flight.is_empty() && !writer.failed && writer.durable_through > writer.told
            };
            if !idle {
                log.mark_when_idle();
            } else if log.write_group() {
                let mut writer = log.0.writer.borrow_mut();
                // The marker itself needs no marker.
                writer.told = writer.durable_through + 1;
            }
        });
    }
}
