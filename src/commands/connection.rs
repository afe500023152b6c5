//! What the modes that talk to a running store have in common.

use anyhow::Context as _;
use pinion_client::{Cluster, Options};
use pinion_runtime::machine;
use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

/// Runs a client's future on this thread.
pub(crate) fn block_on<T: 'static>(
    future: impl Future<Output = anyhow::Result<T>> + 'static,
) -> anyhow::Result<T> {
    machine::block_on(future).context("cannot start io_uring; is it allowed here?")?
}

/// Connects to the cluster of the store at this address. Calls take so long at most.
pub(crate) async fn connect(store: &str, timeout: Duration) -> anyhow::Result<Cluster> {
    let options = Options { call_timeout: timeout, ..Options::default() };
    Ok(Cluster::connect(&[resolve(store)?], options).await?)
}

/// The first address of a name with a port.
pub(crate) fn resolve(name: &str) -> anyhow::Result<SocketAddr> {
    let mut addresses = name.to_socket_addrs().with_context(|| format!("`{name}` is no address"))?;
    addresses.next().with_context(|| format!("`{name}` has no address"))
}
