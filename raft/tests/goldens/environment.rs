//! A group of nodes, the messages between them, and the work that their storage threads have.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::rc::Rc;

use bytes::BytesMut;
use pinion_raft::{
    ConfChange, Config, Entry, EntryKind, HardState, MemoryStorage, Message, MessageKind, RaftError, RawNode,
    Ready, Snapshot, Storage as _,
};
use pinion_types::PeerId;

use crate::logger::{Output, SharedOutput};
use crate::storage::NodeStorage;

struct Member {
    node: RawNode<NodeStorage>,
    is_async: bool,
    append_work: VecDeque<Message>,
    apply_work: VecDeque<Message>,
}

#[derive(Default)]
pub(crate) struct Environment {
    members: Vec<Member>,
    /// In the order of sending; a receiver takes all that are for it at once.
    pub(crate) messages: Vec<Message>,
    pub(crate) output: Rc<Output>,
}

/// Whose messages are handed over, or lost.
#[derive(Clone, Copy)]
pub(crate) struct Recipient {
    pub(crate) id: PeerId,
    pub(crate) drop: bool,
}

impl Environment {
    fn member(&mut self, id: u64) -> &mut Member {
        let place = usize::try_from(id).unwrap() - 1;
        &mut self.members[place]
    }

    pub(crate) fn node(&mut self, id: u64) -> &mut RawNode<NodeStorage> {
        &mut self.member(id).node
    }

    pub(crate) fn add_node(&mut self, mut config: Config, snapshot: &Snapshot) -> Result<(), String> {
        let memory = MemoryStorage::new();
        if !snapshot.is_empty() {
            memory.apply_snapshot(snapshot.clone()).map_err(|error| error.to_string())?;
        }
        let storage = NodeStorage { memory, history: Rc::new(RefCell::new(vec![snapshot.clone()])) };
        config.id = PeerId(u64::try_from(self.members.len()).unwrap() + 1);
        config.logger = Some(Rc::new(SharedOutput(Rc::clone(&self.output))));
        let is_async = config.async_storage_writes;
        let node = RawNode::new(config, storage).map_err(|error| error.to_string())?;
        let (append_work, apply_work) = (VecDeque::new(), VecDeque::new());
        self.members.push(Member { node, is_async, append_work, apply_work });
        Ok(())
    }

    /// Does the same for several nodes, with a headline each when there are more than one.
    pub(crate) fn each(
        &mut self,
        ids: &[u64],
        what: &str,
        mut f: impl FnMut(&mut Self, u64) -> Result<(), String>,
    ) -> Result<(), String> {
        for id in ids {
            if ids.len() > 1 {
                self.headed(*id, what, &mut f)?;
            } else {
                f(self, *id)?;
            }
        }
        Ok(())
    }

    fn headed(
        &mut self,
        id: u64,
        what: &str,
        f: impl FnOnce(&mut Self, u64) -> Result<(), String>,
    ) -> Result<(), String> {
        self.output.print_line(&format!("> {id} {what}"));
        let output = Rc::clone(&self.output);
        output.indented(|| f(self, id))
    }

    pub(crate) fn process_ready(&mut self, id: u64) -> Result<(), String> {
        let output = Rc::clone(&self.output);
        let member = self.member(id);
        let mut ready = member.node.ready();
        for message in &mut ready.messages {
            show_applied(message);
        }
        output.print(&describe_ready(&ready));
        if !member.is_async {
            let state = ready.hard_state.unwrap_or_default();
            persist(member, state, &ready.entries, ready.snapshot.as_ref())?;
            apply(member, &ready.committed_entries)?;
        }
        let mut sent = Vec::new();
        for message in ready.messages.iter().chain(&ready.messages_after_persist) {
            match message.kind {
                MessageKind::StorageAppend => member.append_work.push_back(message.clone()),
                MessageKind::StorageApply => member.apply_work.push_back(message.clone()),
                _ => sent.push(message.clone()),
            }
        }
        if member.is_async {
            member.node.recycle(ready);
        } else {
            member.node.advance(ready);
        }
        self.messages.extend(sent);
        Ok(())
    }

    pub(crate) fn process_append(&mut self, id: u64) -> Result<(), String> {
        let Some(mut message) = self.member(id).append_work.pop_front() else {
            self.output.print("no append work to perform");
            return Ok(());
        };
        let responses = std::mem::take(&mut message.responses);
        self.output.print(&format!("Processing:\n{}\n", shown(&message)));
        let state = message.hard_state().unwrap_or_default();
        persist(self.member(id), state, &message.entries, message.snapshot.as_deref())?;
        self.respond(responses);
        Ok(())
    }

