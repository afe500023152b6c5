//! What one run is like: which settings its members have, and how often each action happens.

use std::time::Duration;

use pinion_raft::{Config, ReadOnlyOption};
use pinion_types::PeerId;

use crate::dice::Dice;

/// Ticks of an election timeout.
const ELECTION_TICK: usize = 10;
/// What an election timeout is by the clock, in units of the virtual time.
pub(crate) const PROMISE: Duration = Duration::from_micros(100);

/// Declares the actions with their usual weights.
macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident: $weight:literal,)*) => {
        /// What can happen in a step.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Action {
            $($(#[$doc])* $action,)*
        }

        impl Action {
            /// Each action and its usual weight.
            pub(crate) const ALL: &[(Self, u64)] = &[$((Self::$action, $weight),)*];
        }
    };
}

actions! {
    /// A message arrives.
    Deliver: 1500,
    /// A member takes a `Ready`, writes, or applies.
    Work: 2000,
    /// A member's tick.
    Tick: 400,
    /// A client's command.
    Propose: 100,
    /// A read by index begins.
    ReadIndex: 40,
    /// A read by lease is served, or is not.
    LeaseRead: 40,
    /// Leadership is to go to somebody.
    Transfer: 12,
    /// One member joins, leaves, or changes between voting and learning.
    ChangeOne: 12,
    /// Several members do at once.
    ChangeJointly: 8,
    /// The joint configuration is to be left.
    LeaveJoint: 12,
    /// A member ends, and what it has not synced is lost.
    Crash: 8,
    /// A member that has ended starts.
    Restart: 20,
    /// A state machine becomes durable.
    Checkpoint: 12,
    /// A log is compacted.
    Compact: 8,
    /// A member stands still for a while.
    Pause: 4,
    /// It goes on.
    Resume: 20,
    /// Time passes for all, without ticks.
    TimePasses: 3,
    /// One link is cut, in one direction.
    Cut: 4,
    /// One member is cut off.
    Isolate: 2,
    /// All links work again.
    Mend: 4,
    /// A message is lost.
    Lose: 20,
    /// A message is there twice.
    Duplicate: 10,
    /// A message is held back.
    HoldBack: 10,
    /// The messages that were held back go on their way.
    Release: 3,
    /// A member campaigns out of turn.
    Campaign: 2,
    /// A member forgets its leader.
    ForgetLeader: 2,
    /// A leader hears that a member could not be reached.
    ReportUnreachable: 4,
    /// A leader hears what became of a snapshot, rightly or not.
    ReportSnapshot: 4,
    /// A member's disk must fetch what it is asked for.
    SlowDisk: 3,
    /// It has it at hand again.
    FastDisk: 6,
}

/// Actions without which a group does nothing.
const ESSENTIAL: [Action; 6] =
    [Action::Deliver, Action::Work, Action::Tick, Action::Propose, Action::Restart, Action::Resume];

/// One run's settings.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Plan {
    pub(crate) members: u64,
    pub(crate) founders: u64,
    pub(crate) steps: u64,
    /// Messages among which the next is drawn.
    pub(crate) reorder: u64,
    /// Virtual time between two ticks of a member, on average.
    pub(crate) tick: u64,
    pub(crate) lease: bool,
    pub(crate) priorities: bool,
    /// Whether the nodes' log lines are printed.
    pub(crate) tells: bool,
    /// How many of a hundred members write asynchronously.
    pub(crate) async_percent: u64,
    /// How many of a hundred members apply late.
    pub(crate) late_percent: u64,
    /// The summed weights of the actions up to each.
    weights: Vec<(u64, Action)>,
    pre_vote: bool,
    check_quorum: bool,
    step_down_on_removal: bool,
    disable_proposal_forwarding: bool,
    batch_append: bool,
    message_bytes_max: u64,
    inflight_messages_max: usize,
    inflight_bytes_max: u64,
    /// Whether reads by index trust in ticks.
    pub(crate) trusts_ticks: bool,
}

impl Plan {
    /// Draws a plan. Some kinds of trouble are left out of each, since all of them at once hide what some can do.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let mut sum = 0;
        let mut weights = Vec::new();
        for (action, weight) in Action::ALL {
            let scale = if ESSENTIAL.contains(action) { 4 } else { dice.one_of(&[0, 1, 4, 4, 12]) };
            sum += weight * scale;
            weights.push((sum, *action));
        }
        let members = 3 + dice.below(5);
        let check_quorum = dice.percent(60);
        let message_bytes_max = dice.one_of(&[0, 30, 100, 1 << 20]);
        Self {
            members,
            founders: 1 + dice.below(members),
            steps: 2000 + dice.below(4000),
            reorder: dice.one_of(&[1, 1, 2, 4, 16]),
            tick: u64::try_from(PROMISE.as_nanos()).unwrap() / (ELECTION_TICK as u64)
                * dice.one_of(&[1, 4, 10, 20])
                / 10,
            lease: dice.percent(75),
            priorities: dice.percent(20),
            tells: std::env::var_os("PINION_RAFT_LOG").is_some(),
            async_percent: dice.one_of(&[0, 50, 100]),
            late_percent: dice.one_of(&[0, 0, 0, 50]),
            weights,
            pre_vote: dice.percent(60),
            check_quorum,
            step_down_on_removal: dice.percent(80),
            disable_proposal_forwarding: dice.percent(30),
            batch_append: dice.percent(60),
            message_bytes_max,
            inflight_messages_max: dice.place(6) + 1,
            inflight_bytes_max: dice.one_of(&[0, 0, message_bytes_max.max(1), message_bytes_max + 20]),
            trusts_ticks: check_quorum && dice.percent(15),
        }
    }

    pub(crate) fn action(&self, dice: &mut Dice) -> Action {
        let drawn = dice.below(self.weights.last().unwrap().0);
        self.weights[self.weights.partition_point(|(sum, _)| *sum <= drawn)].1
    }

    pub(crate) fn config(&self, id: PeerId) -> Config {
        Config {
            election_tick: ELECTION_TICK,
            batch_append: self.batch_append,
            max_size_per_message: self.message_bytes_max,
            max_committed_size_per_ready: self.message_bytes_max + 20,
            max_uncommitted_entries_size: 400,
            max_inflight_messages: self.inflight_messages_max,
            max_inflight_bytes: self.inflight_bytes_max,
            check_quorum: self.check_quorum,
            read_only_option: if self.trusts_ticks {
                ReadOnlyOption::LeaseBased
            } else {
                ReadOnlyOption::Safe
            },
            pre_vote: self.pre_vote,
            disable_proposal_forwarding: self.disable_proposal_forwarding,
            step_down_on_removal: self.step_down_on_removal,
            ..Config::new(id)
        }
    }
}
