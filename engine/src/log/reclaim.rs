//! Freeing segments, oldest first.
//!
//! A segment may go when nothing in it is needed. What is small and needed (hard states, compactions, adoptions, edits, a few entries) is written
//! again with the sequence that it has, synced, and then the segment goes. Many entries that are needed pin it: their tree is to be
//! flushed and their stream compacted (`oldest_unreleased`).

use super::format::{GROUP_HEADER, Record};
use super::stream::{Place, Slot};
use super::{Durability, Log, State};
use crate::Error;
use bytes::Bytes;
use pinion_types::{LogIndex, RegionId};

/// Bytes of entries that are written again to free a segment; less where segments are small.
const REWRITE_BYTES_MAX: usize = 256 << 10;

/// A record to be written again.
enum Rewrite {
    HardState(RegionId),
    Compact(RegionId),
    Adopt(RegionId),
    Edit(RegionId, u64),
    Structure(u64),
    Entry(RegionId, LogIndex, Place),
}

impl Log {
    /// Frees what can be freed.
    pub(crate) fn reclaim(&self) {
        loop {
            if self.0.reclaiming.get() || self.failure().is_some() {
                return;
            }
            let Some(end) = self.end_of_oldest() else { return };
            let Some(rewrites) = self.needed_before(end) else { return };
            if !rewrites.is_empty() {
                self.0.reclaiming.set(true);
                let log = self.clone();
                pinion_runtime::spawn(async move {
                    let rewritten = log.rewrite(rewrites).await;
                    log.0.reclaiming.set(false);
                    match rewritten {
                        Ok(()) => log.reclaim(),
                        Err(Error::DiskFull { .. }) => {}
                        Err(error) => log.fail(&error),
                    }
                });
                return;
            }
            let superseded_through = self.0.writer.borrow().last_group();
            self.0.segments.borrow_mut().free_oldest(superseded_through);
        }
    }

    /// The first group behind the oldest segment, if there is one behind, and all of the oldest is durable.
    fn end_of_oldest(&self) -> Option<u64> {
        let segments = self.0.segments.borrow();
        let end = segments.live.get(1)?.first_group;
        // The next segment's header must be durable before the older one may go: so must a group in it.
        (self.0.writer.borrow().durable_through >= end).then_some(end)
    }

    /// What must be written again before every group below `end` can go; `None` when that is too much.
    fn needed_before(&self, end: u64) -> Option<Vec<Rewrite>> {
        let state = self.0.state.borrow();
        let mut rewrites = Vec::new();
        let mut entry_bytes = 0;
        for (id, stream) in &state.streams {
            let is_old = |group: u64| group > 0 && group < end;
            if is_old(stream.generation.group) {
                rewrites.push(Rewrite::Adopt(*id));
            }
            if is_old(stream.hard_state.group) {
                rewrites.push(Rewrite::HardState(*id));
            }
            if is_old(stream.compacted.group) {
                rewrites.push(Rewrite::Compact(*id));
            }
            let old_edits = stream.edits.iter().filter(|(_, group, _)| is_old(*group));
            rewrites.extend(old_edits.map(|(sequence, ..)| Rewrite::Edit(*id, *sequence)));
            for (index, slot) in stream.entries().filter(|(_, slot)| is_old(slot.place.group)) {
                entry_bytes += slot.place.len as usize + super::RECORD_OVERHEAD_BYTES;
                if entry_bytes > REWRITE_BYTES_MAX.min(self.append_bytes_max() / 4) {
                    return None;
                }
                rewrites.push(Rewrite::Entry(*id, index, slot.place));
            }
        }
        let old = state.structures.iter().filter(|(_, group, _)| *group < end);
        rewrites.extend(old.map(|(sequence, ..)| Rewrite::Structure(*sequence)));
        Some(rewrites)
    }

