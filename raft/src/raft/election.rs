//! Elections: asking for votes, giving them, counting them. Thesis §3.4, with the pre-vote of §9.6.

use bytes::Bytes;
use pinion_types::{LogIndex, PeerId, Term};

use super::Raft;
use super::step::invalid;
use crate::lease::Stamp;
use crate::log::EntryId;
use crate::logger::say;
use crate::quorum::VoteResult;
use crate::raw_node::Role;
use crate::{DropReason, Message, MessageKind, NO_PEER, RaftError, Storage};

/// Why a node campaigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Campaign {
    /// To find out if it would win.
    PreElection,
    /// To win.
    Election,
    /// The leader told it to, and has given up its lease up to this stamp. There is no pre-vote: the node is not
    /// recovering from a partition.
    Transfer(Stamp),
}

impl Campaign {
    /// Begins the context of a vote request that the leader has asked for. It is none of an entry, whose term it would be.
    const TRANSFER_CONTEXT: &'static [u8] = b"CampaignTransfer";

    /// Whether the leader has asked for the election of this request.
    pub(crate) fn is_transfer(request: &Message) -> bool {
        request.context.starts_with(Self::TRANSFER_CONTEXT)
    }

    /// The context of a request: whether the leader has asked for it, and what the candidate knows to be committed.
    fn to_context(self, known: EntryId) -> Bytes {
        match self {
            Self::Transfer(_) => Bytes::from([Self::TRANSFER_CONTEXT, &known.to_context()].concat()),
            Self::PreElection | Self::Election => known.to_context(),
        }
    }
}

impl<S: Storage> Raft<S> {
    /// Campaigns as the configuration says.
    pub(crate) fn start_election(&mut self) {
        self.campaign_if_allowed(if self.settings.pre_vote {
            Campaign::PreElection
        } else {
            Campaign::Election
        });
    }

    pub(crate) fn campaign_if_allowed(&mut self, campaign: Campaign) {
        if self.role == Role::Leader {
            say!(self.logger, Debug, "{:x} ignoring MsgHup because already leader", self.id);
        } else if !self.promotable() {
            say!(self.logger, Warn, "{:x} is unpromotable and can not campaign", self.id);
        } else if !self.may_campaign(campaign) {
            say!(
                self.logger,
                Info,
                "{:x} cannot campaign: a leader may hold a lease that it vouches for",
                self.id
            );
        } else if self.has_conf_changes(self.log.applied, self.log.committed) {
            say!(
                self.logger,
                Warn,
                "{:x} cannot campaign at term {} since there are still pending configuration changes to apply",
                self.id,
                self.term
            );
        } else if self.term.0 >= crate::INDEX_MAX {
            say!(self.logger, Error, "{:x} cannot campaign: terms are used up at {}", self.id, self.term);
        } else {
            say!(self.logger, Info, "{:x} is starting a new election at term {}", self.id, self.term);
            self.campaign(campaign);
        }
    }

    /// A campaign is a vote for itself.
    fn may_campaign(&self, campaign: Campaign) -> bool {
        self.lease.as_ref().is_none_or(|lease| match campaign {
            Campaign::Transfer(stamp) => lease.may_vote_for_transfer(self.term, stamp),
            Campaign::PreElection | Campaign::Election => lease.may_vote(),
        })
    }

    /// Whether this node is all of its group, and no change of that can be on its way.
    pub(super) fn decides_alone(&self) -> bool {
        let voters = &self.tracker.configuration.voters;
        voters.is_singleton()
            && voters.contains(self.id)
            && !self.has_conf_changes(self.log.applied, self.log.last_index())
    }

    /// Whether there is a change of the configuration in `(after, through]`. Who has a committed one to apply does not
    /// know the configuration in force, and must not be elected by an older one. When the storage can't tell, it is taken
    /// for a yes.
    fn has_conf_changes(&self, after: LogIndex, through: LogIndex) -> bool {
        match self.find_entry(after, through, |entry| entry.kind.is_conf_change()) {
            Ok(found) => found.is_some(),
            Err(error) => {
                say!(self.logger, Error, "{:x} cannot read entries after {after}: {error}", self.id);
                true
            }
        }
    }

