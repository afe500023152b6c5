//! Region snapshots: what a peer is sent that the leader's log no longer reaches.
//!
//! The leader's side: Raft asks for a snapshot; the region is flushed and its tables are linked, which costs links and no scan; the files go to
//! the peer's store in chunks over a connection of their own, not faster than a bound, and Raft's message last. `receive` is the other side.
//! A snapshot serves every peer that needs one while it is fresh, and is removed when nobody has needed it for a while.

mod receive;

pub(crate) use receive::Incoming;

use crate::core::Shard;
use crate::error::ShardError;
use crate::links::asked;
use crate::meta::Meta;
use crate::peer::Peer;
use crate::storage::Made;
use bytes::Bytes;
use pinion_capnp::WireError;
use pinion_capnp::link::{SnapshotChunk, SnapshotKey, SnapshotOffer};
use pinion_engine::{RegionSnapshot, SnapshotFile};
use pinion_raft::{Message, Snapshot, SnapshotMetadata};
use pinion_runtime::{Lane, spawn_in};
use pinion_types::PeerId;
use std::rc::Rc;
use std::time::Duration;

/// Snapshots that a core sends at the same time. One more is told to come back: Raft asks again.
const SENDING_MAX: usize = 2;
/// Bytes of a chunk. Smaller ones cost calls, larger ones hold up what shares the connection.
const CHUNK_BYTES: usize = 1 << 20;
/// How long a snapshot is kept that nobody needs, and with it the log that follows on it. Less: who was just sent it may not have caught up
/// by then. More: disk.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// How often a snapshot is made anew when the region changes meanwhile.
const TRIES_MAX: usize = 10;

/// What went wrong with a snapshot on its way.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Engine(#[from] pinion_engine::Error),
    #[error(transparent)]
    Refused(#[from] WireError),
    #[error("nobody knows where peer {0} sits")]
    Unknown(PeerId),
    #[error("the peer is no longer here, or made a newer snapshot")]
    Superseded,
    #[error("{SENDING_MAX} snapshots are on their way already")]
    Busy,
}

impl Shard {
    /// Makes the snapshot that Raft has asked for.
    pub(crate) fn make_snapshot(&self, peer: &Rc<Peer>) {
        let (shard, peer) = (self.clone(), peer.clone());
        drop(spawn_in(Lane::Throughput, async move {
            let made = shard.make_consistent(&peer).await;
            match made {
                Ok(made) => peer.snapshots().set(made),
                Err(error) => {
                    peer.snapshots().set(None);
                    return shard.fail(&error);
                }
            }
            shard.remove_unneeded().await;
            peer.snapshot_made();
            shard.enqueue(&peer);
        }));
    }

