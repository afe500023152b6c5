//! A peer that nobody leads, and that hears of no leader, may have been removed while nobody could tell it: a learner never campaigns, and all whom
//! a voter would ask for its vote may have been removed since, too. It asks every store whether the region still has it.
//!
//! The question goes to peer 0, which is none, so that no peer takes it for its own business and no peer is made for it. Whoever knows a later
//! configuration without the asker says so: ids of peers are never given again. A blank asker counts as of the epoch in which somebody knew it as a
//! member.

use crate::core::Shard;
use crate::peer::Peer;
use pinion_capnp::link::RegionMessage;
use pinion_raft::{Message, MessageKind};
use pinion_types::{CoreId, PeerId};

/// Whom a question is for: no peer.
const NOBODY: PeerId = PeerId(0);

/// Whether a message asks whether its sender is still a member.
pub(crate) fn is_inquiry(message: &RegionMessage) -> bool {
    message.to.id == NOBODY && !message.gone
}

impl Shard {
    /// Asks every store whether a peer is still a member of its region.
    pub(crate) fn inquire(&self, peer: &Peer) {
        log::debug!(
            "core {}: peer {} of region {} hears of no leader",
            self.0.core,
            peer.peer().id,
            peer.id()
        );
        for store in self.0.links.stores() {
            let question = RegionMessage {
                region: peer.id(),
                epoch: peer.region().epoch,
                from: peer.peer(),
                to: pinion_types::Peer { id: NOBODY, store, ..Default::default() },
                from_core: self.0.core,
                message: Message {
                    kind: MessageKind::PreVote,
                    from: peer.peer().id,
                    to: NOBODY,
                    term: peer.term(),
                    ..Message::default()
                },
                ..RegionMessage::default()
            };
            self.send_message(CoreId(0), question);
        }
    }

    /// Tells an asker that it was removed, if that is certain.
    pub(crate) fn answer_inquiry(&self, peer: &Peer, question: &RegionMessage) {
        let asker = question.from.id;
        if peer.is_blank() || peer.is_deaf() || peer.has_member(asker) {
            return;
        }
        if question.epoch.conf_ver < peer.region().epoch.conf_ver {
            self.tell_removed(peer, question.from, question.from_core);
        }
    }
}
