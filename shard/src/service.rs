//! Raw calls: checked, let in, brought to the core of their region, done there, answered. [`batch`] has the calls of many operations.

mod batch;

use crate::core::Shard;
use crate::error::ShardError;
use crate::message::{Message, Moved};
use crate::peer::{Outcome, Peer, Proposal, ScanLimits};
use crate::{checks, command, value};
use bytes::Bytes;
use pinion_capnp::{
    OperationKind, Page, RawAnswer, RawCall, RawReply, RawRequest, RawService, ReadFrom, Remaining, Scan,
    WireError,
};
use pinion_engine::batch::WriteBatch;
use pinion_runtime::mailbox::{SendError, oneshot};
use pinion_types::key::Zone;
use pinion_types::{ColumnFamily, CoreId, Epoch, RegionId};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

/// How often a call looks for a region that is changing cores before the store says that it is busy.
const ROUTE_ATTEMPTS_MAX: usize = 200;
/// How long it waits between two looks.
const ROUTE_WAIT: Duration = Duration::from_millis(5);
/// How long a writer waits for room in the memtables before it is told that the core is busy.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(5);
const ROOM_WAIT: Duration = Duration::from_millis(5);
/// When a caller that found the core busy should come back.
const RETRY_AFTER: Duration = Duration::from_millis(20);

impl RawService for Shard {
    fn call(&self, request: RawRequest) -> impl Future<Output = RawAnswer> + 'static {
        let shard = self.clone();
        async move { shard.serve(request).await }
    }
}

impl Shard {
    async fn serve(&self, request: RawRequest) -> RawAnswer {
        if self.0.draining.get() {
            return Err(WireError::ShuttingDown);
        }
        let bytes = size_bytes(&request.call);
        let Some(_admitted) = self.0.admission.admit(bytes) else {
            return Err(WireError::ServerBusy { retry_after: RETRY_AFTER });
        };
        if request.context.is_some() {
            return self.routed(&request).await;
        }
        match request.call {
            RawCall::Scan(scan) => self.scan(scan, request.deadline).await,
            RawCall::DeleteRange { family, start, end } => self.delete_range(family, start, end).await,
            RawCall::Batch { .. } => self.batch(request).await,
            _ => self.routed(&request).await,
        }
    }

    /// Brings a call whose keys are all of one region to that region's core, again if the region moves or splits meanwhile.
    async fn routed(&self, request: &RawRequest) -> RawAnswer {
        for _ in 0..ROUTE_ATTEMPTS_MAX {
            let (region, core) = self.locate(request)?;
            let answer = if core == self.0.core {
                self.execute_for(region, request).await
            } else {
                self.remote(core, region, request.clone()).await?
            };
            match answer {
                Ok(Err(error)) if request.context.is_none() && was_elsewhere(&error, &request.call) => {}
                Ok(answer) => return answer,
                Err(Moved) => {}
            }
            pinion_runtime::sleep(ROUTE_WAIT).await;
        }
        Err(WireError::ServerBusy { retry_after: RETRY_AFTER })
    }

    /// The region that a call is for, and its core.
    fn locate(&self, request: &RawRequest) -> Result<(RegionId, CoreId), WireError> {
        let router = self.router();
        let route = match &request.context {
            Some(context) => router.get(context.region).ok_or(WireError::RegionNotFound(context.region))?,
            None => {
                let key = Zone::Raw.stored(first_key(&request.call));
                router.find(&key).ok_or(WireError::RegionNotFound(RegionId(0)))?
            }
        };
        Ok((route.region.id, route.core))
    }

    async fn remote(
        &self,
        core: CoreId,
        region: RegionId,
        request: RawRequest,
    ) -> Result<Result<RawAnswer, Moved>, WireError> {
        let (answer, receiver) = oneshot::channel();
        // A core that stops may have proposed the write before it went; `shuttingDown` says that nothing was done.
        let gone = if request.call.is_write() { WireError::Undetermined } else { WireError::ShuttingDown };
        match self.0.mailbox.try_send(core, Message::Call { request, region, answer }) {
            Ok(()) => receiver.await.map_err(|_| gone),
            Err(SendError::Full(_)) => Err(WireError::ServerBusy { retry_after: RETRY_AFTER }),
            Err(SendError::Closed(_)) => Err(WireError::ShuttingDown),
        }
    }

