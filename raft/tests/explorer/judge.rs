//! What must hold after every step, whatever was done to the members.
//!
//! | property | when it is looked at |
//! |---|---|
//! | at most one leader a term; a member's durable vote never changes within a term | an election, a durable write |
//! | a leader has the durable votes of a quorum, by the judge's own count | an election |
//! | a leader of the latest term holds all that was ever committed | an election |
//! | nobody is elected for a later term while a lease is in force | an election |
//! | a leader only appends; two logs that agree on an entry's index and term agree on it and on the one before | entries leave a node |
//! | a commit index never goes back; what is committed is the same everywhere | every step |
//! | what is new to everybody is committed by a leader, ends in its term, and is durable on a quorum | every step |
//! | what is applied is committed, without gaps, and the same everywhere | applying |
//! | a configuration is the same everywhere; quorums of neighbours meet, and those of the leader's and the newest | applying, an election |
//! | a read sees all that was applied anywhere when it was begun | its answer |

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use pinion_raft::{ConfState, Entry, RawNode, Storage, testing};
use pinion_types::{LogIndex, PeerId, Term};

use crate::counts::{Outcome, Outcomes};
use crate::disk::{Checkpoint, Disk};
use crate::quorum::{is_quorum, may_miss};

/// What was violated.
pub(crate) type Verdict = Result<(), String>;

/// An entry as it was first seen.
struct Known {
    term: Term,
    /// The term of the entry before, 0 where it was not known.
    previous: Term,
    hash: u64,
}

/// Keeps what was seen and compares.
pub(crate) struct Judge {
    known: BTreeMap<LogIndex, Vec<Known>>,
    /// The term of each committed entry, from the one after `base` on.
    committed: Vec<Term>,
    base: LogIndex,
    base_term: Term,
    leaders: BTreeMap<Term, PeerId>,
    votes: BTreeMap<(Term, PeerId), PeerId>,
    /// Each configuration that was applied, by the index of its entry.
    configurations: BTreeMap<LogIndex, ConfState>,
    /// The greatest index that anybody has applied.
    pub(crate) applied: LogIndex,
    reads: BTreeMap<u64, LogIndex>,
    /// Whether reads by index must be right: not where they trust in ticks, which are as uneven as can be here.
    judges_reads: bool,
    pub(crate) outcomes: Outcomes,
}

fn hash_of(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    (entry.kind, &entry.data).hash(&mut hasher);
    hasher.finish()
}

