//! The receiving side of a snapshot: the files come first, into a place of their own; then Raft's message, which decides whether they take the
//! place of what the peer has.

use crate::core::Shard;
use crate::error::ShardError;
use crate::message::{Message, SnapshotCall};
use crate::meta::Meta;
use crate::peer::{Peer, Persist};
use crate::service::wire_error;
use pinion_capnp::WireError;
use pinion_capnp::link::{RegionMessage, SnapshotChunk, SnapshotKey, SnapshotOffer};
use pinion_engine::{IncomingSnapshot, NewTree};
use pinion_runtime::mailbox::oneshot;
use pinion_types::RegionId;
use std::rc::Rc;
use std::time::Duration;

/// Snapshots that a core receives at the same time.
const RECEIVING_MAX: usize = 4;
/// How long one may stand still before another takes its place.
const STILL_MAX: Duration = Duration::from_secs(30);
/// When whoever offers one more should come back.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How often a peer that is to be replaced is looked at while an entry is being applied.
const APPLYING_WAIT: Duration = Duration::from_millis(1);

/// A snapshot on its way in.
pub(crate) struct Incoming {
    key: SnapshotKey,
    message: RegionMessage,
    /// Not here while a chunk of it is being written.
    files: Option<IncomingSnapshot>,
    is_whole: bool,
    touched: pinion_runtime::Instant,
}

impl Shard {
    async fn pass_on<T>(
        &self,
        region: RegionId,
        call: impl FnOnce(oneshot::Sender<Result<T, WireError>>) -> SnapshotCall,
    ) -> Result<T, WireError> {
        let (answer, receiver) = oneshot::channel();
        let call = call(answer);
        let core = self.core_of(region);
        if core == self.0.core {
            self.take_snapshot_call(call);
        } else {
            self.ask(core, Message::Snapshot(call))?;
        }
        receiver.await.map_err(|_| WireError::ShuttingDown)?
    }

    /// An offer came over a link of this core.
    pub(crate) async fn snapshot_offered(&self, offer: SnapshotOffer) -> Result<Vec<(u64, u64)>, WireError> {
        let region = offer.message.region;
        self.pass_on(region, |answer| SnapshotCall::Offer(Box::new(offer), answer)).await
    }

    /// A chunk came over a link of this core.
    pub(crate) async fn snapshot_chunk_came(&self, chunk: SnapshotChunk) -> Result<(), WireError> {
        let region = chunk.key.region;
        self.pass_on(region, |answer| SnapshotCall::Chunk(chunk, answer)).await
    }

    /// The sender says that everything is here.
    pub(crate) async fn snapshot_is_whole(&self, key: SnapshotKey) -> Result<(), WireError> {
        self.pass_on(key.region, |answer| SnapshotCall::Done(key, answer)).await
    }

    /// The sender gives up. What is here serves its next try.
    pub(crate) async fn snapshot_given_up(&self, key: SnapshotKey) {
        // Nobody waits for an answer.
        drop(self.pass_on(key.region, |answer| SnapshotCall::Abort(key, answer)).await);
    }

    /// Does what concerns a region of this core.
    pub(crate) fn take_snapshot_call(&self, call: SnapshotCall) {
        let shard = self.clone();
        pinion_runtime::spawn(async move {
            match call {
                SnapshotCall::Offer(offer, answer) => drop(answer.send(shard.offered(*offer).await)),
                SnapshotCall::Chunk(chunk, answer) => drop(answer.send(shard.chunk_came(chunk).await)),
                SnapshotCall::Done(key, answer) => drop(answer.send(shard.is_whole(key).await)),
                SnapshotCall::Abort(key, answer) => {
                    let is_kept = |incoming: &Incoming| incoming.key != key || shard.is_awaited(incoming);
                    shard.0.incoming.borrow_mut().retain(is_kept);
                    drop(answer.send(Ok(())));
                }
            }
        });
    }