    /// Does a call for a region of this core, if it is still here and can serve soon.
    pub(crate) async fn execute_for(
        &self,
        region: RegionId,
        request: &RawRequest,
    ) -> Result<RawAnswer, Moved> {
        let peer = self.peer(region).filter(|peer| !peer.is_frozen()).ok_or(Moved)?;
        if let Some(age_max) = replica_read(request) {
            return Ok(self.execute_on_replica(&peer, request, age_max).await);
        }
        if !peer.is_leader() && !peer.is_alone() {
            return Ok(Err(peer.not_leader()));
        }
        match peer.serves() {
            true => Ok(self.execute(&peer, request).await),
            false => Err(Moved),
        }
    }

    /// Answers a read on any peer that has the data, with what was the newest state at some time since `age_max` before the call.
    async fn execute_on_replica(
        &self,
        peer: &Rc<Peer>,
        request: &RawRequest,
        age_max: Duration,
    ) -> RawAnswer {
        self.check_failure()?;
        if peer.is_blank() || peer.is_gone() {
            return Err(peer.not_leader());
        }
        if !peer.is_fresh(age_max) {
            self.wait_until_readable(peer).await?;
        }
        checks::replica_context(peer, self.0.store, request.context.as_deref())?;
        self.read(peer, request, true).await
    }

    /// Waits until a read may be answered from the peer's tree.
    pub(crate) async fn wait_until_readable(&self, peer: &Rc<Peer>) -> Result<(), WireError> {
        if peer.reads_at_once() {
            return Ok(());
        }
        let confirmed = peer.confirm_read();
        self.enqueue(peer);
        confirmed.await.map_err(|_| peer.not_leader())
    }

    /// Does a call on this core, on the peer of its region.
    async fn execute(&self, peer: &Rc<Peer>, request: &RawRequest) -> RawAnswer {
        // A core that has failed takes no more turns, in which a read would be confirmed.
        self.check_failure()?;
        if reads(&request.call) {
            self.wait_until_readable(peer).await?;
        }
        checks::context(peer, self.0.store, request.context.as_deref())?;
        self.check_failure()?;
        // The call's keys are checked against the region as it is now.
        let epoch = peer.region().epoch;
        let has_context = request.context.is_some();
        match &request.call {
            RawCall::Get { .. } | RawCall::TimeToLive { .. } | RawCall::Scan(_) => {
                self.read(peer, request, has_context).await
            }
            RawCall::Put { family, key, value, ttl } => {
                let key = key_of(peer, key)?;
                let mut batch = WriteBatch::with_capacity(
                    key.len() + value.len() + value::ENVELOPE_BYTES_MAX + WriteBatch::OPERATION_OVERHEAD_MAX,
                );
                batch.put_parts(*family, &key, [&envelope(peer, *ttl), value]);
                self.write(peer, epoch, batch).await
            }
            RawCall::Delete { family, key } => {
                let mut batch = WriteBatch::default();
                batch.delete(*family, &key_of(peer, key)?);
                self.write(peer, epoch, batch).await
            }
            RawCall::DeleteRange { family, start, end } => {
                let (start, end) = whole_range_of(peer, start, end)?;
                let mut batch = WriteBatch::default();
                batch.delete_range(*family, &start, &end);
                self.write(peer, epoch, batch).await
            }
            RawCall::Batch { operations, .. } => self.batch_in_region(peer, epoch, operations).await,
            RawCall::CompareAndSwap { family, key, expected, value, ttl } => {
                let command = command::CompareAndSwap {
                    family: *family,
                    key: key_of(peer, key)?.into(),
                    expected: expected.as_deref().map(Bytes::copy_from_slice),
                    new: Some([&envelope(peer, *ttl)[..], value].concat().into()),
                };
                self.propose(peer, epoch, Proposal::CompareAndSwap(command)).await
            }
        }
    }