fn demand(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

impl Judge {
    /// A group begins at a checkpoint.
    pub(crate) fn new(founding: &Checkpoint, judges_reads: bool) -> Self {
        Self {
            known: BTreeMap::new(),
            committed: Vec::new(),
            base: founding.index,
            base_term: founding.term,
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            configurations: BTreeMap::from([(founding.index, founding.conf_state.clone())]),
            applied: founding.index,
            reads: BTreeMap::new(),
            judges_reads,
            outcomes: Outcomes::default(),
        }
    }

    /// The greatest index that anybody has committed.
    pub(crate) fn committed(&self) -> LogIndex {
        LogIndex(self.base.0 + self.committed.len() as u64)
    }

    fn committed_term(&self, index: LogIndex) -> Option<Term> {
        if index == self.base {
            return Some(self.base_term);
        }
        let place = usize::try_from(index.0.checked_sub(self.base.0 + 1)?).unwrap();
        self.committed.get(place).copied()
    }

    /// The configuration in force at an index.
    pub(crate) fn configuration_at(&self, index: LogIndex) -> &ConfState {
        self.configurations.range(..=index).next_back().unwrap().1
    }

    pub(crate) fn newest_configuration(&self) -> &ConfState {
        self.configurations.last_key_value().unwrap().1
    }

    /// Where it came into force.
    pub(crate) fn newest_configuration_index(&self) -> LogIndex {
        *self.configurations.last_key_value().unwrap().0
    }

    /// Who was elected last.
    pub(crate) fn last_leader(&self) -> Option<(Term, PeerId)> {
        self.leaders.last_key_value().map(|(term, id)| (*term, *id))
    }

    /// A node hands out entries to be written; `before` is the term of what precedes them.
    pub(crate) fn emitted(&mut self, id: PeerId, entries: &[Entry], mut before: Term) -> Verdict {
        for entry in entries {
            let hash = hash_of(entry);
            let of_index = self.known.entry(entry.index).or_default();
            match of_index.iter_mut().find(|known| known.term == entry.term) {
                Some(known) => {
                    demand(known.hash == hash, || {
                        format!("log matching: {id} has another entry {}/{}", entry.term, entry.index)
                    })?;
                    let agree = known.previous == before || known.previous.0 == 0 || before.0 == 0;
                    demand(agree, || {
                        format!(
                            "log matching: before {}/{} {id} has the term {before} and not {}",
                            entry.term, entry.index, known.previous
                        )
                    })?;
                    known.previous = known.previous.max(before);
                }
                None => of_index.push(Known { term: entry.term, previous: before, hash }),
            }
            before = entry.term;
        }
        Ok(())
    }

    /// A vote is durable.
    pub(crate) fn voted(&mut self, voter: PeerId, term: Term, candidate: PeerId) -> Verdict {
        let first = *self.votes.entry((term, voter)).or_insert(candidate);
        demand(first == candidate, || format!("{voter} votes for {first} and {candidate} in term {term}"))
    }

    /// A node leads. `durable_term` says which term a member can't fall behind any more.
    pub(crate) fn elected<S: Storage>(
        &mut self,
        node: &RawNode<S>,
        term: Term,
        durable_term: impl Fn(PeerId) -> Term,
    ) -> Verdict {
        let id = node.id();
        let first = *self.leaders.entry(term).or_insert(id);
        demand(first == id, || format!("election safety: {first} and {id} lead in term {term}"))?;
        let configuration = &node.tracker().configuration;
        let voters = &configuration.voters;
        // Who went on to a later term before its vote was written can't give it to another.
        let has_voted = |voter| match self.votes.get(&(term, voter)) {
            Some(candidate) => *candidate == id,
            None => durable_term(voter) > term,
        };
        demand(is_quorum(voters.incoming.ids(), voters.outgoing.ids(), has_voted), || {
            format!("{id} leads in term {term} without the durable votes of a quorum of {configuration}")
        })?;
        if self.last_leader().is_none_or(|(last, _)| last > term) {
            // It does not know yet that its term is over.
            return Ok(());
        }
        let newest = self.newest_configuration();
        demand(!may_miss(&configuration.to_conf_state(), newest), || {
            format!("{id} is elected by {configuration}, whose quorums may miss those of {newest}")
        })?;
        let first = node.storage().first_index();
        for index in first.0..=self.committed().0 {
            let (index, own) = (LogIndex(index), testing::term_at(node, LogIndex(index)));
            let committed = self.committed_term(index);
            demand(committed.is_none_or(|term| term == own), || {
                format!(
                    "leader completeness: {id} leads in term {term} with {own} at {index}, not {committed:?}"
                )
            })?;
        }
        Ok(())
    }

    /// A node's commit index has grown from `before`. `holds` says who has an entry durably.
    pub(crate) fn committing<S: Storage>(
        &mut self,
        node: &RawNode<S>,
        before: LogIndex,
        leads_in: Option<Term>,
        holds: impl Fn(PeerId, LogIndex, Term) -> bool,
    ) -> Verdict {
        let (id, commit) = (node.id(), node.hard_state().commit);
        demand(commit >= before, || format!("the commit index of {id} goes back from {before} to {commit}"))?;
        for index in before.0 + 1..=commit.0 {
            let (index, own) = (LogIndex(index), testing::term_at(node, LogIndex(index)));
            match self.committed_term(index) {
                // What a snapshot stands for has no entries.
                _ if own.0 == 0 => {}
                Some(term) => demand(term == own, || {
                    format!("{id} commits {index} of term {own}, but it was committed in term {term}")
                })?,
                None => {
                    let Some(term) = leads_in else {
                        return Err(format!("{id} commits {index}, which no leader has committed"));
                    };
                    let last = testing::term_at(node, commit);
                    demand(last == term, || {
                        format!(
                            "{id} leads in term {term} and commits up to {commit} of term {last} by counting"
                        )
                    })?;
                    let voters = &node.tracker().configuration.voters;
                    let is_durable =
                        is_quorum(voters.incoming.ids(), voters.outgoing.ids(), |id| holds(id, index, own));
                    demand(is_durable, || format!("{id} commits {index}, which is not durable on a quorum"))?;
                    demand(index == self.committed().next(), || format!("{id} commits {index} after a gap"))?;
                    self.committed.push(own);
                }
            }
        }
        Ok(())
    }

    /// An entry is applied.
    pub(crate) fn applied(&mut self, id: PeerId, entry: &Entry) -> Verdict {
        let (index, committed) = (entry.index, self.committed_term(entry.index));
        demand(committed == Some(entry.term), || {
            format!("state machine safety: {id} applies {}/{index}, committed is {committed:?}", entry.term)
        })?;
        let hash = hash_of(entry);
        let is_known = self
            .known
            .get(&index)
            .is_some_and(|all| all.iter().any(|known| known.term == entry.term && known.hash == hash));
        demand(is_known, || format!("state machine safety: {id} applies another {}/{index}", entry.term))?;
        self.applied = self.applied.max(index);
        Ok(())
    }

    /// A change of the configuration is in force on one more member.
    pub(crate) fn configured(&mut self, id: PeerId, index: LogIndex, state: &ConfState) -> Verdict {
        if let Some(first) = self.configurations.get(&index) {
            return demand(first.is_equivalent(state), || {
                format!("{id} is configured as {state} at {index}, others as {first}")
            });
        }
        let newest = self.newest_configuration();
        demand(!may_miss(newest, state), || {
            format!("at {index} {newest} becomes {state}, whose quorums may miss each other")
        })?;
        match (newest.voters_outgoing.is_empty(), state.voters_outgoing.is_empty()) {
            (true, false) => self.outcomes.count(Outcome::JointEntered),
            (false, true) => self.outcomes.count(Outcome::JointLeft),
            _ => {}
        }
        self.configurations.insert(index, state.clone());
        Ok(())
    }

    /// A snapshot has taken the place of a member's log and state.
    pub(crate) fn restored(&mut self, id: PeerId, checkpoint: &Checkpoint) -> Verdict {
        self.outcomes.count(Outcome::SnapshotRestored);
        let Checkpoint { index, term, conf_state, .. } = checkpoint;
        demand(self.committed_term(*index) == Some(*term), || {
            format!("{id} takes a snapshot at {term}/{index}, which was not committed")
        })?;
        let expected = self.configuration_at(*index);
        demand(expected.is_equivalent(conf_state), || {
            format!("{id} takes a snapshot at {index} configured as {conf_state}, not as {expected}")
        })
    }

    /// A read begins; its name.
    pub(crate) fn read_begins(&mut self) -> u64 {
        let name = self.reads.len() as u64;
        self.reads.insert(name, self.applied);
        name
    }

    /// A read may be served at an index.
    pub(crate) fn read_answered(&mut self, id: PeerId, context: &[u8], index: LogIndex) -> Verdict {
        let name = u64::from_le_bytes(context.try_into().map_err(|_| "a read without its name".to_owned())?);
        let least = self.reads.get(&name).copied().ok_or("an answer to a read that was never begun")?;
        self.outcomes.count(Outcome::ReadAnswered);
        demand(!self.judges_reads || index >= least, || {
            format!("stale read: {id} answers at {index} what must see {least}")
        })
    }

    /// A read is served by a lease.
    pub(crate) fn lease_read(&self, id: PeerId, index: LogIndex) -> Verdict {
        demand(index >= self.applied, || {
            format!("stale read: {id} answers by its lease at {index} what must see {}", self.applied)
        })
    }

    /// A member starts from its disk.
    pub(crate) fn started(&self, id: PeerId, disk: &Disk) -> Verdict {
        let Checkpoint { index, term, .. } = disk.checkpoint;
        demand(index < self.base || self.committed_term(index) == Some(term), || {
            format!("{id} starts from {term}/{index}, which was not committed")
        })
    }
}
