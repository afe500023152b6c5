//! Connections: one to each address, made when it is first wanted.

use crate::watch::Watch;
use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, Shared};
use pinion_capnp::{Client as Connection, ClientError, StoreInfo, WireError};
use pinion_runtime::{now, spawn};
use pinion_types::StoreId;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How long connecting may take.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(1);

type Connecting = Shared<LocalBoxFuture<'static, Result<Connection, ClientError>>>;

/// The connections.
#[derive(Default)]
pub(crate) struct Pool(RefCell<BTreeMap<SocketAddr, Slot>>);

enum Slot {
    Ready(Connection),
    /// Whoever wants the connection waits for the same attempt.
    Connecting(Connecting),
}

/// Whom a connection must lead to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whom {
    pub(crate) cluster: u64,
    pub(crate) store: StoreId,
}

impl Pool {
    /// A connection to the store at an address that can be used now.
    pub(crate) async fn get(
        &self,
        address: SocketAddr,
        whom: Whom,
        watch: &Watch,
    ) -> Result<Connection, ClientError> {
        let connecting = {
            let mut slots = self.0.borrow_mut();
            match slots.get(&address) {
                Some(Slot::Ready(connection)) if !connection.is_closed() => return Ok(connection.clone()),
                Some(Slot::Connecting(connecting)) => connecting.clone(),
                _ => {
                    let attempt = spawn(connect_to(address, whom, watch.clone()));
                    let connecting = attempt.boxed_local().shared();
                    slots.insert(address, Slot::Connecting(connecting.clone()));
                    connecting
                }
            }
        };
        let connected = connecting.await;
        let mut slots = self.0.borrow_mut();
        // The first of those who waited puts it in its place.
        if let Some(Slot::Connecting(there)) = slots.get(&address)
            && there.peek().is_some()
        {
            match &connected {
                Ok(connection) => slots.insert(address, Slot::Ready(connection.clone())),
                Err(_) => slots.remove(&address),
            };
        }
        connected
    }

    /// Takes over a connection that was made already.
    pub(crate) fn put(&self, address: SocketAddr, connection: Connection) {
        self.0.borrow_mut().insert(address, Slot::Ready(connection));
    }

    /// Lets go of a connection on which no answer came: the next call makes a new one.
    pub(crate) fn forget(&self, address: SocketAddr) {
        let mut slots = self.0.borrow_mut();
        if matches!(slots.get(&address), Some(Slot::Ready(_))) {
            slots.remove(&address);
        }
    }
}

/// Connects, and asks who is there.
pub(crate) async fn connect(
    address: SocketAddr,
    timeout: Duration,
    watch: &Watch,
) -> Result<(Connection, StoreInfo), ClientError> {
    let connecting = async {
        let connection = Connection::connect(address).await?;
        let info = connection.info().await?;
        Ok((connection, info))
    };
    let late = || Err(ClientError::Io(format!("no answer within {timeout:?}")));
    watch.until(now() + timeout, connecting).await.unwrap_or_else(late)
}

/// Connects to a store, and to no other one that may listen there by now.
async fn connect_to(address: SocketAddr, whom: Whom, watch: Watch) -> Result<Connection, ClientError> {
    let (connection, info) = connect(address, CONNECT_MAX, &watch).await?;
    if info.cluster != whom.cluster {
        let (requested, actual) = (whom.cluster, info.cluster);
        return Err(WireError::ClusterNotMatch { requested, actual }.into());
    }
    if info.store != whom.store {
        return Err(WireError::StoreNotMatch { requested: whom.store, actual: info.store }.into());
    }
    Ok(connection)
}
