//! What a message's term means, before its kind does.
//!
//! What becomes of a message that is late, hostile, or not for this node, in the order in which it is found out. *Refused*
//! is an error of [`crate::RawNode::step`], and changes nothing but, from "of a lower term" on, the term and whom the
//! node follows; *dropped* is without one; *answered* says that an answer goes out.
//!
//! | message | what happens |
//! |---|---|
//! | between a node and its storage; from no peer, this node or a storage thread | refused, `StepLocalMessage` |
//! | a response of a peer that is no member | refused, `StepPeerNotFound` |
//! | for another peer | refused, `InvalidMessage` |
//! | append, heartbeat or snapshot in this term, while another is known to lead in it | refused, `InvalidMessage` |
//! | request to campaign of a later term, or to a follower by another than its leader | refused, `InvalidMessage` |
//! | no term where there must be one; a number beyond [`INDEX_MAX`]; responses of a storage | refused, `InvalidMessage` |
//! | request for a vote whose log is of a later term than its election | refused, `InvalidMessage` |
//! | append with a gap, or with terms that go back or beyond its own | refused, `InvalidMessage` |
//! | snapshot without content, position, voters, or with more than 1024 members in a set | refused, `InvalidMessage` |
//! | request for a vote in a later term, while a leader is heard of or may hold a lease | dropped |
//! | of a lower term: append, heartbeat | answered if nothing else tells the sender, else dropped |
//! | of a lower term: request for a vote | answered with a no if nothing else tells the sender, else dropped |
//! | of a lower term: request for a pre-vote | answered with a no |
//! | of a lower term: a no to a request for a vote | what it says to be committed is taken, else dropped |
//! | of a lower term: anything else | dropped |
//! | request for a vote that is already given, for a log that is behind, or of a lower priority | answered with a no |
//! | vote or pre-vote to who does not wait for it, or for another log than the candidate's | dropped |
//! | proposal or read without a leader | refused, `ProposalDropped` or `ReadDropped` |
//! | proposal that is empty, beyond a limit, during a transfer, or to a leader that was removed | refused, `ProposalDropped` |
//! | proposal of a change that can't be read | refused, `ConfChange` |
//! | proposal of a change that does not fit | an empty entry takes its place |
//! | read beyond the limit of those that wait | refused, `ReadDropped` |
//! | append below the commit index | answered with the commit index |
//! | append that does not connect to the log | answered with a hint |
//! | append or snapshot that needs a term which can't be read | refused, `Storage` |
//! | heartbeat with a commit index beyond the log | refused, `InvalidMessage` |
//! | snapshot at or below the commit index, or whose configuration lacks this node | answered with the commit index |
//! | snapshot whose configuration contradicts itself | refused, `ConfChange` |
//! | append, heartbeat or snapshot to the leader of the term itself | refused, see above |
//! | acknowledgement of what is beyond the leader's log | refused, `InvalidMessage` |
//! | acknowledgement or rejection of what is acknowledged already | dropped, but its sender counts as active |
//! | answer to a heartbeat that was never sent, by its lease | refused, `InvalidMessage` |
//! | answer to a read that does not wait | dropped |
//! | read index for a follower that did not ask | handed out with its context, for the driver to ignore |
//! | transfer without a leader, to a learner, or to a peer that is no member | dropped |
//! | request to campaign to a candidate, a leader, or who may not campaign | dropped |
//! | anything else that the role has no use for | dropped |

use pinion_types::{LogIndex, PeerId, Term};

use super::{Appended, Campaign, Raft};
use crate::logger::say;
use crate::raw_node::Role;
use crate::{
    APPEND_THREAD, APPLY_THREAD, ConfState, Entry, INDEX_MAX, Message, MessageKind, NO_PEER, RaftError,
    Snapshot, Storage,
};

/// Members that each set of a snapshot's configuration may have.
const MEMBERS_MAX: usize = 1024;

impl<S: Storage> Raft<S> {
    /// Takes a message that has come over the network: checks it, then steps it.
    pub(crate) fn step_remote(&mut self, message: &mut Message) -> Result<(), RaftError> {
        let (kind, from) = (message.kind, message.from);
        if kind.is_storage() || [self.id, NO_PEER, APPEND_THREAD, APPLY_THREAD].contains(&from) {
            return Err(RaftError::StepLocalMessage { kind, from });
        }
        if kind.is_response() && !self.tracker.progress.contains(from) {
            return Err(RaftError::StepPeerNotFound { from });
        }
        if message.to != self.id {
            return Err(invalid(message, "it is addressed to another peer"));
        }
        let leads = matches!(kind, MessageKind::Append | MessageKind::Heartbeat | MessageKind::Snapshot);
        if leads && message.term == self.term && ![from, NO_PEER].contains(&self.leader) {
            return Err(invalid(message, "another peer leads in this term"));
        }
        if kind == MessageKind::TimeoutNow && self.is_from_stranger(message) {
            // It would have this voter break its promise to the leader.
            return Err(invalid(message, "it does not come from the leader that this node follows"));
        }
        check(message).map_err(|reason| invalid(message, reason))?;
        self.step(message)
    }

