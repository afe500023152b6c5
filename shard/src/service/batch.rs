//! Batches: in one piece where all keys are of one region, else by region if the caller allows that.

use super::{RETRY_AFTER, ROUTE_ATTEMPTS_MAX, ROUTE_WAIT, envelope, wire_error};
use crate::core::Shard;
use crate::error::ShardError;
use crate::peer::{Peer, ReadValue};
use crate::{checks, value};
use pinion_capnp::{
    Atomicity, Operation, OperationKind, OperationResult, Operations, RawAnswer, RawCall, RawReply,
    RawRequest, Results, WireError,
};
use pinion_engine::batch::WriteBatch;
use pinion_types::key::Zone;
use pinion_types::map::HashMap;
use pinion_types::{ColumnFamily, Epoch, RegionId};
use std::rc::Rc;

impl Shard {
    /// Does a batch: in one piece when its keys are of one region, else by region if the caller allows that.
    pub(super) async fn batch(&self, request: RawRequest) -> RawAnswer {
        if self.is_of_one_region(&request.call) {
            let answer = self.routed(&request).await;
            if !is_border_moved(&answer) {
                return answer;
            }
        }
        let RawCall::Batch { operations, atomicity } = request.call else {
            return Err(WireError::Internal("a batch was something else".to_owned()));
        };
        self.batch_by_region(&operations, atomicity).await
    }

    /// Whether all keys of a batch are of one region, as far as this core knows.
    fn is_of_one_region(&self, call: &RawCall) -> bool {
        let RawCall::Batch { operations, .. } = call else { return true };
        let router = self.router();
        let mut buffer = Vec::new();
        let mut keys = operations.iter().map(|operation| operation.key);
        let Some(first) = keys.next() else { return true };
        match router.find(Zone::Raw.stored_in(first, &mut buffer)) {
            Some(route) => keys.all(|key| route.region.contains(Zone::Raw.stored_in(key, &mut buffer))),
            None => false,
        }
    }

    async fn batch_by_region(&self, operations: &Operations, atomicity: Atomicity) -> RawAnswer {
        let writes = operations.iter().any(|operation| operation.kind != OperationKind::Get);
        let mut results = Results::new(operations.len());
        let mut rest: Vec<usize> = (0..operations.len()).collect();
        for _ in 0..ROUTE_ATTEMPTS_MAX {
            let mut parts = self.by_region(operations, &rest)?;
            if parts.len() > 1 && writes && atomicity == Atomicity::Whole {
                return Err(WireError::BatchSpansRegions);
            }
            let calls: Vec<_> = parts
                .iter()
                .map(|indexes| {
                    let mut part = Operations::with_capacity(indexes.len(), operations.size_bytes());
                    for &index in indexes {
                        part.push(operations.at(index));
                    }
                    RawRequest::new(RawCall::Batch { operations: part, atomicity })
                })
                .collect();
            let answers = futures_util::future::join_all(calls.iter().map(|call| self.routed(call))).await;
            if let [answer] = answers.as_slice()
                && rest.len() == operations.len()
                && !is_border_moved(answer)
            {
                return answer.clone();
            }
            rest.clear();
            for (indexes, answer) in parts.drain(..).zip(answers) {
                match is_border_moved(&answer) {
                    true => rest.extend(indexes),
                    false => merge(&mut results, &indexes, answer),
                }
            }
            if rest.is_empty() {
                return Ok(RawReply::Results(results));
            }
            pinion_runtime::sleep(ROUTE_WAIT).await;
        }
        merge(&mut results, &rest, Err(WireError::ServerBusy { retry_after: RETRY_AFTER }));
        Ok(RawReply::Results(results))
    }

    /// The operations with these indexes, by the region of their keys.
    fn by_region(&self, operations: &Operations, indexes: &[usize]) -> Result<Vec<Vec<usize>>, WireError> {
        let router = self.router();
        let mut parts: Vec<Vec<usize>> = Vec::new();
        let mut places: HashMap<RegionId, usize> = HashMap::default();
        for &index in indexes {
            let key = Zone::Raw.stored(operations.at(index).key);
            let route = router.find(&key).ok_or(WireError::RegionNotFound(RegionId(0)))?;
            let place = *places.entry(route.region.id).or_insert_with(|| {
                parts.push(Vec::new());
                parts.len() - 1
            });
            parts[place].push(index);
        }
        Ok(parts)
    }

