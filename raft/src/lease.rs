//! Leases: for how long a leader may answer reads without asking anybody, by clocks and not by ticks.
//!
//! Each heartbeat carries a stamp, the leader's clock when it was sent, and its answer brings the stamp back. Who answers
//! has promised: for [`LeaseConfig::promise`] from then on, by its own clock, it votes for nobody and does not campaign.
//! A quorum that has answered stamps of `s` and later keeps the leader in office until `s` plus the promise less what two
//! clocks may differ by; the lease ends then, counted from the sending, however late the answers came.
//!
//! - The promise lives in memory. A node that has restarted does not know what it promised and votes for nobody for as
//!   long as the longest promise lasts, unless there was never anybody to promise to: see [`History`].
//! - A transfer is the one election that may come earlier, because the leader asks for it: it gives up what it was
//!   promised up to a stamp, and that stamp travels with the request to campaign and with the votes that are asked for.
//!   A voter that has answered a later heartbeat keeps its promise: the transfer was called off, and its message is late.
//! - The quorum is that of the configuration in force at the leader, evaluated when it changes. At most one change is
//!   committed and not yet applied there, so that an election elsewhere needs somebody of it.
//!
//! Source: Ongaro's thesis §6.4.1, with the measures above for what it leaves to the clocks.

use std::rc::Rc;
use std::time::Duration;

use pinion_types::Term;

use crate::RaftError;

/// Tells the time since some moment that does not change while the node runs; never goes back, and goes on while the
/// process is paused or the machine asleep.
pub type Clock = Rc<dyn Fn() -> Duration>;

/// What a member may have promised before it started, for which its driver has to keep account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// This member has never run before, on any machine: it has promised nothing, and votes at once.
    New,
    /// It has run, and in all that it has applied the group never had another member, be it voter or learner: there was
    /// nobody to promise anything to. It votes at once if its log changes nothing of that. The driver persists whether
    /// it was ever otherwise, with the applied state; a region's epoch that still counts no change says it, for example.
    /// To be the only voter now is not enough: a leader that was removed, and does not know yet, may still count on the
    /// promise that this member gave it.
    Alone,
    /// It has run in a group: it votes for nobody, not even for itself, until all that it may have promised is over.
    /// Always sound.
    Member,
}

/// Leases by the clock. All members must have the same `promise`.
#[derive(Clone)]
pub struct LeaseConfig {
    /// For how long a member that has answered a heartbeat votes for nobody: the least election timeout, as time. Too
    /// small: heartbeats come too seldom to keep a lease, and reads ask the quorum. Too large: a dead leader is replaced
    /// late, and a member that starts votes late. TiKV: `raftstore.raft-store-max-leader-lease` is the lease itself.
    pub promise: Duration,
    /// By how much two members' clocks may differ after `promise`. Leases are shorter by it. Too small for the clocks at
    /// hand: stale reads. Too large: short leases. At least a hundredth of `promise` is sound for machines' monotonic
    /// clocks, which are kept within 500 parts in a million.
    pub drift_max: Duration,
    /// What this member may have promised before.
    pub history: History,
    /// The clock.
    pub clock: Clock,
}

impl LeaseConfig {
    pub(crate) fn validate(&self) -> Result<(), RaftError> {
        if self.drift_max >= self.promise {
            return Err(RaftError::Config("the lease's drift_max must be less than its promise"));
        }
        if self.promise.is_zero() || self.promise > Duration::from_hours(1) {
            return Err(RaftError::Config("the lease's promise must be greater than 0 and at most an hour"));
        }
        Ok(())
    }
}

/// A time by one node's clock, in nanoseconds. 0 is no time: before everything.
pub(crate) type Stamp = u64;

/// The stamp that is never reached.
pub(crate) const NEVER: Stamp = u64::MAX;

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

/// What a node promised as a voter, and what it was promised as the leader of this term.
pub(crate) struct Lease {
    config: LeaseConfig,
    /// Before this it votes for nobody, whoever asks: it has restarted.
    silent_until: Stamp,
    promised_until: Stamp,
    /// The latest stamp of the term's leader that was answered.
    answered: (Term, Stamp),
    /// The latest stamp that was sent.
    sent: Stamp,
    /// Promises for stamps up to this were given up.
    given_up: Stamp,
    /// The lease's end.
    until: Stamp,
}

impl Lease {
    /// A node starts. `decides_alone`: nothing in its log lets another vote.
    pub(crate) fn new(config: LeaseConfig, decides_alone: bool) -> Self {
        let mut lease = Self {
            config,
            silent_until: 0,
            promised_until: 0,
            answered: (Term(0), 0),
            sent: 0,
            given_up: 0,
            until: 0,
        };
        let has_promised_nothing = match lease.config.history {
            History::New => true,
            History::Alone => decides_alone,
            History::Member => false,
        };
        if !has_promised_nothing {
            lease.silent_until = lease.after_promise();
        }
        lease
    }

    fn now(&self) -> Stamp {
        // 0 means that there is no stamp.
        nanoseconds((self.config.clock)()).max(1)
    }

    fn after_promise(&self) -> Stamp {
        self.now().saturating_add(nanoseconds(self.config.promise))
    }

