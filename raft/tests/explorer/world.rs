//! The group with its network and its time, and what a step does to it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use pinion_raft::{
    ConfChange, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, ConfState, Message, MessageKind,
    RaftError, RawNode, Role,
};
use pinion_types::{LogIndex, PeerId, Term};

use crate::counts::{Counts, Outcome};
use crate::dice::Dice;
use crate::disk::{Checkpoint, Disk, Shared};
use crate::judge::{Judge, Verdict};
use crate::member::{Member, has_company};
use crate::plan::{Action, PROMISE, Plan};
use crate::quorum::may_miss;

/// Messages on their way; more of them are lost.
const NETWORK_MAX: usize = 256;

pub(crate) struct World {
    dice: Dice,
    plan: Plan,
    time: Rc<Cell<u64>>,
    members: Vec<Member>,
    network: VecDeque<Message>,
    held_back: Vec<Message>,
    /// By sender and receiver, counted from 0.
    is_cut: Vec<Vec<bool>>,
    judge: Judge,
    commands: u64,
    out: Vec<Message>,
    /// Who campaigned last because a leader asked it to.
    campaign_of_transfer: Option<(Term, PeerId)>,
}

fn place_of(id: PeerId) -> usize {
    usize::try_from(id.0).unwrap() - 1
}

