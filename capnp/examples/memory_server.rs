//! Serves a store in memory: what a client can be tried against, and what the wire costs alone.
//!
//! `memory_server [ADDRESS [CPU]]` listens on ADDRESS (default 127.0.0.1:0), pinned to CPU if one is given, prints
//! `ready listen=ADDRESS`, and serves until it is killed.

#[path = "../tests/memory/mod.rs"]
mod memory;

use memory::Memory;
use pinion_capnp::server::{Services, serve};
use pinion_capnp::{Limits, NoLinks};
use pinion_runtime::machine::{MachineConfig, run};
use pinion_runtime::net::TcpListener;
use std::net::SocketAddr;
use std::rc::Rc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().unwrap_or_else(|| "127.0.0.1:0".into()).parse()?;
    let cpu = arguments.next().map(|cpu| cpu.parse()).transpose()?;
    let config = MachineConfig { cpus: vec![cpu], ..MachineConfig::unpinned(1) };
    let ends = run(&config, move |_| listen(address))?;
    ends.into_iter().collect::<Result<(), _>>()?;
    Ok(())
}

async fn listen(address: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("ready listen={}", listener.local_addr());
    let memory = Memory::new();
    let services = Rc::new(Services { raw: memory.clone(), admin: memory, link: NoLinks });
    let limits = Rc::new(Limits::default());
    loop {
        let stream = listener.accept().await?;
        let (services, limits) = (services.clone(), limits.clone());
        pinion_runtime::spawn(async move {
            if let Err(error) = serve(stream, services, limits).await {
                eprintln!("connection: {error}");
            }
        });
    }
}
