//! One member: its node while it runs, its disk, and the writes and entries on their way between them.
//!
//! A piece of work is one step, so that anything may happen between a node's wish and its fulfilment: with plain writes
//! a `Ready` is taken in one step and done in another; with asynchronous ones each message to a storage thread is one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use pinion_raft::tracker::ProgressState;
use pinion_raft::{
    APPEND_THREAD, APPLY_THREAD, ApplyAhead, ConfChange, ConfState, Config, Entry, History, LeaseConfig,
    Level, Logger, Message, MessageKind, NO_PEER, RaftError, RawNode, Ready, Role, Snapshot, Status, testing,
};
use pinion_types::{LogIndex, PeerId, Term};

use crate::counts::Outcome;
use crate::dice::Dice;
use crate::disk::{Checkpoint, Disk, Shared};
use crate::judge::{Judge, Verdict};
use crate::plan::{PROMISE, Plan};

/// What was seen of a node after its last step.
#[derive(Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) commit: LogIndex,
    /// The term in which it led.
    pub(crate) led_in: Option<Term>,
    /// The last entry that left it for the disk, and the term in which it led then.
    emitted: Option<(Term, LogIndex)>,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Member {
    pub(crate) id: PeerId,
    pub(crate) disk: Rc<RefCell<Disk>>,
    pub(crate) node: Option<RawNode<Shared>>,
    pub(crate) is_paused: bool,
    /// What its state machine has applied, and the configuration there.
    applied: LogIndex,
    conf_state: ConfState,
    /// Whether the group had another member in anything that was applied.
    had_company: bool,
    pub(crate) seen: Seen,
    ready: Option<Box<Ready>>,
    appends: VecDeque<Message>,
    applies: VecDeque<Message>,
    is_async: bool,
    /// Whether its state machine lags far behind. Only with asynchronous writes.
    applies_late: bool,
    has_run: bool,
    /// Until when, by the time of the world, it certainly keeps what it may have promised before it started.
    silent_until: u64,
}

/// Whether there is more than one member.
pub(crate) fn has_company(state: &ConfState) -> bool {
    state.voters.len() + state.learners.len() > 1 || !state.voters_outgoing.is_empty()
}

/// A member's clock, off by a little that grows.
fn clock(time: &Rc<Cell<u64>>, dice: &mut Dice, drift_ppm_max: u64) -> pinion_raft::Clock {
    let (time, offset) = (Rc::clone(time), dice.below(1_000_000));
    let rate = 1_000_000 - drift_ppm_max + dice.below(2 * drift_ppm_max + 1);
    Rc::new(move || Duration::from_nanos(offset + time.get() * rate / 1_000_000))
}

/// Prints what a node says.
struct Tell;

impl Logger for Tell {
    fn enabled(&self, _: Level) -> bool {
        true
    }

    fn log(&self, level: Level, line: std::fmt::Arguments<'_>) {
        eprintln!("         {level:?} {line}");
    }
}

impl Member {
    pub(crate) fn new(id: PeerId, disk: Disk, is_async: bool, applies_late: bool) -> Self {
        let Checkpoint { index, conf_state, had_company, .. } = disk.checkpoint.clone();
        Self {
            id,
            disk: Rc::new(RefCell::new(disk)),
            node: None,
            is_paused: false,
            applied: index,
            conf_state,
            had_company,
            seen: Seen::default(),
            ready: None,
            appends: VecDeque::new(),
            applies: VecDeque::new(),
            is_async,
            applies_late,
            has_run: false,
            silent_until: 0,
        }
    }

    pub(crate) fn is_awake(&self) -> bool {
        self.node.is_some() && !self.is_paused
    }

    fn history(&self) -> History {
        match (self.has_run, self.had_company) {
            (false, _) => History::New,
            (true, false) => History::Alone,
            (true, true) => History::Member,
        }
    }

    /// Another configuration is in force.
    fn configure(&mut self, state: ConfState) {
        self.had_company |= has_company(&state);
        self.conf_state = state;
    }

