//! A stream of writes from this end.

use super::connection::{Pending, Reply};
use super::{CALL_WORDS, ClientError, Handle, mismatch};
use crate::Operations;
use crate::convert::list_length;
use crate::convert::method::Method;
use crate::convert::request::write_pairs;
use crate::generated::raw_capnp::bulk_loader;
use pinion_types::ColumnFamily;
use std::collections::VecDeque;
use std::rc::Rc;

/// Bytes of chunks that may be on their way: enough to keep a server's disk busy.
const WINDOW_BYTES: usize = 4 << 20;

/// A stream of writes to one store. Dropping it leaves what was written.
pub struct BulkLoad {
    handle: Rc<Handle>,
    loader: u32,
    family: ColumnFamily,
    window: VecDeque<(usize, Pending)>,
    window_bytes: usize,
}

impl BulkLoad {
    pub(super) fn new(handle: Rc<Handle>, loader: u32, family: ColumnFamily) -> Self {
        Self { handle, loader, family, window: VecDeque::new(), window_bytes: 0 }
    }

    /// Sends a chunk of puts, which are all written to the stream's family with its time to live; waits while too much is on its way.
    /// An error may be an earlier chunk's.
    ///
    /// # Panics
    /// When an operation is of another family: the stream has one.
    pub async fn put(&mut self, chunk: &Operations) -> Result<(), ClientError> {
        assert!(
            chunk.iter().all(|operation| operation.family == self.family),
            "every pair of a stream is of its family"
        );
        let bytes = chunk.size_bytes() + chunk.len() * 32;
        while self.window_bytes > 0 && self.window_bytes + bytes > WINDOW_BYTES {
            self.take_one().await?;
        }
        let words = CALL_WORDS + bytes / 8;
        let pending = self.handle.0.call(self.loader, Method::LoaderPut, words, |params| {
            let params: bulk_loader::put_params::Builder<'_> = params.init_as();
            write_pairs(params.init_pairs(list_length(chunk.len())), chunk);
        })?;
        self.window_bytes += bytes;
        self.window.push_back((bytes, pending));
        Ok(())
    }

    /// Waits until everything is written. How many pairs there were.
    pub async fn done(mut self) -> Result<u64, ClientError> {
        let pending = self.handle.0.call(self.loader, Method::LoaderDone, CALL_WORDS, |_| {})?;
        // What chunks failed with, the server says again, as data.
        while self.window_bytes > 0 {
            let _ = self.take_one().await;
        }
        match pending.await? {
            Reply::Load(pairs) => Ok(pairs?),
            other => Err(mismatch(&other)),
        }
    }

    async fn take_one(&mut self) -> Result<(), ClientError> {
        let Some((bytes, pending)) = self.window.pop_front() else { return Ok(()) };
        self.window_bytes -= bytes;
        pending.await.map(drop)
    }
}

impl Drop for BulkLoad {
    fn drop(&mut self) {
        self.handle.0.release(self.loader);
    }
}
