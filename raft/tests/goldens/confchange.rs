//! `simple`, `enter-joint` and `leave-joint`: from one configuration to the next.

use pinion_raft::confchange::Changer;
use pinion_raft::tracker::Tracker;
use pinion_raft::{ConfChangeKind, ConfChangeSingle};
use pinion_types::{LogIndex, PeerId};

use crate::script::Block;

pub(crate) struct State {
    tracker: Tracker,
    last_index: LogIndex,
}

impl Default for State {
    fn default() -> Self {
        Self { tracker: Tracker::new(10, u64::MAX), last_index: LogIndex(0) }
    }
}

/// `v1 l2 r3 u4`.
pub(crate) fn parse_changes(text: &str) -> Vec<ConfChangeSingle> {
    text.split_whitespace()
        .map(|word| {
            let (letter, id) = word.split_at(1);
            let kind = match letter {
                "v" => ConfChangeKind::AddVoter,
                "l" => ConfChangeKind::AddLearner,
                "r" => ConfChangeKind::Remove,
                "u" => ConfChangeKind::Update,
                other => panic!("unknown change {other}"),
            };
            ConfChangeSingle { kind, peer: PeerId(id.parse().unwrap()) }
        })
        .collect()
}

impl State {
    pub(crate) fn run(&mut self, block: &Block) -> String {
        let steps = parse_changes(&block.input.join(" "));
        let changer = Changer::new(&self.tracker, self.last_index);
        let result = match block.command.name.as_str() {
            "simple" => changer.simple(&steps),
            "enter-joint" => changer.enter_joint(block.command.value("autoleave") == Some("true"), &steps),
            _ => changer.leave_joint(),
        };
        self.last_index = self.last_index.next();
        match result {
            Ok((configuration, progress)) => {
                self.tracker.configuration = configuration;
                self.tracker.progress = progress;
                format!("{}\n{}", self.tracker.configuration, self.tracker.progress)
            }
            Err(error) => error.to_string(),
        }
    }
}
