//! Connections that misbehave cost nobody else anything.

use super::process::{Server, scratch};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long a connection that is in the wrong may stay open.
const END_MAX: Duration = Duration::from_secs(10);

/// Whether the server ended the connection, after whatever it said.
fn is_ended(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(END_MAX)).unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn garbage_ends_its_own_connection_only() {
    let home = scratch();
    let server = Server::start(&home.path().join("store"), &[]);
    let mut patient = TcpStream::connect(&server.address).unwrap();
    // Half a header, and no more.
    patient.write_all(&[0, 0, 0]).unwrap();
    let garbage: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
        &[0xff; 64],
        // A message of 3 GiB.
        &[0, 0, 0, 0, 0, 0, 0, 0x18],
        // 2^30 segments.
        &[0, 0, 0, 0x40, 1, 0, 0, 0],
        // A message that is no RPC message: a pointer beyond its end.
        &[0, 0, 0, 0, 1, 0, 0, 0, 0xfc, 0xff, 0xff, 0x7f, 0xff, 0xff, 0, 0],
    ];
    for bytes in garbage {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(bytes).unwrap();
        assert!(is_ended(&mut stream), "{bytes:?}");
        assert!(server.raw(&["put", "k", "v"]).status.success());
    }
    let before = server.resident_kib();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(&[0xff; 4096]).unwrap();
    }
    assert!(server.raw(&["get", "k"]).status.success());
    assert!(server.resident_kib() < before + (16 << 10), "{before} KiB before");
}