    async fn offered(&self, offer: SnapshotOffer) -> Result<Vec<(u64, u64)>, WireError> {
        let key = offer.key().ok_or_else(|| WireError::invalid("an offer without a snapshot"))?;
        let SnapshotOffer { message, description, .. } = offer;
        let region = message.region;
        check_offered(&message)?;
        if message.to.store != self.0.store {
            return Err(WireError::StoreNotMatch { requested: message.to.store, actual: self.0.store });
        }
        let busy = WireError::ServerBusy { retry_after: RETRY_AFTER };
        if self.has_keys_of(region, &message.start, &message.end) {
            // A split that this store has not applied yet, or a snapshot from before one that it has.
            return Err(busy);
        }
        let peer = self.peer(region).ok_or_else(|| busy.clone())?;
        if peer.peer().id != message.to.id || peer.is_deaf() {
            return Err(WireError::invalid(format!("region {region} has another peer here")));
        }
        if peer.is_installing() {
            return Err(busy);
        }
        {
            let mut there = self.0.incoming.borrow_mut();
            there.retain(|incoming| {
                incoming.files.is_none()
                    || self.is_awaited(incoming)
                    || (incoming.key.region != region && incoming.touched.elapsed() < STILL_MAX)
            });
            if there.len() >= RECEIVING_MAX || there.iter().any(|incoming| incoming.key.region == region) {
                return Err(busy);
            }
        }
        let files =
            self.0.engine.receive_snapshot(region, &description).await.map_err(|e| wire_error(&e.into()))?;
        if files.description().position() != (key.index, key.term) {
            return Err(WireError::invalid("an offer whose files are of another position than its message"));
        }
        let progress = files.progress();
        let touched = pinion_runtime::now();
        let incoming = Incoming { key, message, files: Some(files), is_whole: false, touched };
        self.0.incoming.borrow_mut().push(incoming);
        Ok(progress)
    }

    /// Whether Raft has taken a snapshot that is whole, so that its files are wanted whatever its sender does.
    fn is_awaited(&self, incoming: &Incoming) -> bool {
        let peer = self.peer(incoming.key.region);
        incoming.is_whole && peer.is_some_and(|peer| peer.awaits_snapshot(incoming.key.index))
    }

    /// Takes the files of a snapshot out for a moment.
    fn take_files(&self, key: SnapshotKey) -> Result<IncomingSnapshot, WireError> {
        let mut there = self.0.incoming.borrow_mut();
        let incoming = there.iter_mut().find(|incoming| incoming.key == key);
        let files = incoming.and_then(|incoming| {
            incoming.touched = pinion_runtime::now();
            incoming.files.take()
        });
        files.ok_or_else(|| WireError::invalid("there is no such snapshot on its way; offer it again"))
    }

    /// Puts them back, unless the snapshot was forgotten meanwhile.
    fn put_back(&self, key: SnapshotKey, files: IncomingSnapshot, is_whole: bool) {
        let mut there = self.0.incoming.borrow_mut();
        if let Some(incoming) = there.iter_mut().find(|incoming| incoming.key == key) {
            incoming.files = Some(files);
            incoming.is_whole |= is_whole;
        }
    }

    async fn chunk_came(&self, chunk: SnapshotChunk) -> Result<(), WireError> {
        let SnapshotChunk { key, file, offset, crc32, data } = chunk;
        let mut files = self.take_files(key)?;
        let written = files.write(file, offset, data, crc32).await;
        self.put_back(key, files, false);
        written.map_err(|error| wire_error(&error.into()))
    }

    async fn is_whole(&self, key: SnapshotKey) -> Result<(), WireError> {
        let mut files = self.take_files(key)?;
        let finished = files.finish().await;
        self.put_back(key, files, finished.is_ok());
        finished.map_err(|error| wire_error(&error.into()))?;
        let message = {
            let there = self.0.incoming.borrow();
            there.iter().find(|incoming| incoming.key == key).map(|incoming| incoming.message.clone())
        };
        if let Some(message) = message {
            self.receive_message(message);
            // One that Raft does not want is of no use any more.
            let is_kept = |incoming: &Incoming| incoming.key != key || self.is_awaited(incoming);
            self.0.incoming.borrow_mut().retain(is_kept);
        }
        Ok(())
    }

    /// Raft takes a snapshot: its files take the place of the peer's tree and log, then the peer goes on.
    pub(crate) fn install_snapshot(&self, peer: &Rc<Peer>, persist: Persist) {
        peer.set_installing(true);
        let (shard, peer) = (self.clone(), peer.clone());
        pinion_runtime::spawn(async move {
            match shard.install(&peer, &persist).await {
                // It was removed meanwhile, and whoever deletes it waits for this.
                Ok(()) if peer.is_gone() => peer.set_installing(false),
                Ok(()) => {
                    peer.set_installing(false);
                    shard.persist(vec![(peer.clone(), persist)]);
                    shard.apply(&peer);
                    shard.enqueue(&peer);
                }
                Err(error) => shard.fail(&error),
            }
        });
    }