    /// A snapshot, and the region's description as of its position. Nothing if the peer is deleted meanwhile, or the region does not rest.
    async fn make_consistent(&self, peer: &Rc<Peer>) -> Result<Option<Made>, ShardError> {
        for _ in 0..TRIES_MAX {
            let before = peer.changed_at();
            let files = match self.0.engine.make_snapshot(peer.id()).await {
                Ok(files) => files,
                Err(_) if peer.is_gone() => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let (index, term) = files.position;
            if peer.changed_at() == before && before <= index {
                let meta = Meta { own: PeerId(0), ..peer.meta_of(&peer.region()) };
                let metadata = SnapshotMetadata { conf_state: peer.conf_state(), index, term };
                let snapshot = Snapshot { metadata, data: meta.encode() };
                log::debug!("region {}: a snapshot of {} bytes through {index}", peer.id(), files.bytes);
                let files = Rc::new(files);
                self.0.snapshots_made.borrow_mut().push(files.clone());
                return Ok(Some(Made { snapshot, files, used: pinion_runtime::now(), receivers: None }));
            }
            files.release().await?;
        }
        Ok(None)
    }

    /// Sends a snapshot to the peer that Raft means it for, and lets Raft know what became of it.
    pub(crate) fn send_snapshot(&self, peer: &Rc<Peer>, message: Message) {
        let (shard, peer) = (self.clone(), peer.clone());
        drop(spawn_in(Lane::Throughput, async move {
            let to = message.to;
            let sent = shard.stream_snapshot(&peer, message).await;
            if let Err(error) = &sent {
                log::debug!("region {}: the snapshot for peer {to} did not arrive: {error}", peer.id());
            }
            peer.report_snapshot(to, sent.is_ok());
            shard.enqueue(&peer);
        }));
    }

    async fn stream_snapshot(&self, peer: &Rc<Peer>, message: Message) -> Result<(), SendError> {
        let to = message.to;
        let index = message.snapshot.as_ref().map(|snapshot| snapshot.metadata.index);
        let files = peer.snapshots().files(index, to).ok_or(SendError::Superseded)?;
        let (core, message) = peer.addressed(message, self.0.core).ok_or(SendError::Unknown(to))?;
        let store = message.to.store;
        let link = self.link(store, core).ok_or(SendError::Unknown(to))?;
        let offer = SnapshotOffer {
            message,
            description: files.description().into(),
            files: files.files.iter().map(|file| (file.number, file.bytes)).collect(),
        };
        let key = offer.key().ok_or(SendError::Superseded)?;
        if self.0.sending.get() >= SENDING_MAX {
            return Err(SendError::Busy);
        }
        self.0.sending.set(self.0.sending.get() + 1);
        let begun = pinion_runtime::now();
        let sent = async {
            let there = link.snapshot_offer(&offer).await.map_err(|error| asked(store, error))?;
            let mut pace = Pace::new(self.0.limits.snapshot_bytes_per_second);
            let mut parts = parts(&files, &there);
            let mut next = read_next(&files, key, &mut parts).await?;
            while let Some(chunk) = next {
                pace.wait(chunk.data.len()).await;
                // The peer writes one while the next is read.
                let sent = link.snapshot_chunk(&chunk);
                let (sent, read) = futures_util::join!(sent, read_next(&files, key, &mut parts));
                sent.map_err(|error| asked(store, error))?;
                next = read?;
            }
            link.snapshot_done(key).await.map_err(|error| asked(store, error))
        }
        .await;
        self.0.sending.set(self.0.sending.get() - 1);
        peer.snapshots().sent(index, to, sent.is_ok());
        if sent.is_err() {
            // What is there already serves the next try.
            drop(link.snapshot_abort(key).await);
        } else {
            log::info!(
                "core {}: region {}: peer {to} has a snapshot of {} bytes, after {:.1} s",
                self.0.core,
                peer.id(),
                files.files.iter().map(|file| file.bytes).sum::<u64>(),
                begun.elapsed().as_secs_f64()
            );
        }
        Ok(sent.map_err(|error: WireError| error)?)
    }

    /// Removes snapshots that nobody has needed for a while, and those whose peer is no longer here.
    pub(crate) async fn release_snapshots(&self) {
        for peer in self.peers() {
            peer.snapshots().forget_unused(KEPT_FOR);
        }
        self.remove_unneeded().await;
    }

    /// Removes the files of snapshots that no peer has as its latest and no transfer reads.
    async fn remove_unneeded(&self) {
        let is_unneeded = |files: &mut Rc<RegionSnapshot>| Rc::strong_count(files) == 1;
        let unneeded: Vec<_> = self
            .0
            .snapshots_made
            .borrow_mut()
            .extract_if(.., is_unneeded)
            .filter_map(Rc::into_inner)
            .collect();
        for files in unneeded {
            if let Err(error) = files.release().await {
                log::warn!("a snapshot's files stay until the next start: {error}");
            }
        }
    }
}

/// The parts that are still to be sent, each a file and an offset, when so many bytes of each file are there.
fn parts(files: &RegionSnapshot, there: &[(u64, u64)]) -> impl Iterator<Item = (u64, u64)> + use<> {
    let rest = |file: &SnapshotFile| {
        let found = there.iter().find(|(number, _)| *number == file.number);
        (file.number, found.map_or(0, |(_, bytes)| *bytes), file.bytes)
    };
    let rests: Vec<_> = files.files.iter().map(rest).collect();
    rests.into_iter().flat_map(|(number, begun, bytes)| {
        (begun..bytes).step_by(CHUNK_BYTES).map(move |offset| (number, offset))
    })
}

/// The chunk of the next part; nothing after the last.
async fn read_next(
    files: &RegionSnapshot,
    key: SnapshotKey,
    parts: &mut impl Iterator<Item = (u64, u64)>,
) -> Result<Option<SnapshotChunk>, WireError> {
    let Some((file, offset)) = parts.next() else { return Ok(None) };
    let data: Bytes = files
        .read(file, offset, CHUNK_BYTES)
        .await
        .map_err(|error| WireError::Internal(format!("a snapshot's file can't be read: {error}")))?;
    Ok(Some(SnapshotChunk { key, file, offset, crc32: crc32fast::hash(&data), data }))
}

/// Keeps a stream of bytes within a rate.
struct Pace {
    bytes_per_second: u64,
    next: pinion_runtime::Instant,
}

impl Pace {
    /// 0 is no bound.
    fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, next: pinion_runtime::now() }
    }

    /// Waits until so many more bytes may go.
    async fn wait(&mut self, bytes: usize) {
        if self.bytes_per_second == 0 {
            return;
        }
        let now = pinion_runtime::now();
        if self.next > now {
            pinion_runtime::sleep(self.next.since(now)).await;
        }
        let nanos = (bytes as u64).saturating_mul(1_000_000_000) / self.bytes_per_second;
        self.next = self.next.max(now) + Duration::from_nanos(nanos);
    }
}
