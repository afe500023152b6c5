//! Calls for one key.

use crate::cluster::Cluster;
use crate::{ColumnFamily, Error, Remaining};
use bytes::Bytes;
use pinion_capnp::{ClientError, RawCall, RawReply, RawRequest};
use pinion_types::key::Zone;
use std::time::Duration;

impl Cluster {
    /// The value of a key; `None` when it is not there.
    pub async fn get(&self, family: ColumnFamily, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self.key_call(key, RawCall::Get { family, key: key.to_vec() }).await? {
            RawReply::Value(value) => Ok(value),
            other => Err(mismatch(&other)),
        }
    }

    /// Writes a key, for ever or for a time.
    pub async fn put(
        &self,
        family: ColumnFamily,
        key: &[u8],
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(), Error> {
        let call = RawCall::Put { family, key: key.to_vec(), value: value.to_vec(), ttl };
        self.key_call(key, call).await.map(drop)
    }

    /// Removes a key.
    pub async fn delete(&self, family: ColumnFamily, key: &[u8]) -> Result<(), Error> {
        self.key_call(key, RawCall::Delete { family, key: key.to_vec() }).await.map(drop)
    }

    /// Writes a key if its value is `expected`. Whether it did, and the value before.
    pub async fn compare_and_swap(
        &self,
        family: ColumnFamily,
        key: &[u8],
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(bool, Option<Bytes>), Error> {
        let expected = expected.map(<[u8]>::to_vec);
        let call =
            RawCall::CompareAndSwap { family, key: key.to_vec(), expected, value: value.to_vec(), ttl };
        match self.key_call(key, call).await? {
            RawReply::Swap { swapped, previous } => Ok((swapped, previous)),
            other => Err(mismatch(&other)),
        }
    }

    /// How long a key has still to live.
    pub async fn time_to_live(&self, family: ColumnFamily, key: &[u8]) -> Result<Remaining, Error> {
        match self.key_call(key, RawCall::TimeToLive { family, key: key.to_vec() }).await? {
            RawReply::TimeToLive(remaining) => Ok(remaining),
            other => Err(mismatch(&other)),
        }
    }

    /// Does any raw call, whichever regions it is for.
    pub async fn call(&self, call: RawCall) -> Result<RawReply, Error> {
        match call {
            RawCall::Batch { operations, atomicity } => {
                self.run_batch(operations, atomicity).await.map(RawReply::Results)
            }
            RawCall::Scan(scan) => self.scan(scan).await.map(RawReply::Page),
            RawCall::DeleteRange { family, start, end } => {
                self.delete_range(family, &start, &end).await.map(|()| RawReply::Done)
            }
            RawCall::Get { ref key, .. }
            | RawCall::Put { ref key, .. }
            | RawCall::Delete { ref key, .. }
            | RawCall::CompareAndSwap { ref key, .. }
            | RawCall::TimeToLive { ref key, .. } => {
                let stored = Zone::Raw.stored(key);
                self.stored_key_call(&stored, call).await
            }
        }
    }

    async fn key_call(&self, key: &[u8], call: RawCall) -> Result<RawReply, Error> {
        self.stored_key_call(&Zone::Raw.stored(key), call).await
    }

    async fn stored_key_call(&self, stored: &[u8], call: RawCall) -> Result<RawReply, Error> {
        let mut request = RawRequest::new(call);
        let mut retry = self.retry();
        loop {
            let outcome = match self.locate(stored).await {
                Ok(entry) => self.try_raw(&entry, &mut request, &retry).await,
                Err(failure) => Err(failure),
            };
            match outcome {
                Ok(reply) => return Ok(reply),
                Err(failure) => retry.after(failure).await?,
            }
        }
    }
}

/// An answer of another kind than the call's.
pub(crate) fn mismatch(reply: &RawReply) -> Error {
    Error::Failed(ClientError::Protocol(format!("an answer of another kind than the call's: {reply:?}")))
}