    /// Puts a snapshot's files in place, unless the peer is removed before; then nothing goes on from them.
    async fn install(&self, peer: &Rc<Peer>, persist: &Persist) -> Result<(), ShardError> {
        while peer.is_applying() {
            pinion_runtime::sleep(APPLYING_WAIT).await;
        }
        if peer.is_gone() {
            return Ok(());
        }
        let id = peer.id();
        let snapshot = persist.snapshot().expect("the caller has seen it");
        let malformed = |source| ShardError::MalformedMeta { region: id, source };
        let meta = Meta::decode(snapshot.data.clone()).map_err(malformed)?;
        let meta = Meta { own: peer.peer().id, ..meta };
        let found = {
            let mut there = self.0.incoming.borrow_mut();
            let place = there.iter().position(|incoming| {
                incoming.key.region == id
                    && incoming.key.index == snapshot.metadata.index
                    && incoming.is_whole
            });
            place.and_then(|place| there.remove(place).files)
        };
        let files = found.ok_or_else(|| ShardError::Raft {
            region: id,
            what: "a snapshot was taken whose files are not here".to_owned(),
        })?;
        let new = NewTree::of_split(&meta.region, meta.encode());
        let new = NewTree { generation: peer.generation(), ..new };
        let state = peer.hard_state();
        let hard_state = (state.term, state.vote.0, state.commit.max(snapshot.metadata.index));
        let installed = self.0.engine.install_snapshot(files, new, hard_state).await?;
        if peer.is_gone() {
            return Ok(());
        }
        log::info!(
            "core {}: region {id} goes on from a snapshot at {}",
            self.0.core,
            snapshot.metadata.index
        );
        let position = (snapshot.metadata.index, snapshot.metadata.term);
        peer.restored(installed.tree, meta, position);
        self.announce(peer);
        Ok(())
    }
}

/// Refuses an offer whose message does not say what its region is, or not with the receiver as a member: once Raft has taken it, it is too late.
fn check_offered(message: &RegionMessage) -> Result<(), WireError> {
    let snapshot = message.message.snapshot.as_ref();
    let meta = snapshot.and_then(|snapshot| Meta::decode(snapshot.data.clone()).ok());
    let fits = |meta: &Meta| {
        meta.region.id == message.region && meta.region.peers.iter().any(|member| member.id == message.to.id)
    };
    match meta.is_some_and(|meta| fits(&meta)) {
        true => Ok(()),
        false => Err(WireError::invalid("an offer whose message is not of its region and its receiver")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_raft::Snapshot;
    use pinion_types::{LogIndex, Peer as Member, PeerId, Region, RegionId};

    const REGION: RegionId = RegionId(5);
    const RECEIVER: PeerId = PeerId(7);

    /// An offer to the receiver whose snapshot is of `region`, with `member` in it.
    fn offered(region: RegionId, member: PeerId) -> RegionMessage {
        let peers = vec![Member { id: member, ..Member::default() }];
        let region = Region { id: region, peers, ..Region::default() };
        let meta = Meta { region, stamp_ms: 0, changed_at: LogIndex::default(), own: PeerId(1) };
        let snapshot = Snapshot { data: meta.encode(), ..Snapshot::default() };
        let mut message = RegionMessage {
            region: REGION,
            to: Member { id: RECEIVER, ..Member::default() },
            ..RegionMessage::default()
        };
        message.message.snapshot = Some(Box::new(snapshot));
        message
    }

    #[test]
    fn an_offer_of_something_else_is_refused_before_raft_hears_of_it() {
        assert_eq!(check_offered(&offered(REGION, RECEIVER)), Ok(()));
        let is_refused = |message| matches!(check_offered(&message), Err(WireError::InvalidArgument(_)));
        assert!(is_refused(offered(RegionId(6), RECEIVER)), "another region's");
        assert!(is_refused(offered(REGION, PeerId(8))), "of a time in which the receiver was no member");
        let mut torn = offered(REGION, RECEIVER);
        if let Some(snapshot) = &mut torn.message.snapshot {
            snapshot.data.truncate(9);
        }
        assert!(is_refused(torn), "not a description");
        assert!(is_refused(RegionMessage { region: REGION, ..RegionMessage::default() }), "no snapshot");
    }
}
