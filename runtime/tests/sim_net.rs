//! The simulated network: TCP as a stream, and each way in which it fails.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use pinion_runtime::net::{TcpListener, TcpStream};
use pinion_runtime::sim::{self, Config, Host, Simulation};
use pinion_runtime::{now, sleep, spawn};
use pinion_types::CoreId;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::time::Duration;

const PORT: u16 = 20160;

/// A server that sends back what it gets.
async fn echo(address: std::net::SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    loop {
        let stream = listener.accept().await.unwrap();
        spawn(async move {
            let (mut reader, mut writer) = stream.split();
            let _ = futures_util::io::copy(&mut reader, &mut writer).await;
            let _ = writer.close().await;
        });
    }
}

fn start_echo(host: &Host) {
    host.spawn_core(CoreId(0), echo(host.address(PORT)));
}

/// A world with an echo server; the driver is the client.
fn with_echo<T: Send>(seed: u64, body: impl FnOnce(&Simulation, &Host) -> T + Send) -> T {
    sim::run(Config::new(seed), |simulation| {
        let host = simulation.add_host("server");
        start_echo(&host);
        simulation.run_for(Duration::from_millis(1));
        body(simulation, &host)
    })
}

async fn call(stream: &mut TcpStream, byte: u8) -> io::Result<u8> {
    stream.write_all(&[byte]).await?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await?;
    Ok(answer[0])
}

/// What `future` gave within a second of virtual time.
async fn soon<T>(future: impl Future<Output = T>) -> Option<T> {
    let (future, timeout) = (std::pin::pin!(future), std::pin::pin!(sleep(Duration::from_secs(1))));
    match futures_util::future::select(future, timeout).await {
        futures_util::future::Either::Left((value, _)) => Some(value),
        futures_util::future::Either::Right(_) => None,
    }
}

#[test]
fn a_stream_carries_its_bytes_in_order_and_in_chunks_of_any_size() {
    let chunks: BTreeSet<usize> = (0..5)
        .flat_map(|seed| {
            with_echo(seed, |simulation, host| {
                simulation.block_on(async {
                    let stream = TcpStream::connect(host.address(PORT)).await.unwrap();
                    assert_eq!(stream.peer_addr().unwrap(), host.address(PORT));
                    let sent: Vec<u8> = (0..300_000_u32).map(|number| number.to_le_bytes()[1]).collect();
                    let (mut reader, mut writer) = stream.split();
                    let writing = async {
                        writer.write_all(&sent).await.unwrap();
                        writer.close().await.unwrap();
                    };
                    let reading = async {
                        let (mut received, mut chunks) = (Vec::new(), BTreeSet::new());
                        let mut buffer = [0; 4096];
                        loop {
                            let count = reader.read(&mut buffer).await.unwrap();
                            if count == 0 {
                                return (received, chunks);
                            }
                            chunks.insert(count);
                            received.extend_from_slice(&buffer[..count]);
                        }
                    };
                    let ((), (received, chunks)) = futures_util::future::join(writing, reading).await;
                    assert!(received == sent);
                    chunks
                })
            })
        })
        .collect();
    assert!(chunks.len() > 20, "{chunks:?}");
}

#[test]
fn who_does_not_read_stops_the_writer() {
    sim::run(Config::new(1), |simulation| {
        let host = simulation.add_host("server");
        let address = host.address(PORT);
        host.spawn_core(CoreId(0), async move {
            let listener = TcpListener::bind(address).unwrap();
            let _deaf = listener.accept().await.unwrap();
            std::future::pending::<()>().await;
        });
        simulation.run_for(Duration::from_millis(1));
        let written = Rc::new(Cell::new(0));
        simulation.block_on(async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let endless = async {
                loop {
                    written.set(written.get() + stream.write(&[0; 1000]).await.unwrap());
                }
            };
            assert!(soon::<()>(endless).await.is_none());
        });
        assert_eq!(written.get(), Config::new(1).socket_buffer_bytes);
    });
}