    async fn rewrite(&self, rewrites: Vec<Rewrite>) -> Result<(), Error> {
        let mut payloads = Vec::with_capacity(rewrites.len());
        for rewrite in &rewrites {
            payloads.push(match rewrite {
                Rewrite::Entry(stream, index, _) => {
                    // Released meanwhile: not needed any more.
                    let found = self.entries(*stream, *index, index.next(), usize::MAX).await;
                    match found {
                        Ok(entries) => entries.into_iter().next().map(|entry| entry.payload),
                        Err(Error::NoSuchEntry { .. }) => None,
                        Err(error) => return Err(error),
                    }
                }
                _ => None,
            });
        }
        // It may have failed meanwhile: what it takes then nobody would write, and who syncs would wait for it for ever.
        self.check_failure()?;
        if !self.0.segments.borrow().has_any_room() {
            self.prepare_spare();
            return Err(self.disk_full());
        }
        let ticket = {
            let mut writer = self.0.writer.borrow_mut();
            let group = writer.pending_group(self.append_bytes_max() / 4, self.group_bytes_max());
            let mut state = self.0.state.borrow_mut();
            let mut records = 0;
            for (rewrite, payload) in rewrites.iter().zip(&payloads) {
                records += usize::from(state.write_again(rewrite, payload.as_ref(), group, writer.body()));
            }
            if records == 0 {
                // All of it was superseded or released meanwhile. Nobody would write a group without records, however long one waits for it.
                return Ok(());
            }
            self.0.records_rewritten.update(|count| count + records as u64);
            super::Ticket::waiting(writer.appended(records, Durability::Sync))
        };
        self.write_pending();
        ticket.await
    }
}

impl State {
    /// Encodes a record again with the sequence that it has, unless it was superseded or released meanwhile.
    fn write_again(
        &mut self,
        rewrite: &Rewrite,
        payload: Option<&Bytes>,
        group: u64,
        body: &mut Vec<u8>,
    ) -> bool {
        if let Rewrite::Structure(sequence) = rewrite {
            let found = self.structures.iter_mut().find(|(there, ..)| there == sequence);
            let Some((sequence, place, payload)) = found else { return false };
            Record::Structure { payload }.encode(*sequence, body);
            *place = group;
            return true;
        }
        let id = match rewrite {
            Rewrite::HardState(id)
            | Rewrite::Compact(id)
            | Rewrite::Adopt(id)
            | Rewrite::Edit(id, _)
            | Rewrite::Entry(id, ..) => *id,
            Rewrite::Structure(_) => return false,
        };
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        match rewrite {
            Rewrite::HardState(_) => {
                let latest = &mut stream.hard_state;
                let (term, vote, commit) = latest.value;
                Record::HardState { stream: id, term, vote, commit }.encode(latest.sequence, body);
                latest.group = group;
            }
            Rewrite::Compact(_) => {
                let latest = &mut stream.compacted;
                let (index, term) = latest.value;
                Record::Compact { stream: id, index, term }.encode(latest.sequence, body);
                latest.group = group;
            }
            Rewrite::Adopt(_) => {
                let latest = &mut stream.generation;
                Record::Adopt { stream: id, generation: latest.value }.encode(latest.sequence, body);
                latest.group = group;
            }
            Rewrite::Edit(_, sequence) => {
                let found = stream.edits.iter_mut().find(|(there, ..)| there == sequence);
                let Some((sequence, place, payload)) = found else { return false };
                Record::Edit { stream: id, payload }.encode(*sequence, body);
                *place = group;
            }
            Rewrite::Entry(_, index, place) => {
                stream.places_change();
                let found = stream.slot_mut(*index).filter(|slot| slot.place == *place);
                let (Some(slot), Some(payload)) = (found, payload) else { return false };
                let Slot { term, kind, sequence, .. } = *slot;
                Record::Entry { stream: id, index: *index, term, kind, payload }.encode(sequence, body);
                let offset = u32::try_from(body.len() - GROUP_HEADER - payload.len()).expect("a group fits");
                slot.place = Place { group, offset, len: place.len };
                // The disk does not have it at that place yet.
                if slot.cached.is_none() {
                    slot.cached = Some(payload.clone());
                    self.cache.note(id, *index, sequence, payload.len());
                }
            }
            Rewrite::Structure(_) => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogConfig;
    use pinion_runtime::machine;
    use std::pin::pin;
    use std::time::Duration;

    #[test]
    fn what_was_superseded_meanwhile_is_not_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().to_owned();
        machine::block_on(async move {
            let config = LogConfig { segment_bytes: 64 << 10, ..LogConfig::default() };
            let (log, _) = Log::open(&directory, config).await.unwrap();
            let elsewhere = Place { group: 1, offset: 0, len: 1 };
            let rewritten = pin!(log.rewrite(vec![Rewrite::Entry(RegionId(1), LogIndex(1), elsewhere)]));
            let late = pin!(pinion_runtime::sleep(Duration::from_secs(5)));
            match futures_util::future::select(rewritten, late).await {
                futures_util::future::Either::Left((done, _)) => done.unwrap(),
                futures_util::future::Either::Right(_) => panic!("it waits for a group that nobody writes"),
            }
        })
        .unwrap();
    }
}