    // The voter.

    /// A heartbeat of this term's leader is about to be answered.
    pub(crate) fn promise(&mut self, term: Term, stamp: Stamp) {
        self.promised_until = self.promised_until.max(self.after_promise());
        self.answered = self.answered.max((term, stamp));
    }

    /// Whether the node may vote, for itself or for another, in an election that no leader asked for.
    pub(crate) fn may_vote(&self) -> bool {
        let now = self.now();
        now >= self.silent_until && now >= self.promised_until
    }

    /// Whether it may vote in an election that the leader of `term` asked for when it gave up everything to `stamp`.
    pub(crate) fn may_vote_for_transfer(&self, term: Term, stamp: Stamp) -> bool {
        let released = self.answered.0 < term || (self.answered.0 == term && self.answered.1 <= stamp);
        self.may_vote() || (self.now() >= self.silent_until && released)
    }

    // The leader.

    /// A term begins, or ends.
    pub(crate) fn reset(&mut self) {
        (self.sent, self.given_up, self.until) = (0, 0, 0);
    }

    /// The stamp for heartbeats that are sent now.
    pub(crate) fn stamp(&mut self) -> Stamp {
        self.sent = self.now();
        self.sent
    }

    /// Whether a heartbeat with this stamp was sent in this term.
    pub(crate) fn was_sent(&self, stamp: Stamp) -> bool {
        stamp <= self.sent
    }

    /// Gives up all that was promised until now; the stamp says how far.
    pub(crate) fn give_up(&mut self) -> Stamp {
        self.given_up = self.stamp();
        self.until = 0;
        self.given_up
    }

    /// What an answered stamp is worth.
    pub(crate) fn counted(&self, stamp: Stamp) -> Stamp {
        if stamp > self.given_up { stamp } else { 0 }
    }

    /// A quorum has answered stamps of at least `stamp`, [`NEVER`] if this node is the quorum.
    pub(crate) fn extend(&mut self, stamp: Stamp) {
        let lasts = nanoseconds(self.config.promise.saturating_sub(self.config.drift_max));
        self.until = if stamp == 0 { 0 } else { stamp.saturating_add(lasts) };
    }

    /// Whether nobody else can have been elected yet.
    pub(crate) fn in_force(&self) -> bool {
        self.now() < self.until
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn lease(history: History) -> (Rc<Cell<u64>>, Lease) {
        let time = Rc::new(Cell::new(1000));
        let clock = Rc::clone(&time);
        let config = LeaseConfig {
            promise: Duration::from_nanos(100),
            drift_max: Duration::from_nanos(10),
            history,
            clock: Rc::new(move || Duration::from_nanos(clock.get())),
        };
        config.validate().unwrap();
        (time, Lease::new(config, false))
    }

    #[test]
    fn a_lease_is_counted_from_the_sending_and_ends_before_the_promise() {
        let (time, mut lease) = lease(History::New);
        let stamp = lease.stamp();
        time.set(1080);
        lease.extend(lease.counted(stamp));
        assert!(lease.in_force());
        time.set(1089);
        assert!(lease.in_force());
        time.set(1090);
        assert!(!lease.in_force());
    }

    #[test]
    fn a_promise_is_counted_from_the_answer() {
        let (time, mut lease) = lease(History::New);
        assert!(lease.may_vote());
        time.set(1050);
        lease.promise(Term(1), 7);
        time.set(1149);
        assert!(!lease.may_vote());
        time.set(1150);
        assert!(lease.may_vote());
    }

    #[test]
    fn who_restarts_votes_for_nobody_as_long_as_it_may_have_promised() {
        let (time, lease) = lease(History::Member);
        time.set(1099);
        assert!(!lease.may_vote());
        assert!(!lease.may_vote_for_transfer(Term(1), NEVER));
        time.set(1100);
        assert!(lease.may_vote());
    }

    #[test]
    fn who_was_always_alone_votes_at_once_if_its_log_agrees() {
        let (_, member) = lease(History::Member);
        let config = LeaseConfig { history: History::Alone, ..member.config };
        assert!(Lease::new(config.clone(), true).may_vote());
        assert!(!Lease::new(config.clone(), false).may_vote());
        assert!(!Lease::new(LeaseConfig { history: History::Member, ..config }, true).may_vote());
    }

    #[test]
    fn a_transfer_ends_earlier_promises_and_no_later_ones() {
        let (time, mut leader) = lease(History::New);
        let (_, mut voter) = lease(History::New);
        let first = leader.stamp();
        voter.promise(Term(3), first);
        time.set(1001);
        let given_up = leader.give_up();
        leader.extend(leader.counted(first));
        assert!(!leader.in_force());
        assert!(voter.may_vote_for_transfer(Term(3), given_up));
        assert!(!voter.may_vote_for_transfer(Term(2), given_up), "it is an earlier leader's transfer");
        time.set(1002);
        let second = leader.stamp();
        voter.promise(Term(3), second);
        leader.extend(leader.counted(second));
        assert!(leader.in_force());
        assert!(!voter.may_vote_for_transfer(Term(3), given_up));
    }
}