    pub(crate) fn start(
        &mut self,
        plan: &Plan,
        time: &Rc<Cell<u64>>,
        dice: &mut Dice,
        judge: &mut Judge,
    ) -> Verdict {
        judge.started(self.id, &self.disk.borrow())?;
        let history = self.history();
        let is_last = self.conf_state.voters == [self.id] && !has_company(&self.conf_state);
        match history {
            History::Alone if is_last => judge.outcomes.count(Outcome::StartedAlone),
            History::Member if is_last => judge.outcomes.count(Outcome::StartedAsLast),
            _ => {}
        }
        let silence = if plan.lease && history == History::Member { PROMISE.as_nanos() * 9 / 10 } else { 0 };
        self.silent_until = time.get() + u64::try_from(silence).unwrap();
        let lease = plan.lease.then(|| LeaseConfig {
            promise: PROMISE,
            drift_max: PROMISE / 20,
            history,
            clock: clock(time, dice, 20_000),
        });
        let mut timeouts = Dice::new(dice.number());
        let config = Config {
            applied: self.applied,
            async_storage_writes: self.is_async,
            apply_unpersisted: if dice.percent(50) { ApplyAhead::Yes } else { ApplyAhead::No },
            priority: if plan.priorities { i64::try_from(dice.below(2)).unwrap() } else { 0 },
            lease,
            logger: plan.tells.then(|| Rc::new(Tell) as Rc<dyn Logger>),
            timeout_source: Box::new(move |range| range.start + timeouts.place(range.len())),
            ..plan.config(self.id)
        };
        let node = RawNode::new(config, Shared(Rc::clone(&self.disk)))
            .map_err(|error| format!("{} does not start from what it wrote: {error}", self.id))?;
        let commit = node.hard_state().commit;
        self.seen = Seen { commit, ..Seen::default() };
        self.node = Some(node);
        self.has_run = true;
        Ok(())
    }

    /// Ends without warning. Writes in the line may have been done.
    pub(crate) fn crash(&mut self, dice: &mut Dice, judge: &mut Judge) -> Verdict {
        if let Some(ready) = self.ready.take()
            && dice.percent(50)
        {
            self.write_ready(&ready, judge)?;
        }
        for _ in 0..dice.place(self.appends.len() + 1) {
            if let Some(message) = self.appends.pop_front() {
                self.write_message(&message, judge)?;
            }
        }
        self.appends.clear();
        self.applies.clear();
        self.node = None;
        self.is_paused = false;
        if self.disk.borrow_mut().crash(dice) {
            judge.outcomes.count(Outcome::CommitIndexLost);
        }
        let checkpoint = self.disk.borrow().checkpoint.clone();
        self.applied = checkpoint.index;
        self.conf_state = checkpoint.conf_state;
        self.had_company = checkpoint.had_company;
        Ok(())
    }

    /// Whether there is something to do for the disk or the state machine.
    pub(crate) fn has_work(&self) -> bool {
        self.is_awake()
            && (self.ready.is_some()
                || !self.appends.is_empty()
                || !self.applies.is_empty()
                || self.node.as_ref().is_some_and(RawNode::has_ready))
    }

    /// Does one piece of work. What is for others goes to `out`.
    pub(crate) fn work(&mut self, dice: &mut Dice, judge: &mut Judge, out: &mut Vec<Message>) -> Verdict {
        if let Some(ready) = self.ready.take() {
            return self.finish(ready, judge, out);
        }
        let can_take = self.node.as_ref().is_some_and(RawNode::has_ready);
        if self.applies_late && !self.applies.is_empty() && dice.percent(95) {
            return match (can_take, self.appends.is_empty()) {
                (_, false) => self.append_next(judge, out),
                (true, true) => self.take(judge, out),
                (false, true) => Ok(()),
            };
        }
        match dice.below(3) {
            0 if !self.appends.is_empty() => self.append_next(judge, out),
            1 if !self.applies.is_empty() => self.apply_next(judge),
            _ if can_take => self.take(judge, out),
            _ if !self.appends.is_empty() => self.append_next(judge, out),
            _ => self.apply_next(judge),
        }
    }

