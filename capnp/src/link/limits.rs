//! What the sending end of a link may take, and how long it waits.

use std::time::Duration;

/// Limits of the sending end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkLimits {
    /// Bytes of a batch of messages at most; one message always fits. Default 1 MiB. Larger batches hold up what comes behind them, smaller
    /// ones cost more calls. TiKV: `raft-msg-max-batch-size`.
    pub batch_bytes_max: usize,
    /// Messages of a batch at most. Default 1,024; more than 16,384 the receiver refuses. Acts as the bound before it.
    pub batch_messages_max: usize,
    /// Bytes of a message at most; a larger one is dropped. Default 15 MiB. Over the receiver's [`crate::Limits::message_bytes_max`] a message
    /// ends the connection; under the largest entry, that entry never gets to a follower. etcd: `--max-request-bytes`.
    pub message_bytes_max: usize,
    /// Bytes of large messages that wait to be sent, at most. Default 16 MiB. What comes beyond is dropped, and consensus sends it again:
    /// a small bound drops what a short pause of the network gathers, a large one takes memory for each store that is slow.
    /// TiKV: `raft-client-queue-size`.
    pub queue_bytes_max: usize,
    /// Bytes of urgent messages that wait, and likewise of those under way, at most. Default 1 MiB: some 3,000 messages. With too few,
    /// heartbeats of a core with many regions are dropped, and leaders lose their followers.
    pub urgent_bytes_max: usize,
    /// Bytes of large messages under way at which no further ones are sent. Default 4 MiB; one batch more may go. Too few leave the network idle
    /// while answers travel, too many hold up urgent messages on a slow network. TCP: the congestion window.
    pub bytes_in_flight_max: usize,
    /// How long the other end may leave the oldest batch unanswered before the connection counts as dead, and that
    /// of the calls with it; and how long the latter may be idle and still be used. Default 3 s. Too short cuts stores that pause, too long leaves messages in a void. gRPC: `keepalive_timeout`.
    pub silence_max: Duration,
    /// How long opening a connection may take, hello included. Default 2 s. Too short never reaches a store that is far, too long keeps
    /// messages waiting for one that is gone.
    pub connect_timeout: Duration,
    /// How long a call of a snapshot, or for ids, may take. Default 30 s. Too short gives up while the other end verifies a large snapshot,
    /// too long keeps the sender's slot for a store that is gone.
    pub call_timeout: Duration,
    /// The first pause after a failure; each further failure doubles it. A pause lasts between half of this and the whole, by chance. Default
    /// 50 ms. Shorter ones burden a store that is starting, longer ones make a short trouble a long one.
    pub backoff_min: Duration,
    /// The longest pause. Default 2 s. Longer ones keep a store that came back out of its groups.
    pub backoff_max: Duration,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            batch_bytes_max: 1 << 20,
            batch_messages_max: 1024,
            message_bytes_max: 15 << 20,
            queue_bytes_max: 16 << 20,
            urgent_bytes_max: 1 << 20,
            bytes_in_flight_max: 4 << 20,
            silence_max: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(30),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
        }
    }
}