    fn campaign(&mut self, campaign: Campaign) {
        if !self.promotable() {
            // It was when it began its pre-vote. Without its own vote it is the others' to decide.
            say!(self.logger, Warn, "{:x} is unpromotable; campaign() should have been called", self.id);
        }
        let (kind, response, term) = if campaign == Campaign::PreElection {
            self.become_pre_candidate();
            // The question is about the term that would begin.
            (MessageKind::PreVote, MessageKind::PreVoteResponse, Term(self.term.0 + 1))
        } else {
            self.become_candidate();
            (MessageKind::Vote, MessageKind::VoteResponse, self.term)
        };
        let lease = if let Campaign::Transfer(stamp) = campaign { stamp } else { 0 };
        let request_context = campaign.to_context(self.known_committed());
        let last = self.log.last();
        for id in self.tracker.configuration.voters.ids().ids() {
            if *id == self.id {
                // The own vote counts when it is durable, like anybody's.
                let context = last.to_context();
                self.send(Message { kind: response, to: *id, term, context, ..Message::default() });
                continue;
            }
            say!(
                self.logger,
                Info,
                "{:x} [logterm: {}, index: {}] sent {kind} request to {id:x} at term {}",
                self.id,
                last.term,
                last.index,
                self.term
            );
            self.send(Message {
                kind,
                to: *id,
                term,
                log_term: last.term,
                index: last.index,
                priority: self.settings.priority,
                context: request_context.clone(),
                lease,
                ..Message::default()
            });
        }
    }

    /// Answers a request for a vote or a pre-vote.
    pub(super) fn step_vote(&mut self, message: &Message) {
        let is_pre_vote = message.kind == MessageKind::PreVote;
        let can_vote = self.vote == message.from
            || (self.vote == NO_PEER && self.leader == NO_PEER)
            || (is_pre_vote && message.term > self.term);
        let (last, theirs) = (self.log.last(), EntryId { term: message.log_term, index: message.index });
        // Who could not win with its own log, or can't lead itself, has nobody better to offer. Whom the leader has chosen
        // is preferred whatever its priority.
        let preferred = theirs != last
            || self.settings.priority <= message.priority
            || !self.promotable()
            || Campaign::is_transfer(message);
        if !can_vote || !preferred || !self.log.is_up_to_date(theirs) || self.keeps_promise_to_refuse(message)
        {
            return self.refuse_vote(message);
        }
        // A learner votes, too: it may have been made a voter without knowing yet, and then it is needed to elect
        // somebody who tells it.
        self.say_vote("cast", "for", message);
        let kind = if is_pre_vote { MessageKind::PreVoteResponse } else { MessageKind::VoteResponse };
        // The answer carries the term of the request: a pre-candidate would ignore an answer of our lower one.
        // It names the log that it is given to.
        let context = theirs.to_context();
        self.send(Message { kind, to: message.from, term: message.term, context, ..Message::default() });
        if !is_pre_vote {
            self.election_elapsed = 0;
            self.vote = message.from;
        }
    }

    /// Whether somebody may hold a lease that depends on this node's not voting now.
    pub(super) fn keeps_promise_to_refuse(&self, message: &Message) -> bool {
        let Some(lease) = &self.lease else { return false };
        if message.kind == MessageKind::Vote && Campaign::is_transfer(message) {
            // The leader that asked for it led in the term before.
            return !lease.may_vote_for_transfer(Term(message.term.0.saturating_sub(1)), message.lease);
        }
        !lease.may_vote()
    }

    pub(super) fn refuse_vote(&mut self, message: &Message) {
        self.say_vote("rejected", "from", message);
        let kind = if message.kind == MessageKind::PreVote {
            MessageKind::PreVoteResponse
        } else {
            MessageKind::VoteResponse
        };
        // Before the first term there is none to tell; that of the request is the least that serves.
        let term = if self.term.0 == 0 { message.term } else { self.term };
        // A removed member may have a longer log than those that remain, and they may not have heard that its removal is
        // committed: it can't be elected, and they can't without it. The other way round a learner with a longer log may
        // not have heard that it has become a voter. TiKV's raft tells what is committed with each request and refusal.
        let context = if self.promotable() {
            Bytes::new()
        } else {
            self.commit_by_request(message);
            self.known_committed().to_context()
        };
        self.send(Message { kind, to: message.from, term, reject: true, context, ..Message::default() });
    }