    fn take(&mut self, judge: &mut Judge, out: &mut Vec<Message>) -> Verdict {
        let Some(node) = &mut self.node else { return Ok(()) };
        let mut ready = node.ready();
        for read in ready.read_states.drain(..) {
            judge.read_answered(self.id, &read.context, read.index)?;
        }
        self.emits(&ready.entries, judge)?;
        for message in std::mem::take(&mut ready.messages) {
            match message.to {
                APPEND_THREAD => {
                    self.emits(&message.entries, judge)?;
                    self.appends.push_back(message);
                }
                APPLY_THREAD => self.applies.push_back(message),
                _ => out.push(message),
            }
        }
        if self.is_async {
            self.node.iter_mut().for_each(|node| node.recycle(std::mem::take(&mut ready)));
        } else {
            self.ready = Some(ready);
        }
        Ok(())
    }

    fn emits(&mut self, entries: &[Entry], judge: &mut Judge) -> Verdict {
        let (Some(first), Some(last), Some(node)) = (entries.first(), entries.last(), &self.node) else {
            return Ok(());
        };
        judge.emitted(self.id, entries, testing::term_at(node, first.index.previous()))?;
        let is_leader = node.soft_state().role == Role::Leader;
        let term = node.hard_state().term;
        if let Some((led_in, emitted)) = self.seen.emitted
            && is_leader
            && led_in == term
            && first.index != emitted.next()
        {
            return Err(format!("leader append-only: {} writes {} after {emitted}", self.id, first.index));
        }
        self.seen.emitted = is_leader.then_some((term, last.index));
        Ok(())
    }

    fn finish(&mut self, mut ready: Box<Ready>, judge: &mut Judge, out: &mut Vec<Message>) -> Verdict {
        self.write_ready(&ready, judge)?;
        out.append(&mut ready.messages_after_persist);
        self.apply(&ready.committed_entries, judge)?;
        if let Some(node) = &mut self.node {
            node.advance(ready);
        }
        Ok(())
    }

    fn write_ready(&mut self, ready: &Ready, judge: &mut Judge) -> Verdict {
        let is_synced = ready.must_sync || ready.snapshot.is_some();
        self.disk.borrow_mut().write(ready.snapshot.as_ref(), &ready.entries, ready.hard_state, is_synced);
        self.take_snapshot(ready.snapshot.as_ref(), judge)?;
        self.note_vote(judge)
    }

    fn append_next(&mut self, judge: &mut Judge, out: &mut Vec<Message>) -> Verdict {
        let Some(message) = self.appends.pop_front() else { return Ok(()) };
        self.write_message(&message, judge)?;
        self.respond(message.responses, out)
    }

    fn write_message(&mut self, message: &Message, judge: &mut Judge) -> Verdict {
        let (snapshot, is_synced) = (message.snapshot.as_deref(), !message.responses.is_empty());
        self.disk.borrow_mut().write(snapshot, &message.entries, message.hard_state(), is_synced);
        self.take_snapshot(snapshot, judge)?;
        if is_synced { self.note_vote(judge) } else { Ok(()) }
    }

    fn respond(&mut self, responses: Vec<Message>, out: &mut Vec<Message>) -> Verdict {
        for response in responses {
            match &mut self.node {
                Some(node) if response.to == self.id => node
                    .step_local(response)
                    .map_err(|error| format!("{} refuses its own storage's response: {error}", self.id))?,
                _ => out.push(response),
            }
        }
        Ok(())
    }

    fn note_vote(&self, judge: &mut Judge) -> Verdict {
        let state = self.disk.borrow().hard_state();
        if state.vote == NO_PEER { Ok(()) } else { judge.voted(self.id, state.term, state.vote) }
    }

    fn take_snapshot(&mut self, snapshot: Option<&Snapshot>, judge: &mut Judge) -> Verdict {
        if snapshot.is_some_and(|snapshot| snapshot.metadata.index > self.applied) {
            let checkpoint = self.disk.borrow().checkpoint.clone();
            judge.restored(self.id, &checkpoint)?;
            self.applied = checkpoint.index;
            self.had_company |= checkpoint.had_company;
            self.configure(checkpoint.conf_state);
        }
        Ok(())
    }

