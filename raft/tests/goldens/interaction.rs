//! The commands that act on a group of nodes.

use bytes::Bytes;
use pinion_raft::{
    ApplyAhead, ConfChange, ConfChangeTransition, Config, Message, MessageKind, ReadOnlyOption, Snapshot,
    testing,
};
use pinion_types::{LogIndex, PeerId, Term};

use crate::confchange::parse_changes;
use crate::environment::{Environment, Recipient, say_error};
use crate::script::{Argument, Block, Command};

#[derive(Default)]
pub(crate) struct State {
    environment: Environment,
}

impl State {
    pub(crate) fn run(&mut self, block: &Block) -> String {
        let result = if block.command.name == "propose-conf-change" {
            self.propose_conf_change(&block.command, &block.input.join(" "))
        } else {
            self.command(&block.command)
        };
        let output = &self.environment.output;
        if let Err(error) = result {
            if output.is_quiet() {
                return error;
            }
            output.print(&error);
        }
        let text = output.take();
        if text.is_empty() { "ok".to_owned() } else { text }
    }

    fn command(&mut self, command: &Command) -> Result<(), String> {
        let environment = &mut self.environment;
        let numbers = || command.numbers();
        match command.name.as_str() {
            // A place at which to stop in a debugger.
            "_breakpoint" => {}
            "add-nodes" => return self.add_nodes(command),
            "campaign" => environment.node(numbers()[0]).campaign(),
            "compact" => {
                let storage = environment.node(numbers()[0]).storage().clone();
                storage.memory.compact(LogIndex(numbers()[1])).map_err(|error| error.to_string())?;
                environment.print_log(numbers()[0]);
            }
            "deliver-msgs" => self.deliver(command),
            "process-ready" => environment.each(&numbers(), "handling Ready", Environment::process_ready)?,
            "process-append-thread" => {
                environment.each(&numbers(), "processing append thread", Environment::process_append)?;
            }
            "process-apply-thread" => {
                environment.each(&numbers(), "processing apply thread", Environment::process_apply)?;
            }
            "log-level" => {
                environment.output.set_level(command.words().next().unwrap_or_default())?;
            }
            "raft-log" => environment.print_log(numbers()[0]),
            "raft-state" => environment.print_states(),
            "set-randomized-election-timeout" => {
                let ticks = command.value("timeout").unwrap().parse().unwrap();
                testing::set_randomized_election_timeout(environment.node(numbers()[0]), ticks);
            }
            "stabilize" => return self.stabilize(command),
            "status" => {
                let status = environment.node(numbers()[0]).status();
                environment.output.print(&status.progress.to_string());
            }
            "tick-election" => (0..3).for_each(|_| environment.node(numbers()[0]).tick()),
            "tick-heartbeat" => environment.node(numbers()[0]).tick(),
            "transfer-leadership" => {
                let id = |key| command.value(key).unwrap().parse::<u64>().unwrap();
                environment.node(id("from")).transfer_leader(PeerId(id("to")));
            }
            "forget-leader" => environment.node(numbers()[0]).forget_leader(),
            "send-snapshot" => self.send_snapshot(numbers()[0], numbers()[1]),
            "propose" => {
                let words: Vec<&str> = command.words().collect();
                let id = words[0].parse().unwrap();
                let data = Bytes::copy_from_slice(words.get(1).unwrap_or(&"").as_bytes());
                return environment.node(id).propose(data).map_err(|error| say_error(&error));
            }
            "read-index" => {
                let words: Vec<&str> = command.words().collect();
                let context = Bytes::copy_from_slice(words[1].as_bytes());
                let node = environment.node(words[0].parse().unwrap());
                return node.read_index(context).map_err(|error| say_error(&error));
            }
            "report-snapshot" => {
                let succeeded = command.value("failed").is_none();
                environment.node(numbers()[0]).report_snapshot(PeerId(numbers()[1]), succeeded);
            }
            "report-unreachable" => environment.node(numbers()[0]).report_unreachable(PeerId(numbers()[1])),
            _ => return Err("unknown command".to_owned()),
        }
        Ok(())
    }

    fn add_nodes(&mut self, command: &Command) -> Result<(), String> {
        let mut snapshot = Snapshot::default();
        let ids = |key| command.values(key).iter().map(|id| PeerId(id.parse().unwrap())).collect();
        snapshot.metadata.conf_state.voters = ids("voters");
        snapshot.metadata.conf_state.learners = ids("learners");
        snapshot.metadata.index = LogIndex(command.value("index").map_or(0, |index| index.parse().unwrap()));
        snapshot.data = Bytes::copy_from_slice(command.value("content").unwrap_or_default().as_bytes());
        if snapshot != Snapshot::default() {
            if snapshot.metadata.index.0 <= 1 {
                return Err("index must be specified as > 1 due to bootstrap".to_owned());
            }
            snapshot.metadata.term = Term(1);
        }
        for _ in 0..command.numbers()[0] {
            let config = config(command)?;
            self.environment.add_node(config, &snapshot)?;
        }
        Ok(())
    }