    /// Answers a read from the peer's tree as it is.
    async fn read(&self, peer: &Rc<Peer>, request: &RawRequest, has_context: bool) -> RawAnswer {
        match &request.call {
            RawCall::Get { family, key } => {
                let key = key_of(peer, key)?;
                let value = peer.get(*family, &key).await.map_err(|error| wire_error(&error))?;
                Ok(RawReply::Value(value.map(|value| Bytes::copy_from_slice(&value))))
            }
            RawCall::TimeToLive { family, key } => {
                let key = key_of(peer, key)?;
                let value = peer.get(*family, &key).await.map_err(|error| wire_error(&error))?;
                Ok(RawReply::TimeToLive(match value.map(|value| value.expiry_ms()) {
                    None => Remaining::NotFound,
                    Some(None) => Remaining::Forever,
                    Some(Some(expiry)) => {
                        Remaining::For(Duration::from_millis(expiry.saturating_sub(peer.stamp_ms())))
                    }
                }))
            }
            RawCall::Scan(scan) => self.scan_region(peer, scan, has_context).await,
            RawCall::Batch { operations, .. } => {
                let epoch = peer.region().epoch;
                self.batch_in_region(peer, epoch, operations).await
            }
            _ => Err(WireError::Internal("a call that writes came to where reads are answered".to_owned())),
        }
    }

    fn check_failure(&self) -> Result<(), WireError> {
        match self.failure() {
            Some(failure) => {
                Err(WireError::Internal(format!("core {} stopped serving: {failure}", self.0.core)))
            }
            None => Ok(()),
        }
    }

    async fn write(&self, peer: &Rc<Peer>, epoch: Epoch, batch: WriteBatch) -> RawAnswer {
        self.propose(peer, epoch, Proposal::Write(batch.into_bytes())).await
    }

    /// Proposes what was checked against the region at `epoch`, and waits until it is applied.
    pub(crate) async fn propose(&self, peer: &Rc<Peer>, epoch: Epoch, proposal: Proposal) -> RawAnswer {
        if !self.0.engine.accepts_writes() {
            return Err(WireError::DiskFull);
        }
        self.wait_for_room().await?;
        // While this waited the region may have lost the keys to a split, or begun to change cores: what is proposed now would miss the luggage.
        if peer.is_frozen() || peer.region().epoch.version != epoch.version {
            return Err(peer.epoch_not_match());
        }
        // One that was removed meanwhile takes no more turns: nobody would answer.
        if peer.is_gone() {
            return Err(peer.not_leader());
        }
        // A change of members was made out of those that there were.
        if matches!(proposal, Proposal::Change(..)) && peer.region().epoch.conf_ver != epoch.conf_ver {
            return Err(peer.epoch_not_match());
        }
        self.check_failure()?;
        let outcome = peer.propose(proposal);
        self.enqueue(peer);
        match outcome.await {
            Ok(Outcome::Done) => Ok(RawReply::Done),
            Ok(Outcome::Swapped { swapped, previous }) => Ok(RawReply::Swap { swapped, previous }),
            Ok(Outcome::Refused(error)) => Err(error),
            Err(oneshot::Canceled) => Err(WireError::Internal(
                self.failure().unwrap_or_else(|| "the region was dropped before it answered".to_owned()),
            )),
        }
    }

    /// Slows a writer down the more, the further flushing and compacting are behind; past a bound says that the core is busy.
    async fn wait_for_room(&self) -> Result<(), WireError> {
        let mut waited = Duration::ZERO;
        loop {
            let delay = self.0.engine.write_delay();
            match delay {
                Some(Duration::ZERO) => return Ok(()),
                Some(delay) => {
                    pinion_runtime::sleep(delay).await;
                    return Ok(());
                }
                None if waited >= ROOM_WAIT_MAX => {
                    return Err(WireError::ServerBusy { retry_after: RETRY_AFTER });
                }
                None => {
                    pinion_runtime::sleep(ROOM_WAIT).await;
                    waited += ROOM_WAIT;
                }
            }
        }
    }