impl World {
    /// A group as the seed says; its founders have not started.
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let plan = Plan::draw(&mut dice);
        let founders: Vec<PeerId> = (1..=plan.founders).map(PeerId).collect();
        let conf_state = ConfState { voters: founders, ..ConfState::default() };
        let founding = Checkpoint {
            index: LogIndex(5),
            term: Term(1),
            had_company: has_company(&conf_state),
            conf_state,
        };
        let judge = Judge::new(&founding, !plan.trusts_ticks);
        let members = (1..=plan.members)
            .map(|id| {
                let disk =
                    if id <= plan.founders { Disk::founded(founding.clone()) } else { Disk::default() };
                let is_async = dice.percent(plan.async_percent);
                Member::new(PeerId(id), disk, is_async, dice.percent(plan.late_percent))
            })
            .collect();
        let count = usize::try_from(plan.members).unwrap();
        Self {
            dice,
            plan,
            time: Rc::new(Cell::new(0)),
            members,
            network: VecDeque::new(),
            held_back: Vec::new(),
            is_cut: vec![vec![false; count]; count],
            judge,
            commands: 0,
            out: Vec::new(),
            campaign_of_transfer: None,
        }
    }

    /// Plays the run: trouble first, then none, in which the group must find together.
    pub(crate) fn play(&mut self, counts: &mut Counts, mut tell: impl FnMut(u64, &str)) -> Verdict {
        for place in 0..self.members.len() {
            self.start(place)?;
        }
        let mut step = 0;
        while step < self.plan.steps {
            let action = self.plan.action(&mut self.dice);
            let place = self.aim(action);
            if self.act(action, place).inspect_err(|_| tell(step, &format!("{action:?} {}", place + 1)))? {
                tell(step, &format!("{action:?} {}", place + 1));
                counts.count(action);
                step += 1;
            }
        }
        counts.of_outcomes.add(&self.judge.outcomes);
        counts.steps += self.plan.steps;
        counts.commits += self.judge.committed().0;
        counts.terms += self.judge.last_leader().map_or(0, |(term, _)| term.0);
        tell(self.plan.steps, "all trouble ends");
        if self.recover()? {
            return Ok(());
        }
        let nodes: Vec<String> = self.members.iter().map(Member::describe).collect();
        Err(format!(
            "the group does not find together, {} committed: {}",
            self.judge.committed(),
            nodes.join("; ")
        ))
    }

    /// At whom an action is aimed: mostly at one for whom it makes sense.
    fn aim(&mut self, action: Action) -> usize {
        let fits = |member: &Member| match action {
            Action::Restart => member.node.is_none(),
            Action::Resume => member.is_paused,
            Action::Propose
            | Action::ReadIndex
            | Action::LeaseRead
            | Action::Transfer
            | Action::ChangeOne
            | Action::ChangeJointly
            | Action::LeaveJoint
            | Action::ReportUnreachable
            | Action::ReportSnapshot => {
                member.node.as_ref().is_some_and(|node| node.soft_state().role == Role::Leader)
            }
            _ => true,
        };
        let (count, place) = (self.members.len(), self.dice.place(self.members.len()));
        if self.dice.percent(10) {
            return place;
        }
        (place..place + count).map(|at| at % count).find(|at| fits(&self.members[*at])).unwrap_or(place)
    }

    /// Does one action, if it makes sense now.
    fn act(&mut self, action: Action, place: usize) -> Result<bool, String> {
        let is_done = match action {
            Action::Deliver => return self.deliver(),
            Action::Work => return self.work(place),
            Action::Tick => return self.tick(place),
            Action::Propose => self.propose(place),
            Action::ReadIndex => self.read_index(place),
            Action::LeaseRead => return self.lease_read(place),
            Action::Transfer => self.transfer(place),
            Action::ChangeOne => self.change_one(place),
            Action::ChangeJointly => self.change_jointly(place),
            Action::LeaveJoint => self.propose_change(place, &ConfChange::leave()),
            Action::Crash => return self.crash(place),
            Action::Restart => return self.restart(place),
            Action::Checkpoint | Action::Compact | Action::SlowDisk | Action::FastDisk => {
                self.manage_disk(action, place)
            }
            Action::Pause | Action::Resume => self.pause(place, action == Action::Pause),
            Action::TimePasses => self.pass_time(),
            Action::Cut | Action::Isolate | Action::Mend => self.cut(action, place),
            Action::Lose | Action::Duplicate | Action::HoldBack | Action::Release => self.disturb(action),
            Action::Campaign | Action::ForgetLeader | Action::ReportUnreachable | Action::ReportSnapshot => {
                self.direct(action, place)
            }
        };
        self.look_at(place)?;
        Ok(is_done)
    }

    fn node(&mut self, place: usize) -> Option<&mut RawNode<Shared>> {
        let member = &mut self.members[place];
        if member.is_paused { None } else { member.node.as_mut() }
    }

    fn start(&mut self, place: usize) -> Verdict {
        self.members[place].start(&self.plan, &self.time, &mut self.dice, &mut self.judge)?;
        self.look_at(place)
    }

    /// Judges what a member has become; the judge can read what the member's disk has not fetched.
    fn look_at(&mut self, place: usize) -> Verdict {
        let disk = Rc::clone(&self.members[place].disk);
        let was_slow = std::mem::take(&mut disk.borrow_mut().is_slow);
        let verdict = self.judge_member(place);
        disk.borrow_mut().is_slow = was_slow;
        verdict
    }

    fn judge_member(&mut self, place: usize) -> Verdict {
        let Self { members, judge, campaign_of_transfer, .. } = self;
        let Some(node) = &members[place].node else { return Ok(()) };
        let (role, state, seen) = (node.soft_state().role, node.hard_state(), members[place].seen);
        let leads_in = (role == Role::Leader).then_some(state.term);
        let is_elected = leads_in.is_some() && leads_in != seen.led_in;
        if is_elected {
            if *campaign_of_transfer == Some((state.term, node.id())) {
                judge.outcomes.count(Outcome::TransferSucceeded);
            }
            judge.elected(node, state.term, |id| {
                members
                    .get(place_of(id))
                    .map_or(Term(0), |member| member.disk.borrow().hard_state_synced().term)
            })?;
            for other in members.iter().filter(|other| other.id != node.id()) {
                let holds = |other: &RawNode<Shared>| {
                    other.hard_state().term < state.term && other.status().holds_lease
                };
                if other.node.as_ref().is_some_and(holds) {
                    return Err(format!("{} is elected while {} holds a lease", node.id(), other.id));
                }
            }
        }
        if state.commit != seen.commit {
            judge.committing(node, seen.commit, leads_in, |id, index, term| {
                members.get(place_of(id)).is_some_and(|member| member.disk.borrow().holds(index, term))
            })?;
        }
        let seen = &mut members[place].seen;
        (seen.commit, seen.led_in) = (state.commit, leads_in);
        Ok(())
    }

    fn send(&mut self) {
        while let Some(message) = self.out.pop() {
            if message.kind == MessageKind::Vote && message.context.starts_with(b"CampaignTransfer") {
                self.campaign_of_transfer = Some((message.term, message.from));
            }
            if self.network.len() < NETWORK_MAX {
                self.network.push_back(message);
            }
        }
    }

    fn deliver(&mut self) -> Result<bool, String> {
        let window = self.network.len().min(usize::try_from(self.plan.reorder).unwrap());
        if window == 0 {
            return Ok(false);
        }
        let Some(message) = self.network.remove(self.dice.place(window)) else { return Ok(false) };
        let (from, to) = (place_of(message.from), place_of(message.to));
        if self.is_cut[from][to] || self.members[to].node.is_none() {
            return Ok(false);
        }
        if self.members[to].is_paused {
            self.network.push_back(message);
            return Ok(false);
        }
        let foreseen = self.members[to].foresee(&message, self.time.get());
        let result = self.node(to).map(|node| node.step(message));
        if let Some(outcome) = foreseen {
            self.judge.outcomes.count(outcome);
        }
        // What is refused was late, or meant for what the member no longer is.
        if let Some(Err(RaftError::Storage(_))) = result {
            self.judge.outcomes.count(Outcome::TermUnreadable);
        }
        self.look_at(to)?;
        Ok(true)
    }

    fn work(&mut self, place: usize) -> Result<bool, String> {
        let count = self.members.len();
        let Some(place) = (place..place + count).map(|at| at % count).find(|at| self.members[*at].has_work())
        else {
            return Ok(false);
        };
        let newest = self.judge.newest_configuration_index();
        self.members[place].work(&mut self.dice, &mut self.judge, &mut self.out)?;
        self.out.reverse();
        self.send();
        self.look_at(place)?;
        if self.judge.newest_configuration_index() != newest {
            self.compare_with_leader()?;
        }
        Ok(true)
    }

    /// A configuration has come into force: the leader's may be the one before, but no other.
    fn compare_with_leader(&self) -> Verdict {
        let Some((term, id)) = self.judge.last_leader() else { return Ok(()) };
        let Some(node) = &self.members[place_of(id)].node else { return Ok(()) };
        if node.soft_state().role != Role::Leader || node.hard_state().term != term {
            return Ok(());
        }
        let (own, newest) = (&node.tracker().configuration, self.judge.newest_configuration());
        if may_miss(&own.to_conf_state(), newest) {
            return Err(format!(
                "{id} leads with {own} while {newest} is in force: their quorums may miss each other"
            ));
        }
        Ok(())
    }

    fn tick(&mut self, place: usize) -> Result<bool, String> {
        let passed = self.plan.tick / self.plan.members;
        self.time.set(self.time.get() + self.dice.below(2 * passed + 1));
        let Some(node) = self.node(place) else { return Ok(false) };
        node.tick();
        self.look_at(place)?;
        Ok(true)
    }

    fn propose(&mut self, place: usize) -> bool {
        self.commands += 1;
        let data = Bytes::copy_from_slice(&self.commands.to_le_bytes());
        self.node(place).is_some_and(|node| node.propose(data).is_ok())
    }

    fn read_index(&mut self, place: usize) -> bool {
        let name = self.judge.read_begins();
        let context = Bytes::copy_from_slice(&name.to_le_bytes());
        self.node(place).is_some_and(|node| node.read_index(context).is_ok())
    }

    fn lease_read(&mut self, place: usize) -> Result<bool, String> {
        let id = self.members[place].id;
        let Some(index) = self.node(place).and_then(|node| node.lease_read_index()) else { return Ok(false) };
        self.judge.lease_read(id, index)?;
        Ok(true)
    }

    fn transfer(&mut self, place: usize) -> bool {
        let to = PeerId(self.dice.below(self.plan.members) + 1);
        let Some(node) = self.node(place) else { return false };
        node.transfer_leader(to);
        node.soft_state().role == Role::Leader
    }

    fn draw_change(&mut self) -> ConfChangeSingle {
        let kinds = [
            ConfChangeKind::AddVoter,
            ConfChangeKind::AddVoter,
            ConfChangeKind::AddLearner,
            ConfChangeKind::Remove,
        ];
        ConfChangeSingle {
            kind: self.dice.one_of(&kinds),
            peer: PeerId(self.dice.below(self.plan.members) + 1),
        }
    }

    fn change_one(&mut self, place: usize) -> bool {
        let ConfChangeSingle { kind, peer } = self.draw_change();
        self.propose_change(place, &ConfChange::simple(kind, peer))
    }

    fn change_jointly(&mut self, place: usize) -> bool {
        let transition = self.dice.one_of(&[
            ConfChangeTransition::Auto,
            ConfChangeTransition::JointImplicit,
            ConfChangeTransition::JointExplicit,
        ]);
        let changes = (0..=self.dice.below(3)).map(|_| self.draw_change()).collect();
        self.propose_change(place, &ConfChange::joint(transition, changes))
    }

    fn propose_change(&mut self, place: usize, change: &ConfChange) -> bool {
        self.node(place).is_some_and(|node| {
            node.soft_state().role == Role::Leader && node.propose_conf_change(change).is_ok()
        })
    }

    fn crash(&mut self, place: usize) -> Result<bool, String> {
        if self.members[place].node.is_none() {
            return Ok(false);
        }
        self.members[place].crash(&mut self.dice, &mut self.judge)?;
        Ok(true)
    }

    fn restart(&mut self, place: usize) -> Result<bool, String> {
        if self.members[place].node.is_some() {
            return Ok(false);
        }
        self.start(place)?;
        Ok(true)
    }

    fn manage_disk(&mut self, action: Action, place: usize) -> bool {
        let member = &mut self.members[place];
        if !member.is_awake() {
            return false;
        }
        match action {
            Action::Checkpoint => member.checkpoint(),
            Action::Compact => member.compact(&mut self.dice),
            Action::SlowDisk => member.disk.borrow_mut().is_slow = true,
            _ => {
                member.disk.borrow_mut().is_slow = false;
                member.node.iter_mut().for_each(RawNode::entries_available);
            }
        }
        true
    }

    fn pause(&mut self, place: usize, is_paused: bool) -> bool {
        let member = &mut self.members[place];
        let has_changed = member.node.is_some() && member.is_paused != is_paused;
        member.is_paused = is_paused && member.node.is_some();
        has_changed
    }

    fn pass_time(&mut self) -> bool {
        let longest = u64::try_from(PROMISE.as_nanos()).unwrap() * 3 / 2;
        self.time.set(self.time.get() + self.dice.below(longest));
        true
    }

    fn cut(&mut self, action: Action, place: usize) -> bool {
        let other = self.dice.place(self.members.len());
        match action {
            Action::Cut => self.is_cut[place][other] = true,
            Action::Isolate => {
                for at in 0..self.members.len() {
                    (self.is_cut[place][at], self.is_cut[at][place]) = (true, true);
                }
            }
            _ => self.is_cut.iter_mut().for_each(|row| row.fill(false)),
        }
        true
    }

    fn disturb(&mut self, action: Action) -> bool {
        if action == Action::Release {
            let is_done = !self.held_back.is_empty();
            self.network.extend(self.held_back.drain(..));
            return is_done;
        }
        if self.network.is_empty() {
            return false;
        }
        let place = self.dice.place(self.network.len());
        if action == Action::Duplicate {
            let again = self.network[place].clone();
            self.network.push_back(again);
        } else if let Some(message) = self.network.remove(place)
            && action == Action::HoldBack
        {
            self.held_back.push(message);
        }
        true
    }

    /// What a driver may do out of turn.
    fn direct(&mut self, action: Action, place: usize) -> bool {
        let (other, succeeded) = (PeerId(self.dice.below(self.plan.members) + 1), self.dice.percent(50));
        let Some(node) = self.node(place) else { return false };
        match action {
            Action::Campaign => node.campaign(),
            Action::ForgetLeader => node.forget_leader(),
            Action::ReportUnreachable => node.report_unreachable(other),
            _ => node.report_snapshot(other, succeeded),
        }
        true
    }

    /// All are well and all links work: whether a command is applied by every member within a bound.
    fn recover(&mut self) -> Result<bool, String> {
        /// Election timeouts within which the group must be at work.
        const PATIENCE: usize = 100;

        self.disturb(Action::Release);
        self.cut(Action::Mend, 0);
        for place in 0..self.members.len() {
            self.pause(place, false);
            self.restart(place)?;
            self.manage_disk(Action::FastDisk, place);
        }
        let mut goal = None;
        for round in 0..PATIENCE * 10 {
            if round % 50 == 0 {
                self.help_with_snapshots();
            }
            let needed = self.needed();
            for (place, is_needed) in needed.into_iter().enumerate() {
                if is_needed {
                    self.restart(place)?;
                    self.tick(place)?;
                } else {
                    self.crash(place)?;
                }
            }
            while !self.network.is_empty() || self.members.iter().any(Member::has_work) {
                self.deliver()?;
                self.work(0)?;
            }
            if goal.is_some_and(|goal| self.all_have_applied(goal)) {
                return Ok(true);
            }
            if goal.is_none() || round % 50 == 0 {
                // What a deposed leader has taken may be lost.
                goal = self.propose_to_leader();
            }
        }
        Ok(false)
    }

    /// Who is a member by what the members know. Others are switched off, as operators do: they could disturb for ever.
    fn needed(&self) -> Vec<bool> {
        let newest = self.judge.newest_configuration();
        let knows = |member: &&Member| {
            [&newest.voters, &newest.voters_outgoing].iter().any(|set| set.contains(&member.id))
        };
        let nodes = self.members.iter().filter(knows).filter_map(|member| member.node.as_ref());
        let states: Vec<ConfState> = nodes.map(|node| node.tracker().configuration.to_conf_state()).collect();
        let is_in = |state: &ConfState, id: PeerId| {
            [&state.voters, &state.voters_outgoing, &state.learners].iter().any(|set| set.contains(&id))
        };
        self.members
            .iter()
            .map(|member| is_in(newest, member.id) || states.iter().any(|state| is_in(state, member.id)))
            .collect()
    }

    /// Whoever carries snapshots must say when one was lost: the leader waits for that. Whoever makes them must make newer
    /// ones: a member does not take one that does not know it.
    fn help_with_snapshots(&mut self) {
        self.members.iter_mut().for_each(Member::checkpoint);
        let ids: Vec<PeerId> = self.members.iter().map(|member| member.id).collect();
        for node in self.members.iter_mut().filter_map(|member| member.node.as_mut()) {
            for id in &ids {
                node.report_snapshot(*id, false);
            }
        }
    }

    fn propose_to_leader(&mut self) -> Option<LogIndex> {
        let (term, id) = self.judge.last_leader()?;
        let node = self.node(place_of(id))?;
        let leads = node.soft_state().role == Role::Leader && node.hard_state().term == term;
        (leads && node.propose(Bytes::from_static(b"at last")).is_ok()).then(|| node.last_index())
    }

    fn all_have_applied(&self, goal: LogIndex) -> bool {
        self.members.iter().filter_map(|member| member.node.as_ref()).all(|node| node.applied() >= goal)
    }
}
