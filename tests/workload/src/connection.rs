//! A connection to a real server.

use crate::store::{Answer, Store, conclude};
use anyhow::{Context, Result};
use pinion_capnp::client::{Client, ClientError};
use pinion_capnp::{RawCall, RawRequest};
use std::future::Future;
use std::time::Duration;

/// A call without an answer after this long is left open. Nothing here takes as long, so that it shows a server that hangs.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// One connection.
pub struct Connection(Client);

impl Connection {
    /// Connects to `address`, as in `127.0.0.1:20160`.
    pub async fn connect(address: &str) -> Result<Self> {
        let address = address.parse().with_context(|| format!("not an address: {address}"))?;
        Ok(Self(Client::connect(address).await?.with_timeout(ANSWER_MAX)))
    }
}

impl Store for Connection {
    fn call(&self, call: RawCall) -> impl Future<Output = Answer> {
        let client = self.0.clone();
        async move {
            match client.call(&RawRequest::new(call)).await {
                Ok(reply) => conclude(Ok(reply)),
                Err(ClientError::Refused(error)) => conclude(Err(error)),
                Err(error) => Answer::Unknown(error.to_string()),
            }
        }
    }
}
