//! What a user may set.

use std::time::Duration;

/// Settings of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a call may take, with all its tries. Default 10 s. Too short: calls fail while a region elects a leader, which takes a second
    /// or two. Too long: a caller waits long for a cluster that is gone. etcd: the context's deadline.
    pub call_timeout: Duration,
    /// How long an administrator's call may take: changes of members wait until a new peer has the data. Default 10 minutes.
    pub admin_timeout: Duration,
    /// Calls in flight at most; the next one waits. Default 4096. Smaller bounds throttle, larger ones take memory.
    pub calls_max: usize,
    /// The name of a [`Client`](crate::Client)'s thread. Default `pinion-client`.
    pub name: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_secs(10),
            admin_timeout: Duration::from_mins(10),
            calls_max: 4096,
            name: "pinion-client".to_owned(),
        }
    }
}
