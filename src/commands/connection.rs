//! What the modes that talk to a running store have in common.

use crate::cli::raw::ConnectArguments;
use anyhow::Context as _;
use pinion_capnp::Client;
use pinion_runtime::{machine, sleep};
use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Runs a client's future on this thread.
pub(crate) fn block_on<T: 'static>(
    future: impl Future<Output = anyhow::Result<T>> + 'static,
) -> anyhow::Result<T> {
    machine::block_on(future).context("cannot start io_uring; is it allowed here?")?
}

/// Connects to the store that the arguments name. Calls wait as long as the arguments say.
pub(crate) async fn connect(arguments: &ConnectArguments) -> anyhow::Result<Client> {
    let address = resolve(&arguments.connect)?;
    let client = within(arguments.timeout, Client::connect(address))
        .await
        .and_then(|client| Ok(client?))
        .with_context(|| format!("cannot reach a store at {address}"))?;
    Ok(client.with_timeout(arguments.timeout))
}

/// The first address of a name with a port.
pub(crate) fn resolve(name: &str) -> anyhow::Result<SocketAddr> {
    let mut addresses = name.to_socket_addrs().with_context(|| format!("`{name}` is no address"))?;
    addresses.next().with_context(|| format!("`{name}` has no address"))
}

async fn within<T>(timeout: Duration, future: impl Future<Output = T>) -> anyhow::Result<T> {
    let mut future = pin!(future);
    let mut timer = pin!(sleep(timeout));
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Ok(value)),
        Poll::Pending => {
            timer.as_mut().poll(context).map(|()| Err(anyhow::anyhow!("no answer within {timeout:?}")))
        }
    })
    .await
}
