//! What one connection, one message and one call may take.

use std::time::Duration;

/// Limits of what a single call may ask for. A call over a limit gets an error as data; its connection goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Bytes of a key at most. Default 4 KiB. Larger keys make index blocks large and the block cache poor; smaller ones refuse callers.
    /// TiKV: `raftstore.max-key-size` beside etcd's none.
    pub key_bytes_max: usize,
    /// Bytes of a value at most. Default 8 MiB. A value is held several times on its way, so that large values cost memory and hold up
    /// the calls behind them. TiKV: `raftstore.raft-entry-max-size`; etcd: `--max-request-bytes`.
    pub value_bytes_max: usize,
    /// Operations of a batch, or keys of a list, at most. Default 16,384. Longer lists hold the core longer.
    pub operations_max: usize,
    /// Pairs of a scan's answer at most. Default 65,536. The caller goes on from the answer's key.
    pub scan_pairs_max: usize,
    /// Bytes of a scan's keys and values at most, and what a scan without a bound of its own gets. Default 1 MiB. Larger answers hold
    /// the core longer, smaller ones cost more round trips.
    pub scan_bytes_max: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            key_bytes_max: 4 << 10,
            value_bytes_max: 8 << 20,
            operations_max: 16_384,
            scan_pairs_max: 65_536,
            scan_bytes_max: 1 << 20,
        }
    }
}

/// Limits of one connection. What breaks one of them closes that connection and costs nobody else anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What a single call may ask for.
    pub request: RequestLimits,
    /// Bytes of a message at most. Default 16 MiB: a value of 8 MiB and what is around it, twice. A larger message ends the connection.
    /// gRPC: `max_receive_message_length`.
    pub message_bytes_max: usize,
    /// Calls in flight at most. Default 1,024. At the bound the connection is not read until one is answered, which holds the peer
    /// back. Smaller bounds throttle pipelining. HTTP/2: `SETTINGS_MAX_CONCURRENT_STREAMS`.
    pub calls_in_flight_max: usize,
    /// Bytes of calls in flight, as they came by wire, at most; one call is always let in. Default 32 MiB. Acts as the bound before it.
    pub bytes_in_flight_max: usize,
    /// Bytes of answers that the peer has not taken yet, at which no further call is read. Default 1 MiB; one answer more may stand.
    pub answer_bytes_max: usize,
    /// How long a connection may say nothing while no call of it is in flight. Default 10 minutes; zero is for ever. Short times cut
    /// pools of clients that keep connections for later. etcd: `--grpc-keepalive-interval`.
    pub idle_timeout: Duration,
    /// How long a peer may leave an answer unread before the connection is closed. Default 30 s. Too short cuts slow networks, too
    /// long keeps memory for the dead.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: RequestLimits::default(),
            message_bytes_max: 16 << 20,
            calls_in_flight_max: 1024,
            bytes_in_flight_max: 32 << 20,
            answer_bytes_max: 1 << 20,
            idle_timeout: Duration::from_mins(10),
            write_timeout: Duration::from_secs(30),
        }
    }
}