    pub(crate) fn process_apply(&mut self, id: u64) -> Result<(), String> {
        let Some(mut message) = self.member(id).apply_work.pop_front() else {
            self.output.print("no apply work to perform");
            return Ok(());
        };
        let responses = std::mem::take(&mut message.responses);
        self.output.print(&format!("Processing:\n{}\n", shown(&message)));
        apply(self.member(id), &message.entries)?;
        self.respond(responses);
        Ok(())
    }

    fn respond(&mut self, responses: Vec<Message>) {
        self.output.print_line("Responses:");
        for response in &responses {
            self.output.print_line(&shown(response).to_string());
        }
        self.messages.extend(responses);
    }

    /// Hands over, or drops, what waits for a recipient; gives how many messages that were.
    pub(crate) fn deliver(&mut self, recipient: Recipient, kind: Option<&str>) -> usize {
        let all = std::mem::take(&mut self.messages);
        let (now, later) = all.into_iter().partition(|message| waits(recipient, kind, message));
        self.messages = later;
        let now: Vec<Message> = now;
        let count = now.len();
        for message in now {
            let line = shown(&message).to_string();
            if recipient.drop {
                self.output.print_line(&format!("dropped: {line}"));
                continue;
            }
            self.output.print_line(&line);
            if let Err(error) = step(self.node(recipient.id.0), message) {
                self.output.print_line(&say_error(&error));
            }
        }
        count
    }

    /// Lets the nodes work and talk until nothing is left to do.
    pub(crate) fn stabilize(&mut self, ids: &[u64]) -> Result<(), String> {
        let all: Vec<u64> = (1..=u64::try_from(self.members.len()).unwrap()).collect();
        let ids = if ids.is_empty() { &all[..] } else { ids };
        loop {
            let mut done = true;
            for id in ids {
                if self.node(*id).has_ready() {
                    self.headed(*id, "handling Ready", Self::process_ready)?;
                    done = false;
                }
            }
            for id in ids {
                let recipient = Recipient { id: PeerId(*id), drop: false };
                if self.messages.iter().any(|message| waits(recipient, None, message)) {
                    self.headed(*id, "receiving messages", |environment, _| {
                        environment.deliver(recipient, None);
                        Ok(())
                    })?;
                    done = false;
                }
            }
            for id in ids {
                done &= !self.drain(
                    *id,
                    "processing append thread",
                    |member| &member.append_work,
                    Self::process_append,
                )?;
            }
            for id in ids {
                done &= !self.drain(
                    *id,
                    "processing apply thread",
                    |member| &member.apply_work,
                    Self::process_apply,
                )?;
            }
            if done {
                return Ok(());
            }
        }
    }

    /// Does all the work of a storage thread under one headline; false when there is none.
    fn drain(
        &mut self,
        id: u64,
        what: &str,
        work: impl Fn(&Member) -> &VecDeque<Message>,
        f: impl Fn(&mut Self, u64) -> Result<(), String>,
    ) -> Result<bool, String> {
        if work(self.member(id)).is_empty() {
            return Ok(false);
        }
        self.output.print_line(&format!("> {id} {what}"));
        let output = Rc::clone(&self.output);
        while !work(self.member(id)).is_empty() {
            output.indented(|| f(self, id))?;
        }
        Ok(true)
    }

    pub(crate) fn print_log(&mut self, id: u64) {
        let storage = self.node(id).storage().clone();
        let (first, last) = (storage.first_index(), storage.last_index());
        if last < first {
            self.output.print(&format!("log is empty: first index={first}, last index={last}"));
            return;
        }
        for entry in storage.entries(first, last.next(), u64::MAX).unwrap() {
            self.output.print_line(&entry.to_string());
        }
    }

    pub(crate) fn print_states(&self) {
        for member in &self.members {
            let status = member.node.status();
            let votes = if status.configuration.voters.contains(status.id) { "Voter" } else { "Non-Voter" };
            self.output.print_line(&format!(
                "{}: {} ({votes}) Term:{} Lead:{}",
                status.id, status.role, status.hard_state.term, status.leader
            ));
        }
    }
}

/// Hands a message over. In the scripts a node that was removed refuses its own votes and acknowledgements, too; the core
/// ignores them.
fn step(node: &mut RawNode<NodeStorage>, message: Message) -> Result<(), RaftError> {
    let from = message.from;
    if message.kind.is_response() && !node.tracker().progress.contains(from) {
        return Err(RaftError::StepPeerNotFound { from });
    }
    if message.is_local() { node.step_local(message) } else { node.step(message) }
}