    fn known_committed(&self) -> EntryId {
        let index = self.log.committed;
        EntryId { term: self.log.term_or_zero(index), index }
    }

    fn commit_by_request(&mut self, request: &Message) {
        let context = &request.context[..];
        let known = context.strip_prefix(Campaign::TRANSFER_CONTEXT).unwrap_or(context);
        if let Some(known) = EntryId::from_context(known) {
            self.log.maybe_commit(known);
        }
    }

    /// What is committed is so for everybody who has it.
    pub(super) fn commit_by_refusal(&mut self, message: &Message) {
        if let Some(known) = EntryId::from_context(&message.context).filter(|_| message.reject) {
            self.log.maybe_commit(known);
        }
    }

    fn say_vote(&self, what: &str, preposition: &str, message: &Message) {
        let last = self.log.last();
        say!(
            self.logger,
            Info,
            "{:x} [logterm: {}, index: {}, vote: {:x}] {what} {} {preposition} {:x} [logterm: {}, index: {}] at term {}",
            self.id,
            last.term,
            last.index,
            self.vote,
            message.kind,
            message.from,
            message.log_term,
            message.index,
            self.term
        );
    }

    pub(super) fn step_candidate(&mut self, message: &mut Message) -> Result<(), RaftError> {
        let awaited = if self.role == Role::PreCandidate {
            MessageKind::PreVoteResponse
        } else {
            MessageKind::VoteResponse
        };
        match message.kind {
            MessageKind::Propose => {
                say!(self.logger, Info, "{:x} no leader at term {}; dropping proposal", self.id, self.term);
                Err(RaftError::ProposalDropped(DropReason::NoLeader))
            }
            MessageKind::ReadIndex => Err(RaftError::ReadDropped(DropReason::NoLeader)),
            MessageKind::Append | MessageKind::Heartbeat | MessageKind::Snapshot => {
                if message.term.0 == 0 {
                    return Err(invalid(message, "it carries no term"));
                }
                self.become_follower(message.term, message.from);
                self.step_follower(message)
            }
            kind if kind == awaited => {
                if message.reject || self.is_for_this_log(message) {
                    self.count_vote(message.from, kind, !message.reject);
                }
                Ok(())
            }
            MessageKind::TimeoutNow => {
                say!(
                    self.logger,
                    Debug,
                    "{:x} [term {} state {}] ignored MsgTimeoutNow from {:x}",
                    self.id,
                    self.term,
                    self.role,
                    message.from
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether a vote was given to the log that this candidate has. A request may have left before its term and the end of
    /// the log that it told were durable: after a crash the node may campaign in the same term again, with less of a log,
    /// and whoever voted for the longer one might not vote for this one.
    fn is_for_this_log(&self, message: &Message) -> bool {
        EntryId::from_context(&message.context) == Some(self.log.last())
    }

    fn count_vote(&mut self, from: PeerId, kind: MessageKind, granted: bool) {
        let what = if granted { "" } else { " rejection" };
        say!(self.logger, Info, "{:x} received {kind}{what} from {from:x} at term {}", self.id, self.term);
        self.tracker.record_vote(from, granted);
        let (granted, refused, result) = self.tracker.tally_votes();
        say!(
            self.logger,
            Info,
            "{:x} has received {granted} {kind} votes and {refused} vote rejections",
            self.id
        );
        match result {
            VoteResult::Won if self.role == Role::PreCandidate => self.campaign(Campaign::Election),
            VoteResult::Won => {
                self.become_leader();
                self.broadcast_append();
            }
            VoteResult::Lost => self.become_follower(self.term, NO_PEER),
            VoteResult::Pending => {}
        }
    }
}