#[test]
fn nobody_listening_refuses_and_no_power_times_out() {
    with_echo(1, |simulation, host| {
        simulation.block_on(async {
            let kind = |result: io::Result<TcpStream>| result.err().map(|error| error.kind());
            let refused = Some(io::ErrorKind::ConnectionRefused);
            assert_eq!(kind(TcpStream::connect(host.address(1)).await), refused);
            host.refuse_connections(true);
            assert_eq!(kind(TcpStream::connect(host.address(PORT)).await), refused);
            host.refuse_connections(false);
            assert_eq!(kind(TcpStream::connect(host.address(PORT)).await), None);
            host.kill();
            assert_eq!(kind(TcpStream::connect(host.address(PORT)).await), refused);
            host.start();
            host.crash();
            let begun = now();
            assert_eq!(kind(TcpStream::connect(host.address(PORT)).await), Some(io::ErrorKind::TimedOut));
            assert!(begun.elapsed() >= Duration::from_secs(10));
            let nowhere = "192.168.0.1:1".parse().unwrap();
            assert_eq!(kind(TcpStream::connect(nowhere).await), Some(io::ErrorKind::HostUnreachable));
        });
    });
}

#[test]
fn a_port_has_one_listener() {
    sim::run(Config::new(1), |simulation| {
        simulation.block_on(async {
            let first = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let again = TcpListener::bind(first.local_addr());
            assert_eq!(again.err().unwrap().kind(), io::ErrorKind::AddrInUse);
            let address = first.local_addr();
            drop(first);
            TcpListener::bind(address).unwrap();
            let elsewhere = TcpListener::bind("10.0.0.99:1".parse().unwrap());
            assert_eq!(elsewhere.err().unwrap().kind(), io::ErrorKind::AddrNotAvailable);
        });
    });
}

#[test]
fn a_partition_holds_packets_back_until_it_heals() {
    with_echo(2, |simulation, host| {
        simulation.block_on(async {
            let mut stream = TcpStream::connect(host.address(PORT)).await.unwrap();
            assert_eq!(call(&mut stream, 1).await.unwrap(), 1);
            simulation.partition(simulation.driver(), host);
            stream.write_all(&[2]).await.unwrap();
            let mut answer = [0];
            assert!(soon(stream.read_exact(&mut answer)).await.is_none());
            assert!(soon(TcpStream::connect(host.address(PORT))).await.is_none());
            simulation.heal(simulation.driver(), host);
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, [2]);
            TcpStream::connect(host.address(PORT)).await.unwrap();
        });
    });
}

#[test]
fn a_one_way_cut_lets_the_other_way_pass() {
    sim::run(Config::new(3), |simulation| {
        let host = simulation.add_host("server");
        let heard = Rc::new(Cell::new(0));
        let address = host.address(PORT);
        host.spawn_core(CoreId(0), {
            let heard = heard.clone();
            async move {
                let mut stream = TcpListener::bind(address).unwrap().accept().await.unwrap();
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() {
                    heard.set(heard.get() + 1);
                    stream.write_all(&byte).await.unwrap();
                }
            }
        });
        simulation.run_for(Duration::from_millis(1));
        simulation.block_on(async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            simulation.block(&host, simulation.driver());
            assert!(soon(call(&mut stream, 1)).await.is_none());
            assert_eq!(heard.get(), 1);
            simulation.unblock(&host, simulation.driver());
            simulation.block(simulation.driver(), &host);
            let mut answer = [0];
            stream.read_exact(&mut answer).await.unwrap();
            assert!(soon(call(&mut stream, 2)).await.is_none());
            assert_eq!(heard.get(), 1);
            simulation.heal_all();
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, [2]);
        });
    });
}