    /// Whether a message that only a leader sends comes from another than this follower's. Who transfers its leadership was
    /// heard of in its term before.
    fn is_from_stranger(&self, message: &Message) -> bool {
        message.term > self.term
            || (message.term == self.term && self.role == Role::Follower && message.from != self.leader)
    }

    /// Takes a message of whatever origin. Of the message, what is worth moving is moved: it is large, and goes from hand to hand by
    /// reference.
    pub(crate) fn step(&mut self, message: &mut Message) -> Result<(), RaftError> {
        if message.term > self.term && message.term != Term(0) {
            if self.ignores_vote(message) {
                return Ok(());
            }
            self.enter_term_of(message);
        } else if message.term < self.term && message.term != Term(0) {
            if matches!(message.kind, MessageKind::VoteResponse | MessageKind::PreVoteResponse) {
                // Who refuses may be behind in terms and ahead in what it knows: a member that was removed and hears of no campaign.
                self.commit_by_refusal(message);
            }
            self.step_lower_term(message);
            return Ok(());
        }
        match message.kind {
            MessageKind::StorageAppendResponse => self.append_done(&Appended::of(message)),
            MessageKind::StorageApplyResponse => self.applied_to(message.index),
            MessageKind::Vote | MessageKind::PreVote => self.step_vote(message),
            _ => {
                if matches!(message.kind, MessageKind::VoteResponse | MessageKind::PreVoteResponse) {
                    self.commit_by_refusal(message);
                }
                return match self.role {
                    Role::Leader => self.step_leader(message),
                    Role::Follower => self.step_follower(message),
                    Role::Candidate | Role::PreCandidate => self.step_candidate(message),
                };
            }
        }
        Ok(())
    }

    /// Who hears from a leader neither votes nor goes to a higher term, unless the leader itself asks for the election.
    fn ignores_vote(&self, message: &Message) -> bool {
        let is_vote = matches!(message.kind, MessageKind::Vote | MessageKind::PreVote);
        if !is_vote {
            return false;
        }
        if self.keeps_promise_to_refuse(message) {
            say!(
                self.logger,
                Info,
                "{:x} ignored {} from {:x} at term {}: a leader may hold a lease that it vouches for",
                self.id,
                message.kind,
                message.from,
                self.term
            );
            return true;
        }
        if Campaign::is_transfer(message) || !self.hears_from_leader() {
            return false;
        }
        let last = self.log.last();
        say!(
            self.logger,
            Info,
            "{:x} [logterm: {}, index: {}, vote: {:x}] ignored {} from {:x} [logterm: {}, index: {}] at term {}: lease is \
             not expired (remaining ticks: {})",
            self.id,
            last.term,
            last.index,
            self.vote,
            message.kind,
            message.from,
            message.log_term,
            message.index,
            self.term,
            self.settings.election_timeout - self.election_elapsed
        );
        true
    }

    fn enter_term_of(&mut self, message: &Message) {
        match message.kind {
            // A pre-vote never changes the term. A granted one carries the term to come, which begins with a quorum;
            // a refused one carries the term of who refused, which is ours to take.
            MessageKind::PreVote => return,
            MessageKind::PreVoteResponse if !message.reject => return,
            _ => {}
        }
        say!(
            self.logger,
            Info,
            "{:x} [term: {}] received a {} message with higher term from {:x} [term: {}]",
            self.id,
            self.term,
            message.kind,
            message.from,
            message.term
        );
        let leads =
            matches!(message.kind, MessageKind::Append | MessageKind::Heartbeat | MessageKind::Snapshot);
        self.become_follower(message.term, if leads { message.from } else { NO_PEER });
    }

    /// A message of a term that is over is ignored, with some exceptions.
    fn step_lower_term(&mut self, message: &Message) {
        match message.kind {
            // A leader that does not know that its term is over.
            MessageKind::Heartbeat | MessageKind::Append if self.tells_old_leader(message.from) => {
                self.send(Message {
                    kind: MessageKind::AppendResponse,
                    to: message.from,
                    ..Message::default()
                });
            }
            // A candidate of a lower term with a longer log must learn our term, or neither side is ever elected.
            MessageKind::PreVote => self.refuse_vote(message),
            MessageKind::Vote if !self.tells_by_campaign(message.from) => self.refuse_vote(message),
            MessageKind::StorageAppendResponse => self.append_done(&Appended::of(message)),
            _ => say!(
                self.logger,
                Info,
                "{:x} [term: {}] ignored a {} message with lower term from {:x} [term: {}]",
                self.id,
                self.term,
                message.kind,
                message.from,
                message.term
            ),
        }
    }