    async fn scan_region(&self, peer: &Rc<Peer>, scan: &Scan, has_context: bool) -> RawAnswer {
        let limits = ScanLimits {
            pairs: scan.limit,
            bytes: scan.bytes_max.min(self.0.limits.scan_bytes_max),
            keys_only: scan.keys_only,
            reverse: scan.reverse,
        };
        if !has_context {
            // The store routed it here; by now the region may be smaller.
            match scan.reverse {
                true => checks::key_in_region_inclusive(&peer.region(), &stored_end(&scan.end))?,
                false => checks::key_in_region(&peer.region(), &Zone::Raw.stored(&scan.start))?,
            }
        }
        let (start, end) = range_of(peer, &scan.start, &scan.end, has_context && !scan.reverse)?;
        let mut page = Page::default();
        if start >= end || scan.limit == 0 {
            return Ok(RawReply::Page(page));
        }
        let scanned =
            peer.scan(scan.family, &start, &end, limits).await.map_err(|error| wire_error(&error))?;
        for (key, value) in &scanned.pairs {
            page.pairs.push(caller_key(key), value);
        }
        page.resume = match scanned.pairs.last() {
            Some((key, _)) if scanned.limited => Some(resume_after(caller_key(key), scan.reverse)),
            // The region ends before the range does.
            _ if scan.reverse && start > Zone::Raw.stored(&scan.start) => Some(caller_key(&start).to_vec()),
            _ if !scan.reverse && end < stored_end(&scan.end) => Some(caller_key(&end).to_vec()),
            _ => None,
        };
        Ok(RawReply::Page(page))
    }