    /// Does a batch whose keys are all of one region: reads first, then the writes as one command.
    pub(super) async fn batch_in_region(
        &self,
        peer: &Rc<Peer>,
        epoch: Epoch,
        operations: &Operations,
    ) -> RawAnswer {
        let mut results = Results::done(operations.len());
        let mut batch = WriteBatch::default();
        let mut on_disk = Vec::new();
        let mut buffer = Vec::new();
        touch(peer, operations);
        for (index, Operation { family, key, kind }) in operations.iter().enumerate() {
            let key = Zone::Raw.stored_in(key, &mut buffer);
            checks::key_in_region(&peer.region(), key)?;
            if !matches!(kind, OperationKind::Get) && batch.is_empty() {
                let operation = value::ENVELOPE_BYTES_MAX + WriteBatch::OPERATION_OVERHEAD_MAX + 1;
                batch = WriteBatch::with_capacity(operations.size_bytes() + operations.len() * operation);
            }
            match kind {
                OperationKind::Get => match peer.get_cached(family, key) {
                    Some(found) => set_found(&mut results, index, found),
                    None => on_disk.push((index, family, key.to_vec())),
                },
                OperationKind::Put { value, ttl } => {
                    batch.put_parts(family, key, [&envelope(peer, ttl), value]);
                }
                OperationKind::Delete => batch.delete(family, key),
            }
        }
        if !on_disk.is_empty() {
            // Nothing was written since the first read: all see the same.
            let snapshot = peer.tree().snapshot();
            for (index, family, key) in on_disk {
                set_found(&mut results, index, peer.get_in(&snapshot, family, &key).await);
            }
            // A split that was applied meanwhile took keys from the tree, and what was read of them since was not found.
            if peer.region().epoch.version != epoch.version {
                return Err(peer.epoch_not_match());
            }
        }
        if !batch.is_empty() {
            self.write(peer, epoch, batch).await?;
        }
        Ok(RawReply::Results(results))
    }
}

/// Asks the memory for what the reads of a batch will look at.
fn touch(peer: &Peer, operations: &Operations) {
    for family in ColumnFamily::ALL {
        let reads = operations
            .iter()
            .filter(|operation| operation.family == family && matches!(operation.kind, OperationKind::Get));
        let (mut bytes, mut ends, mut stored) = (Vec::new(), Vec::new(), Vec::new());
        for Operation { key, .. } in reads {
            bytes.extend_from_slice(Zone::Raw.stored_in(key, &mut stored));
            ends.push(bytes.len());
        }
        if ends.len() > 1 {
            let starts = std::iter::once(0).chain(ends.iter().copied());
            let keys: Vec<_> = starts.zip(&ends).map(|(start, end)| &bytes[start..*end]).collect();
            peer.tree().touch(family, &keys);
        }
    }
}

fn set_found(results: &mut Results, index: usize, found: Result<Option<ReadValue>, ShardError>) {
    match found {
        Ok(Some(value)) => results.set_value(index, &value),
        Ok(None) => results.set_not_found(index),
        Err(error) => results.set_error(index, wire_error(&error)),
    }
}

/// Whether a part of a batch was refused because its keys are of several regions now.
fn is_border_moved(answer: &RawAnswer) -> bool {
    matches!(answer, Err(WireError::KeyNotInRegion { .. }))
}

/// Puts one region's results where they belong in the whole batch's.
fn merge(results: &mut Results, indexes: &[usize], answer: RawAnswer) {
    match answer {
        Ok(RawReply::Results(part)) => {
            for (&index, result) in indexes.iter().zip(part.iter()) {
                match result {
                    OperationResult::Done => results.set_done(index),
                    OperationResult::NotFound => results.set_not_found(index),
                    OperationResult::Value(value) => results.set_value(index, value),
                    OperationResult::Error(error) => results.set_error(index, error.clone()),
                }
            }
        }
        Ok(_) => {
            let error = WireError::Internal("a batch was answered with something else".to_owned());
            for &index in indexes {
                results.set_error(index, error.clone());
            }
        }
        Err(error) => {
            for &index in indexes {
                results.set_error(index, error.clone());
            }
        }
    }
}