    /// Whether a leader of a lower term is told that its term is over. Where votes are ignored while a leader is heard of
    /// or a lease may be in force, and where terms do not rise without a pre-vote, only such an answer tells: otherwise a
    /// node that comes back from a partition with a higher term would neither win an election nor follow anybody. (etcd
    /// looks at the first and the third.)
    fn tells_old_leader(&self, leader: PeerId) -> bool {
        self.settings.check_quorum
            || self.settings.pre_vote
            || self.lease.is_some()
            || !self.tells_by_campaign(leader)
    }

    /// Whether a campaign of this node's own would tell that peer its term: it may campaign, and would ask it. (etcd does
    /// not look at that, and its terms can race for long, or a leader wait for ever for a member that does not know it.)
    fn tells_by_campaign(&self, peer: PeerId) -> bool {
        self.promotable() && self.tracker.configuration.voters.contains(peer)
    }

    /// The storage has done a write.
    pub(crate) fn append_done(&mut self, appended: &Appended) {
        let last = appended.last;
        if last.index > LogIndex(0) && appended.term < self.term {
            // Entries may have been replaced since, in a later term; a later answer will cover them.
            say!(
                self.logger,
                Info,
                "{:x} [term: {}] ignored entry appends from a {} message with lower term [term: {}]",
                self.id,
                self.term,
                MessageKind::StorageAppendResponse,
                appended.term
            );
        } else if last.index > LogIndex(0) {
            self.log.stable_to(last);
        }
        // A snapshot is committed state, whatever the term.
        if let Some(index) = appended.snapshot {
            self.log.stable_snapshot_to(index);
            self.applied_to(index);
        }
    }
}

pub(super) fn invalid(message: &Message, reason: &'static str) -> RaftError {
    RaftError::InvalidMessage { kind: message.kind, from: message.from, term: message.term, reason }
}

/// What can be said against a message without knowing the node's state.
fn check(message: &Message) -> Result<(), &'static str> {
    if message.kind.needs_term() && message.term == Term(0) {
        return Err("it carries no term");
    }
    let numbers =
        [message.term.0, message.log_term.0, message.index.0, message.commit.0, message.reject_hint.0];
    if numbers.iter().any(|number| *number > INDEX_MAX) {
        return Err("an index or a term is beyond the limit");
    }
    if !message.responses.is_empty() {
        return Err("it carries responses of a storage");
    }
    match message.kind {
        MessageKind::Vote | MessageKind::PreVote if message.log_term > message.term => {
            Err("its log is of a later term than the election")
        }
        MessageKind::Append => check_entries(message),
        MessageKind::Snapshot => check_snapshot(message.term, message.snapshot.as_deref()),
        _ => Ok(()),
    }
}

fn check_entries(message: &Message) -> Result<(), &'static str> {
    let (mut index, mut term) = (message.index, message.log_term);
    for Entry { index: entry_index, term: entry_term, .. } in &message.entries {
        if *entry_index != index.next() {
            return Err("its entries have a gap");
        }
        if *entry_term < term || *entry_term == Term(0) {
            return Err("its entries go back in terms");
        }
        (index, term) = (*entry_index, *entry_term);
    }
    if term > message.term {
        return Err("its entries are of a later term than its own");
    }
    if index.0 > INDEX_MAX { Err("an index or a term is beyond the limit") } else { Ok(()) }
}

fn check_snapshot(term: Term, snapshot: Option<&Snapshot>) -> Result<(), &'static str> {
    let Some(metadata) = snapshot.map(|snapshot| &snapshot.metadata) else {
        return Err("it carries no snapshot");
    };
    if metadata.index.0 == 0 || metadata.index.0 > INDEX_MAX {
        return Err("the snapshot's index makes no sense");
    }
    if metadata.term.0 == 0 || metadata.term > term {
        return Err("the snapshot's term makes no sense");
    }
    let ConfState { voters, learners, voters_outgoing, learners_next, auto_leave: _ } = &metadata.conf_state;
    if voters.is_empty() {
        return Err("the snapshot has no configuration");
    }
    // A configuration is built member by member, in quadratic time.
    if [voters, learners, voters_outgoing, learners_next].iter().any(|set| set.len() > MEMBERS_MAX) {
        return Err("the snapshot's configuration has too many members");
    }
    Ok(())
}