    fn deliver(&mut self, command: &Command) {
        let kind = command.value("type");
        let mut recipients = Vec::new();
        for argument in &command.arguments {
            let (ids, drop) = match argument.key.as_str() {
                "drop" => (&argument.values[..], true),
                _ if argument.values.is_empty() => (std::slice::from_ref(&argument.key), false),
                _ => continue,
            };
            recipients.extend(ids.iter().map(|id| Recipient { id: PeerId(id.parse().unwrap()), drop }));
        }
        let count: usize =
            recipients.iter().map(|recipient| self.environment.deliver(*recipient, kind)).sum();
        if count == 0 {
            self.environment.output.print_line("no messages");
        }
    }

    fn stabilize(&mut self, command: &Command) -> Result<(), String> {
        let before = match command.value("log-level") {
            Some(level) => Some(self.environment.output.set_level(level)?),
            None => None,
        };
        let result = self.environment.stabilize(&command.numbers());
        if let Some(level) = before {
            self.environment.output.restore_level(level);
        }
        result
    }

    fn send_snapshot(&mut self, from: u64, to: u64) {
        let node = self.environment.node(from);
        let message = Message {
            kind: MessageKind::Snapshot,
            from: PeerId(from),
            to: PeerId(to),
            term: node.hard_state().term,
            snapshot: pinion_raft::Storage::snapshot(node.storage()).ok().map(Box::new),
            ..Message::default()
        };
        self.environment.output.print(&message.to_string());
        self.environment.messages.push(message);
    }

    fn propose_conf_change(&mut self, command: &Command, input: &str) -> Result<(), String> {
        const KEYS: [&str; 2] = ["v1", "transition"];

        let known = |argument: &&Argument| argument.values.is_empty() || KEYS.contains(&&argument.key[..]);
        if let Some(argument) = command.arguments.iter().find(|argument| !known(argument)) {
            return Err(format!("unknown command {}", argument.key));
        }
        let transition = match command.value("transition") {
            None | Some("auto") => ConfChangeTransition::Auto,
            Some("implicit") => ConfChangeTransition::JointImplicit,
            Some("explicit") => ConfChangeTransition::JointExplicit,
            Some(other) => return Err(format!("unknown transition {other}")),
        };
        let changes = parse_changes(input);
        let change = if command.value("v1").is_some_and(flag) {
            let ([change], ConfChangeTransition::Auto) = (&changes[..], transition) else {
                return Err("v1 conf change can only have one operation and no transition".to_owned());
            };
            ConfChange::simple(change.kind, change.peer)
        } else {
            ConfChange::joint(transition, changes)
        };
        let node = self.environment.node(command.numbers()[0]);
        node.propose_conf_change(&change).map_err(|error| say_error(&error))
    }
}

/// A switch in any of the forms that Go reads.
fn flag(value: &str) -> bool {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        other => panic!("{other} is neither true nor false"),
    }
}

/// The set-up that scripts take for granted, with what the command changes.
fn config(command: &Command) -> Result<Config, String> {
    let mut config = Config {
        election_tick: 3,
        heartbeat_tick: 1,
        max_size_per_message: u64::MAX,
        max_committed_size_per_ready: 0,
        max_uncommitted_entries_size: 0,
        max_inflight_messages: usize::try_from(i32::MAX).unwrap(),
        batch_append: false,
        check_quorum: false,
        pre_vote: false,
        step_down_on_removal: false,
        ..Config::new(PeerId(1))
    };
    for argument in &command.arguments {
        let Some(value) = argument.values.first() else { continue };
        let flag = || flag(value);
        match argument.key.as_str() {
            "index" => config.applied = LogIndex(value.parse().unwrap()),
            "inflight" => config.max_inflight_messages = value.parse().unwrap(),
            "batch-append" => config.batch_append = flag(),
            "priority" => config.priority = value.parse().unwrap(),
            "max-size-per-message" => config.max_size_per_message = value.parse().unwrap(),
            "apply-unpersisted" => config.apply_unpersisted = ApplyAhead::Yes,
            "prevote" => config.pre_vote = flag(),
            "checkquorum" => config.check_quorum = flag(),
            "async-storage-writes" => config.async_storage_writes = flag(),
            "step-down-on-removal" => config.step_down_on_removal = flag(),
            "disable-conf-change-validation" => config.disable_conf_change_validation = flag(),
            "max-committed-size-per-ready" => config.max_committed_size_per_ready = value.parse().unwrap(),
            "read-only" => {
                config.read_only_option = match value.as_str() {
                    "safe" => ReadOnlyOption::Safe,
                    "lease-based" => ReadOnlyOption::LeaseBased,
                    other => return Err(format!("invalid read-only option \"{other}\"")),
                }
            }
            // What makes up the first snapshot, and what no script of etcd's looks at either.
            _ => {}
        }
    }
    Ok(config)
}
