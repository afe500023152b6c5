//! Necessary conditions that a sweep over sorted times decides, O(n log n), and whose failure a sentence explains. They are the
//! conditions of Gibbons and Korach (1997, "Testing shared memories") for registers whose reads tell what they read:
//!
//! - nothing sees a value before its write was invoked;
//! - of two values of a key at most one has to come before the other;
//! - what was there and could not have been deleted is not absent.

use crate::component::Component;
use crate::history::{CallId, ValueId};
use crate::problem::{Problem, Transaction, Zone};
use crate::violation::Reason;

/// A tick, and what it belongs to.
type At = (u64, usize);

/// The first condition that does not hold.
pub(crate) fn find(component: &Component<'_>, problem: &Problem) -> Option<Reason> {
    let finder = Finder { component, problem };
    if let Some(reason) = finder.seen_too_early() {
        return Some(reason);
    }
    let mut codes_by_slot = vec![Vec::new(); problem.slots];
    for (code, zone) in problem.zones.iter().enumerate().filter(|(_, zone)| zone.writer.is_some()) {
        codes_by_slot[problem.meanings[code].0].push((zone.first_returned.0, code));
    }
    for codes in &mut codes_by_slot {
        codes.sort_unstable();
    }
    codes_by_slot.iter().find_map(|codes| finder.both_first(codes)).or_else(|| finder.lost(&codes_by_slot))
}

struct Finder<'a> {
    component: &'a Component<'a>,
    problem: &'a Problem,
}

impl Finder<'_> {
    fn zone(&self, code: usize) -> &Zone {
        &self.problem.zones[code]
    }

    fn transaction(&self, (_, place): At) -> &Transaction {
        &self.problem.transactions[place]
    }

    fn call(&self, at: At) -> CallId {
        self.transaction(at).call
    }

    fn value(&self, code: usize) -> ValueId {
        self.problem.meanings[code].1.expect("only values have zones")
    }

    fn key(&self, code: usize) -> Vec<u8> {
        self.component.keys[self.problem.meanings[code].0].clone()
    }

    fn seen_too_early(&self) -> Option<Reason> {
        self.problem.zones.iter().enumerate().find_map(|(code, zone)| {
            let writer = &self.problem.transactions[zone.writer?];
            (zone.first_returned.0 < writer.invoked).then(|| Reason::NeverWritten {
                key: self.key(code),
                value: self.value(code),
                seen_by: self.call(zone.first_returned),
                attempt: Some(writer.call),
            })
        })
    }

    /// Looks for two values each of which was there before a call that saw or wrote the other was invoked. `codes` are those of one
    /// slot, by their zones' first return.
    fn both_first(&self, codes: &[At]) -> Option<Reason> {
        // Those two whose zones reach furthest, of the values that were there early: one may be the value itself.
        let mut furthest: [Option<At>; 2] = [None, None];
        let mut by_last: Vec<At> =
            codes.iter().map(|&(_, code)| (self.zone(code).last_invoked.0, code)).collect();
        by_last.sort_unstable();
        let mut early = codes.iter().peekable();
        for (last_invoked, second) in by_last {
            while let Some(&(_, first)) = early.next_if(|(first_returned, _)| *first_returned < last_invoked)
            {
                let candidate = Some((self.zone(first).last_invoked.0, first));
                if candidate > furthest[0] {
                    furthest = [candidate, furthest[0]];
                } else if candidate > furthest[1] {
                    furthest[1] = candidate;
                }
            }
            let (reach, first) =
                furthest.into_iter().flatten().find(|(_, first)| *first != second).unwrap_or_default();
            if reach > self.zone(second).first_returned.0 {
                let (one, other) = (self.zone(first), self.zone(second));
                return Some(Reason::BothFirst {
                    key: self.key(second),
                    values: [self.value(first), self.value(second)],
                    first_before_second: [self.call(one.first_returned), self.call(other.last_invoked)],
                    second_before_first: [self.call(other.first_returned), self.call(one.last_invoked)],
                });
            }
        }
        None
    }

    /// Looks for a call that found nothing although a value had been there, and no delete may have come in between.
    fn lost(&self, codes_by_slot: &[Vec<At>]) -> Option<Reason> {
        let until_deleted = self.deletes();
        let nearest: Vec<Furthest> = codes_by_slot
            .iter()
            .map(|codes| {
                Furthest::new(codes.iter().map(|&(at, code)| (at, (self.zone(code).last_invoked.0, code))))
            })
            .collect();
        for transaction in &self.problem.transactions {
            for cell in transaction.requires.iter().filter(|cell| !self.problem.is_value(cell.code)) {
                let Some((last_invoked, code)) = nearest[cell.slot].until(transaction.invoked) else {
                    continue;
                };
                let until = transaction.returned.saturating_add(1);
                let may_be_deleted = until_deleted[cell.slot]
                    .until(until)
                    .is_some_and(|(returned, _)| returned >= last_invoked);
                if !may_be_deleted {
                    return Some(Reason::Lost {
                        key: self.key(code),
                        value: self.value(code),
                        there_for: self.call(self.zone(code).first_returned),
                        absent_for: transaction.call,
                    });
                }
            }
        }
        None
    }

    /// By slot: until when a delete that was invoked before some tick may have happened.
    fn deletes(&self) -> Vec<Furthest> {
        let mut spans: Vec<Vec<(u64, At)>> = vec![Vec::new(); self.problem.slots];
        for transaction in &self.problem.transactions {
            for cell in transaction.writes.iter().filter(|cell| !self.problem.is_value(cell.code)) {
                spans[cell.slot].push((transaction.invoked, (transaction.returned, 0)));
            }
        }
        for (slot, invoked) in self.problem.open_deletes.iter().enumerate() {
            spans[slot].extend(invoked.iter().map(|&invoked| (invoked, (u64::MAX, 0))));
        }
        spans
            .into_iter()
            .map(|mut spans| {
                spans.sort_unstable();
                Furthest::new(spans.into_iter())
            })
            .collect()
    }
}

/// Of spans that begin before some tick, the end that is furthest.
struct Furthest(Vec<(u64, At)>);

impl Furthest {
    /// Of spans sorted by their beginning.
    fn new(spans: impl Iterator<Item = (u64, At)>) -> Self {
        let mut furthest = (0, 0);
        Self(
            spans
                .map(|(begin, end)| {
                    furthest = end.max(furthest);
                    (begin, furthest)
                })
                .collect(),
        )
    }

    fn until(&self, tick: u64) -> Option<At> {
        let after = self.0.partition_point(|(begin, _)| *begin < tick);
        after.checked_sub(1).map(|last| self.0[last].1)
    }
}