fn waits(recipient: Recipient, kind: Option<&str>, message: &Message) -> bool {
    message.to == recipient.id
        && !(recipient.drop && message.is_local())
        && kind.is_none_or(|kind| message.kind.to_string() == kind)
}

/// The scripts' words for an error.
pub(crate) fn say_error(error: &RaftError) -> String {
    match error {
        RaftError::ProposalDropped(_) => "raft proposal dropped".to_owned(),
        RaftError::StepPeerNotFound { .. } => "raft: cannot step as peer not found".to_owned(),
        other => other.to_string(),
    }
}

/// In the scripts the answer of the apply thread names the entries; ours carries only the index of the last. The entries
/// are put in for showing, and the core does not look at them.
fn show_applied(message: &mut Message) {
    if message.kind == MessageKind::StorageApply {
        for response in &mut message.responses {
            response.entries.clone_from(&message.entries);
        }
    }
}

/// A message as the scripts show it.
fn shown(message: &Message) -> Message {
    let mut message = message.clone();
    if message.kind == MessageKind::StorageApplyResponse {
        message.index.0 = 0;
    }
    message.responses = message.responses.iter().map(shown).collect();
    message
}

fn describe_ready(ready: &Ready) -> String {
    let find = |kind| ready.messages.iter().find(|message| message.kind == kind);
    let (append, apply) = (find(MessageKind::StorageAppend), find(MessageKind::StorageApply));
    let entries = append.map_or(&ready.entries, |message| &message.entries);
    let committed = apply.map_or(&ready.committed_entries, |message| &message.entries);
    let snapshot = append.and_then(|message| message.snapshot.as_deref()).or(ready.snapshot.as_ref());
    let mut text = String::new();
    if let Some(state) = ready.soft_state {
        writeln!(text, "{state}").unwrap();
    }
    if let Some(state) = ready.hard_state {
        writeln!(text, "HardState {state}").unwrap();
    }
    for read in &ready.read_states {
        writeln!(text, "ReadState {} \"{}\"", read.index, read.context.escape_ascii()).unwrap();
    }
    print_list(&mut text, "Entries:", entries.iter().map(ToString::to_string));
    if let Some(snapshot) = snapshot {
        writeln!(text, "Snapshot {snapshot}").unwrap();
    }
    print_list(&mut text, "CommittedEntries:", committed.iter().map(ToString::to_string));
    let messages = ready.messages.iter().chain(&ready.messages_after_persist);
    print_list(&mut text, "Messages:", messages.map(|message| shown(message).to_string()));
    if text.is_empty() {
        "<empty Ready>".to_owned()
    } else {
        format!("Ready MustSync={}:\n{text}", ready.must_sync)
    }
}

fn print_list(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.collect();
    if !lines.is_empty() {
        writeln!(text, "{title}\n{}", lines.join("\n")).unwrap();
    }
}

fn persist(
    member: &mut Member,
    state: HardState,
    entries: &[Entry],
    snapshot: Option<&Snapshot>,
) -> Result<(), String> {
    let memory = &member.node.storage().memory;
    if !state.is_empty() {
        memory.set_hard_state(state);
    }
    if let Some(snapshot) = snapshot {
        if !entries.is_empty() {
            return Err("can't apply snapshot and entries at the same time".to_owned());
        }
        return memory.apply_snapshot(snapshot.clone()).map_err(|error| error.to_string());
    }
    memory.append(entries).map_err(|error| error.to_string())
}

/// The state machine of the scripts: it strings the commands together.
fn apply(member: &mut Member, entries: &[Entry]) -> Result<(), String> {
    for entry in entries {
        let mut update = entry.data.clone();
        let mut conf_state = None;
        if entry.kind != EntryKind::Normal {
            let change = ConfChange::decode(entry.kind, &entry.data).map_err(|error| error.to_string())?;
            conf_state = Some(member.node.apply_conf_change(&change).map_err(|error| error.to_string())?);
            update = change.context;
        }
        let mut history = member.node.storage().history.borrow_mut();
        let last = history.last().unwrap();
        let mut data = BytesMut::from(&last.data[..]);
        data.extend_from_slice(&update);
        let mut next = Snapshot { data: data.freeze(), metadata: last.metadata.clone() };
        next.metadata.index = entry.index;
        next.metadata.term = entry.term;
        if let Some(conf_state) = conf_state {
            next.metadata.conf_state = conf_state;
        }
        history.push(next);
    }
    Ok(())
}