    /// Scans region after region until a limit or the end of the range.
    async fn scan(&self, mut scan: Scan, deadline: Option<pinion_runtime::Instant>) -> RawAnswer {
        let mut page = Page::default();
        let mut attempts = 0;
        scan.bytes_max = scan.bytes_max.min(self.0.limits.scan_bytes_max);
        while scan.limit > 0 {
            if deadline.is_some_and(|deadline| pinion_runtime::now() >= deadline) {
                return Err(WireError::TimedOut);
            }
            let border = self.region_border(&scan).ok_or(WireError::RegionNotFound(RegionId(0)))?;
            let mut part = scan.clone();
            match scan.reverse {
                true => part.start = part.start.max(border.clone()),
                false if !border.is_empty() && (part.end.is_empty() || border < part.end) => {
                    part.end.clone_from(&border);
                }
                false => {}
            }
            let request = RawRequest { context: None, deadline, call: RawCall::Scan(part) };
            let got = match self.routed(&request).await {
                Ok(RawReply::Page(got)) => got,
                Ok(_) => {
                    return Err(WireError::Internal("a scan was answered with something else".to_owned()));
                }
                // A split has moved the border.
                Err(WireError::KeyNotInRegion { .. }) if attempts < ROUTE_ATTEMPTS_MAX => {
                    attempts += 1;
                    pinion_runtime::sleep(ROUTE_WAIT).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (key, value) in got.pairs.iter() {
                page.pairs.push(key, value);
            }
            scan.limit -= got.pairs.len().min(scan.limit);
            scan.bytes_max = scan.bytes_max.saturating_sub(got.pairs.size_bytes());
            let is_last = got.resume.is_none() && ends_at(&scan, &border);
            if is_last {
                break;
            }
            let last = got.pairs.iter().last().map(|(key, _)| resume_after(key, scan.reverse));
            let limited = got.resume.is_some() && got.resume == last;
            // A region that was split since its border was looked up ends before it.
            let next = got.resume.unwrap_or(border);
            if limited || scan.limit == 0 || scan.bytes_max == 0 {
                page.resume = Some(next);
                break;
            }
            match scan.reverse {
                true => scan.end = next,
                false => scan.start = next,
            }
        }
        Ok(RawReply::Page(page))
    }

    /// The caller's key at which the region of a scan's next key ends, or begins when it goes backwards; empty at the zone's border.
    fn region_border(&self, scan: &Scan) -> Option<Vec<u8>> {
        let router = self.router();
        if scan.reverse {
            let route = router.find_before(&stored_end(&scan.end))?;
            Some(Zone::Raw.caller_key(&route.region.start).unwrap_or_default().to_vec())
        } else {
            let route = router.find(&Zone::Raw.stored(&scan.start))?;
            Some(Zone::Raw.caller_key(&route.region.end).unwrap_or_default().to_vec())
        }
    }

    /// Removes a range region by region.
    async fn delete_range(&self, family: ColumnFamily, start: Vec<u8>, end: Vec<u8>) -> RawAnswer {
        let mut scan = Scan { family, start, end, ..Scan::default() };
        let mut attempts = 0;
        loop {
            let border = self.region_border(&scan).ok_or(WireError::RegionNotFound(RegionId(0)))?;
            let last = ends_at(&scan, &border);
            let end = if last { scan.end.clone() } else { border.clone() };
            let call = RawCall::DeleteRange { family, start: scan.start.clone(), end };
            match self.routed(&RawRequest::new(call)).await {
                Ok(_) => {}
                // A split has moved the border.
                Err(WireError::KeyNotInRegion { .. }) if attempts < ROUTE_ATTEMPTS_MAX => {
                    attempts += 1;
                    pinion_runtime::sleep(ROUTE_WAIT).await;
                    continue;
                }
                Err(error) => return Err(error),
            }
            if last {
                return Ok(RawReply::Done);
            }
            scan.start = border;
        }
    }
}

/// Whether a call without a context was refused only because a region moved or was split since it was routed: it was not done, and is to be routed
/// again. A call with several keys may have to be parted anew; its maker sees to that.
fn was_elsewhere(error: &WireError, call: &RawCall) -> bool {
    match error {
        WireError::EpochNotMatch { .. } => true,
        WireError::KeyNotInRegion { .. } => {
            !matches!(call, RawCall::Batch { .. } | RawCall::DeleteRange { .. } | RawCall::Scan(_))
        }
        _ => false,
    }
}

/// The stored form of a key, if it lies in the peer's region.
fn key_of(peer: &Peer, key: &[u8]) -> Result<Vec<u8>, WireError> {
    let stored = Zone::Raw.stored(key);
    checks::key_in_region(&peer.region(), &stored)?;
    Ok(stored)
}

/// The stored form of a range that lies in the peer's region as a whole.
fn whole_range_of(peer: &Peer, start: &[u8], end: &[u8]) -> Result<(Vec<u8>, Vec<u8>), WireError> {
    let (region, start, end) = (peer.region(), Zone::Raw.stored(start), stored_end(end));
    checks::key_in_region(&region, &start)?;
    checks::key_in_region_inclusive(&region, &end)?;
    Ok((start, end))
}

/// The stored form of a range, clipped to the peer's region. With a context the range must begin in the region.
fn range_of(
    peer: &Peer,
    start: &[u8],
    end: &[u8],
    has_context: bool,
) -> Result<(Vec<u8>, Vec<u8>), WireError> {
    let region = peer.region();
    let stored_start = Zone::Raw.stored(start);
    if has_context {
        checks::key_in_region(&region, &stored_start)?;
    }
    let stored_end = stored_end(end);
    let start = stored_start.max(region.start.clone());
    let end = if region.end.is_empty() { stored_end } else { stored_end.min(region.end.clone()) };
    Ok((start, end))
}

/// Whether a scan's range ends within the region whose border this is; an empty border is the zone's.
fn ends_at(scan: &Scan, border: &[u8]) -> bool {
    match scan.reverse {
        true => border <= scan.start.as_slice(),
        false => border.is_empty() || (!scan.end.is_empty() && scan.end.as_slice() <= border),
    }
}

/// The stored form of a range's end.
fn stored_end(end: &[u8]) -> Vec<u8> {
    if end.is_empty() { Zone::Raw.end().to_vec() } else { Zone::Raw.stored(end) }
}

/// The caller's key of a key of the raw zone.
fn caller_key(stored: &[u8]) -> &[u8] {
    Zone::Raw.caller_key(stored).expect("raw scans are clipped to the raw zone")
}

/// Where a scan goes on that ended with this key: the next `start`, or the next `end` when it goes backwards.
fn resume_after(key: &[u8], reverse: bool) -> Vec<u8> {
    let mut resume = key.to_vec();
    if !reverse {
        resume.push(0);
    }
    resume
}

/// What stands before a value; a time to live counts from the region's present stamp.
fn envelope(peer: &Peer, ttl: Option<Duration>) -> value::Envelope {
    value::envelope(ttl.map(|ttl| {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        peer.stamp_ms().saturating_add(ttl)
    }))
}

/// How old a state may be that a read is content with on any peer: nothing for calls that only the leader may do.
fn replica_read(request: &RawRequest) -> Option<Duration> {
    let only_reads = match &request.call {
        RawCall::Batch { operations, .. } => {
            operations.iter().all(|operation| matches!(operation.kind, OperationKind::Get))
        }
        call => reads(call),
    };
    match request.context.as_ref()?.read_from {
        ReadFrom::Leader => None,
        _ if !only_reads => None,
        ReadFrom::Replica => Some(Duration::ZERO),
        ReadFrom::Stale(age_max) => Some(age_max),
    }
}

/// Whether a call is answered with what the tree holds.
fn reads(call: &RawCall) -> bool {
    match call {
        RawCall::Get { .. } | RawCall::TimeToLive { .. } | RawCall::Scan(_) => true,
        RawCall::Batch { operations, .. } => {
            operations.iter().any(|operation| matches!(operation.kind, OperationKind::Get))
        }
        RawCall::Put { .. }
        | RawCall::Delete { .. }
        | RawCall::DeleteRange { .. }
        | RawCall::CompareAndSwap { .. } => false,
    }
}

/// A key of the call: all of its keys are of one region when it is routed by it.
fn first_key(call: &RawCall) -> &[u8] {
    match call {
        RawCall::Get { key, .. }
        | RawCall::Put { key, .. }
        | RawCall::Delete { key, .. }
        | RawCall::CompareAndSwap { key, .. }
        | RawCall::TimeToLive { key, .. } => key,
        RawCall::DeleteRange { start, .. } => start,
        RawCall::Scan(scan) => &scan.start,
        RawCall::Batch { operations, .. } => operations.iter().next().map_or(&[], |first| first.key),
    }
}

fn size_bytes(call: &RawCall) -> usize {
    match call {
        RawCall::Get { key, .. } | RawCall::Delete { key, .. } | RawCall::TimeToLive { key, .. } => key.len(),
        RawCall::Put { key, value, .. } => key.len() + value.len(),
        RawCall::CompareAndSwap { key, expected, value, .. } => {
            key.len() + value.len() + expected.as_ref().map_or(0, Vec::len)
        }
        RawCall::DeleteRange { start, end, .. } => start.len() + end.len(),
        RawCall::Scan(scan) => scan.start.len() + scan.end.len(),
        RawCall::Batch { operations, .. } => operations.size_bytes(),
    }
}

/// What a caller is told of a core's error.
pub(crate) fn wire_error(error: &ShardError) -> WireError {
    match error {
        ShardError::Engine(pinion_engine::Error::DiskFull { .. }) => WireError::DiskFull,
        ShardError::Engine(engine) => match engine.damage() {
            Some((file, offset)) => WireError::Corruption {
                file: file.display().to_string(),
                offset,
                message: engine.to_string(),
            },
            None => WireError::Internal(error.to_string()),
        },
        _ => WireError::Internal(error.to_string()),
    }
}
