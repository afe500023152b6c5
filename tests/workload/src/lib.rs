//! Writers and readers that know what a store must answer, whatever happens to it.
//!
//! The same session is played against real servers that are killed and against simulated stores that lose power:
//! - [`model`]: what may be in the store, key by key;
//! - [`session`]: writers, readers, and the look at everything after a restart;
//! - [`store`] and [`connection`]: who answers, and what may be concluded from an answer;
//! - [`value`]: values that say which write made them;
//! - [`course`]: what the rows of the course are about that are clients and trouble at random.

pub mod connection;
pub mod course;
pub mod model;
pub mod random;
pub mod session;
pub mod store;
pub mod value;

pub use connection::Connection;
pub use model::Model;
pub use random::Random;
pub use session::Session;
