//! Writes a key and reads it back, from a plain thread: `cargo run -p pinion-client --example greeting -- 127.0.0.1:20160`.
//!
//! From an async function of any executor it is the same without `blocking()`, and with `.await`.

use pinion_client::{Client, ColumnFamily, Options, Scan};
use std::error::Error;
use std::net::SocketAddr;

fn main() -> Result<(), Box<dyn Error>> {
    let stores: Vec<SocketAddr> =
        std::env::args().skip(1).map(|address| address.parse()).collect::<Result<_, _>>()?;
    let client = Client::connect_blocking(&stores, Options::default())?;
    match client.blocking().put(ColumnFamily::Default, b"greeting", b"hello", None) {
        Err(error) if error.is_undetermined() => println!("whoever must know reads the key: {error}"),
        written => written?,
    }
    let value = client.blocking().get(ColumnFamily::Default, b"greeting")?;
    println!("{:?}", value.as_deref().map(String::from_utf8_lossy));
    let page = client.blocking().scan(Scan { limit: 10, ..Scan::default() })?;
    println!("{:?}", page.pairs);
    Ok(())
}