    fn apply_next(&mut self, judge: &mut Judge) -> Verdict {
        let Some(message) = self.applies.pop_front() else { return Ok(()) };
        self.apply(&message.entries, judge)?;
        self.respond(message.responses, &mut Vec::new())
    }

    fn apply(&mut self, entries: &[Entry], judge: &mut Judge) -> Verdict {
        for entry in entries {
            if entry.index <= self.applied {
                continue;
            }
            if entry.index != self.applied.next() {
                return Err(format!("{} applies {} after {}", self.id, entry.index, self.applied));
            }
            if entry.kind.is_conf_change() {
                let change = ConfChange::decode(entry.kind, &entry.data)
                    .map_err(|error| format!("a change at {} can't be read: {error}", entry.index))?;
                let Some(node) = &mut self.node else { return Ok(()) };
                match node.apply_conf_change(&change) {
                    Ok(state) => {
                        judge.configured(self.id, entry.index, &state)?;
                        self.configure(state);
                    }
                    // The snapshot that is on its way to the disk covers the rest.
                    Err(RaftError::Superseded) => return Ok(()),
                    // It does not fit, here as everywhere: nothing has changed.
                    Err(_) => judge.configured(self.id, entry.index, &self.conf_state)?,
                }
            }
            judge.applied(self.id, entry)?;
            self.applied = entry.index;
        }
        Ok(())
    }

    /// What a message is about to show.
    pub(crate) fn foresee(&self, message: &Message, time: u64) -> Option<Outcome> {
        let Status { role, hard_state, leader, progress, .. } = self.node.as_ref()?.status();
        let is_now = message.term == hard_state.term && !message.reject;
        match message.kind {
            MessageKind::Vote | MessageKind::PreVote => (leader == NO_PEER
                && role != Role::Leader
                && time < self.silent_until
                && message.term > hard_state.term)
                .then_some(Outcome::VoteRefusedAfterRestart),
            MessageKind::AppendResponse => {
                let progress = progress.get(message.from).filter(|_| is_now)?;
                if message.index < progress.matched {
                    return Some(Outcome::StaleAcknowledgement);
                }
                (progress.state == ProgressState::Replicate && progress.is_paused())
                    .then_some(Outcome::WindowFull)
            }
            _ => None,
        }
    }

    /// What it is and how far.
    pub(crate) fn describe(&self) -> String {
        let Some(node) = &self.node else { return format!("{} is off", self.id) };
        let Status { role, leader, hard_state, applied, last_index, progress, .. } = node.status();
        let progress: Vec<String> =
            progress.iter().map(|(id, progress)| format!("{id}: {progress}")).collect();
        format!(
            "{} {role} of {leader}, {hard_state}, applied {applied}, last {last_index}, {} [{}]",
            self.id,
            node.tracker().configuration,
            progress.join(", ")
        )
    }

    /// Makes the state machine durable, if the log is as far as it is.
    pub(crate) fn checkpoint(&mut self) {
        let known = self.node.as_ref().map(|node| testing::term_at(node, self.applied));
        let mut disk = self.disk.borrow_mut();
        if let (Some(term), Some(known)) = (disk.term(self.applied), known)
            && term == known
            && self.applied > disk.checkpoint.index
        {
            let (conf_state, had_company) = (self.conf_state.clone(), self.had_company);
            disk.checkpoint = Checkpoint { index: self.applied, term, conf_state, had_company };
        }
    }

    /// Compacts the log up to a random place that the checkpoint allows.
    pub(crate) fn compact(&mut self, dice: &mut Dice) {
        let Some(node) = &self.node else { return };
        let applied = node.applied();
        let mut disk = self.disk.borrow_mut();
        let last = disk.checkpoint.index.min(applied);
        if last >= disk.first() {
            let index = disk.first().0 + dice.below(last.0 - disk.first().0 + 1);
            disk.compact(LogIndex(index));
        }
    }
}
