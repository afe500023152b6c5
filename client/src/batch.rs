//! Lists of operations: parted by region, sent together, put together again.

use crate::cache::Entry;
use crate::calls::mismatch;
use crate::cluster::Cluster;
use crate::retry::{Failure, Retry};
use crate::{Atomicity, ColumnFamily, Error, OperationResult, Operations, Results, WireError};
use futures_util::future::join_all;
use pinion_capnp::{ClientError, OperationKind, RawCall, RawReply, RawRequest};
use pinion_types::RegionId;
use pinion_types::key::Zone;
use pinion_types::map::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// When an operation that was not done until the deadline may be tried again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Operations of one region, by their places in the list.
type Part = (Rc<Entry>, Vec<usize>);

impl Cluster {
    /// Runs a mixed list of operations; each region's part is all or nothing, and a part that was not done has the reason in its operations'
    /// results.
    pub async fn batch(&self, operations: Operations) -> Result<Results, Error> {
        self.run_batch(operations, Atomicity::PerRegion).await
    }

    /// The values of several keys, one result for each.
    pub async fn batch_get(&self, family: ColumnFamily, keys: &[Vec<u8>]) -> Result<Results, Error> {
        let mut operations = Operations::default();
        for key in keys {
            operations.get(family, key);
        }
        self.run_batch(operations, Atomicity::Whole).await
    }

    /// Writes several keys of one region, all or nothing. `operations` are puts of one family and one time to live.
    pub async fn batch_put(&self, operations: Operations) -> Result<(), Error> {
        self.run_batch(operations, Atomicity::Whole).await.map(drop)
    }

    /// Removes several keys of one region, all or nothing.
    pub async fn batch_delete(&self, family: ColumnFamily, keys: &[Vec<u8>]) -> Result<(), Error> {
        let mut operations = Operations::default();
        for key in keys {
            operations.delete(family, key);
        }
        self.run_batch(operations, Atomicity::Whole).await.map(drop)
    }

    /// Runs a list of operations. Writes that are to be one whole are of one region, or refused with `BatchSpansRegions`.
    pub async fn run_batch(&self, operations: Operations, atomicity: Atomicity) -> Result<Results, Error> {
        if operations.is_empty() {
            return Err(WireError::invalid("the list is empty; there is nothing to do").into());
        }
        let writes = operations.iter().any(|operation| operation.kind != OperationKind::Get);
        let mut request = RawRequest::new(RawCall::Batch { operations, atomicity });
        let mut retry = self.retry();
        loop {
            let RawCall::Batch { operations, .. } = &request.call else {
                unreachable!("it was made just now")
            };
            let outcome = match self.by_region(operations, 0..operations.len()).await {
                Ok(parts) => match parts.as_slice() {
                    [(entry, _)] => self.try_raw(entry, &mut request, &retry).await,
                    _ if writes && atomicity == Atomicity::Whole => {
                        return Err(WireError::BatchSpansRegions.into());
                    }
                    _ => return Ok(self.run_parts(operations, atomicity, parts, retry).await),
                },
                Err(failure) => Err(failure),
            };
            match outcome {
                Ok(RawReply::Results(results)) => return Ok(results),
                Ok(other) => return Err(mismatch(&other)),
                Err(failure) => retry.after(failure).await?,
            }
        }
    }

    /// Runs the parts of a list side by side, those that were not done again until the deadline.
    async fn run_parts(
        &self,
        operations: &Operations,
        atomicity: Atomicity,
        mut parts: Vec<Part>,
        mut retry: Retry,
    ) -> Results {
        let mut results = Results::new(operations.len());
        loop {
            let tries = parts.iter().map(|part| self.run_part(operations, atomicity, part, &retry));
            let outcomes = join_all(tries).await;
            let (mut rest, mut failed) = (Vec::new(), None);
            for ((_, indexes), outcome) in parts.drain(..).zip(outcomes) {
                match outcome {
                    Ok(part) => merge(&mut results, &indexes, &part),
                    Err(Failure::Final(error)) => set_errors(&mut results, &indexes, &wire_error(error)),
                    Err(again @ Failure::Again(..)) => {
                        rest.extend(indexes);
                        failed = Some(again);
                    }
                }
            }
            rest.sort_unstable();
            while let Some(failure) = failed.take() {
                if let Err(error) = retry.after(failure).await {
                    set_errors(&mut results, &rest, &wire_error(error));
                    return results;
                }
                match self.by_region(operations, rest.iter().copied()).await {
                    Ok(found) => parts = found,
                    Err(failure) => failed = Some(failure),
                }
            }
            if parts.is_empty() {
                return results;
            }
        }
    }

    async fn run_part(
        &self,
        operations: &Operations,
        atomicity: Atomicity,
        (entry, indexes): &Part,
        retry: &Retry,
    ) -> Result<Results, Failure> {
        let bytes = operations.size_bytes() / operations.len() * indexes.len();
        let mut part = Operations::with_capacity(indexes.len(), bytes);
        for &index in indexes {
            part.push(operations.at(index));
        }
        let mut request = RawRequest::new(RawCall::Batch { operations: part, atomicity });
        match self.try_raw(entry, &mut request, retry).await? {
            RawReply::Results(results) => Ok(results),
            other => Err(Failure::Final(mismatch(&other))),
        }
    }

    /// The operations with these indexes, by the region of their keys.
    async fn by_region(
        &self,
        operations: &Operations,
        indexes: impl Iterator<Item = usize>,
    ) -> Result<Vec<Part>, Failure> {
        let mut parts: Vec<Part> = Vec::new();
        let mut places: HashMap<RegionId, usize> = HashMap::default();
        let (mut buffer, mut last) = (Vec::new(), 0);
        for index in indexes {
            let stored = Zone::Raw.stored_in(operations.at(index).key, &mut buffer);
            // Neighbours in a list are often neighbours in the keyspace.
            if !parts.get(last).is_some_and(|(entry, _)| entry.region.contains(stored)) {
                let entry = self.locate(stored).await?;
                last = *places.entry(entry.region.id).or_insert(parts.len());
                if last == parts.len() {
                    parts.push((entry, Vec::new()));
                }
            }
            parts[last].1.push(index);
        }
        Ok(parts)
    }
}

/// Puts a part's results where they belong in the whole. An answer to writes alone carries none: all of it was done.
fn merge(results: &mut Results, indexes: &[usize], part: &Results) {
    for (place, &index) in indexes.iter().enumerate() {
        if place >= part.len() {
            results.set_done(index);
            continue;
        }
        match part.at(place) {
            OperationResult::Done => results.set_done(index),
            OperationResult::NotFound => results.set_not_found(index),
            OperationResult::Value(value) => results.set_value(index, value),
            OperationResult::Error(error) => results.set_error(index, error.clone()),
        }
    }
}

fn set_errors(results: &mut Results, indexes: &[usize], error: &WireError) {
    for &index in indexes {
        results.set_error(index, error.clone());
    }
}

/// An error in the words of a list of results.
fn wire_error(error: Error) -> WireError {
    match error {
        Error::Refused(refused) | Error::TimedOut { last: ClientError::Refused(refused), .. } => refused,
        Error::Undetermined(_) | Error::Failed(_) => WireError::Undetermined,
        // Nothing was done.
        _ => WireError::ServerBusy { retry_after: RETRY_AFTER },
    }
}