#[test]
fn a_cut_resets_both_ends() {
    with_echo(4, |simulation, host| {
        simulation.block_on(async {
            let mut stream = TcpStream::connect(host.address(PORT)).await.unwrap();
            call(&mut stream, 1).await.unwrap();
            simulation.cut_connections(simulation.driver(), host);
            let error = call(&mut stream, 2).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            let mut again = TcpStream::connect(host.address(PORT)).await.unwrap();
            call(&mut again, 3).await.unwrap();
        });
    });
}

#[test]
fn a_half_open_connection_is_found_out_by_sending() {
    with_echo(5, |simulation, host| {
        simulation.block_on(async {
            let mut stream = TcpStream::connect(host.address(PORT)).await.unwrap();
            call(&mut stream, 1).await.unwrap();
            simulation.half_open_connections(host, simulation.driver());
            let mut answer = [0];
            assert!(soon(stream.read(&mut answer)).await.is_none(), "it looks alive to a reader");
            stream.write_all(&[2]).await.unwrap();
            let error = stream.read(&mut answer).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        });
    });
}

#[test]
fn a_silent_connection_is_not_found_out_by_either_end() {
    with_echo(5, |simulation, host| {
        simulation.block_on(async {
            let mut stream = TcpStream::connect(host.address(PORT)).await.unwrap();
            call(&mut stream, 1).await.unwrap();
            simulation.silence_connections(simulation.driver(), host);
            assert!(soon(call(&mut stream, 2)).await.is_none());
            simulation.heal_all();
            assert!(soon(stream.read(&mut [0])).await.is_none(), "it stays silent");
            let mut again = TcpStream::connect(host.address(PORT)).await.unwrap();
            assert_eq!(soon(call(&mut again, 3)).await.unwrap().unwrap(), 3);
        });
    });
}

#[test]
fn a_power_cut_is_silent_until_the_host_is_back() {
    with_echo(6, |simulation, host| {
        simulation.block_on(async {
            let mut stream = TcpStream::connect(host.address(PORT)).await.unwrap();
            call(&mut stream, 1).await.unwrap();
            host.crash();
            assert!(soon(call(&mut stream, 2)).await.is_none());
            host.start();
            let error = soon(stream.read(&mut [0])).await.expect("the new life answers").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        });
    });
}

#[test]
fn a_killed_process_closes_its_connections() {
    with_echo(7, |simulation, host| {
        simulation.block_on(async {
            let mut stream = TcpStream::connect(host.address(PORT)).await.unwrap();
            call(&mut stream, 1).await.unwrap();
            host.kill();
            assert_eq!(soon(stream.read(&mut [0])).await.unwrap().unwrap(), 0);
            host.start();
            start_echo(host);
            sleep(Duration::from_millis(1)).await;
            call(&mut TcpStream::connect(host.address(PORT)).await.unwrap(), 2).await.unwrap();
        });
    });
}

#[test]
fn cores_of_a_host_have_the_loopback_address() {
    sim::run(Config::new(8), |simulation| {
        let host = simulation.add_host("a");
        host.spawn_core(CoreId(0), echo("127.0.0.1:7".parse().unwrap()));
        simulation.run_for(Duration::from_millis(1));
        let answer = host.spawn_core(CoreId(1), async {
            let mut stream = TcpStream::connect("127.0.0.1:7".parse().unwrap()).await.unwrap();
            call(&mut stream, 9).await.unwrap()
        });
        assert_eq!(simulation.block_on(answer), Some(9));
        simulation.block_on(async {
            assert!(TcpStream::connect(host.address(7)).await.is_err(), "others do not reach it");
        });
    });
}

#[test]
fn a_slow_link_is_slow() {
    with_echo(9, |simulation, host| {
        let slow = Duration::from_millis(100)..Duration::from_millis(101);
        simulation.set_network_delay(simulation.driver(), host, slow);
        simulation.block_on(async {
            let mut stream = TcpStream::connect(host.address(PORT)).await.unwrap();
            let begun = now();
            call(&mut stream, 1).await.unwrap();
            assert!(begun.elapsed() >= Duration::from_millis(100));
        });
    });
}
