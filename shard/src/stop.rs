//! Stopping a core, so that no caller notices: other stores take over what it leads, calls under way are answered, and those that come now
//! learn that they must go elsewhere, and that nothing was done for them.

use crate::core::Shard;
use crate::error::ShardError;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// How long calls under way are waited for. Some may wait for a quorum that there is not.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// How long calls are still answered after that, which were on their way already: a caller whose connection is cut cannot know what became of
/// its write.
const LINGER: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Counts calls under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnderWay(Rc<Cell<usize>>);

/// A call under way, until this is dropped.
#[derive(Debug)]
pub(crate) struct Entered(Rc<Cell<usize>>);

impl UnderWay {
    pub(crate) fn enter(&self) -> Entered {
        self.0.set(self.0.get() + 1);
        Entered(self.0.clone())
    }

    pub(crate) fn calls(&self) -> usize {
        self.0.get()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Shard {
    /// Stops this core: other stores take over what it leads, no more calls are taken, those under way are answered, and what was appended to
    /// the log is made durable. Takes five seconds at most, if nobody takes over and calls wait for a quorum, and the log's close.
    pub async fn stop(&self) -> Result<(), ShardError> {
        self.0.ending.set(true);
        self.hand_over_all().await;
        self.drain().await;
        self.0.stopping.set(true);
        Ok(self.0.engine.close().await?)
    }

    /// Waits until the core takes no more calls, nor connections. One task may wait for it.
    pub async fn until_draining(&self) {
        self.0.drains.wait().await;
    }

    /// Takes no more calls, and waits until those under way are answered.
    async fn drain(&self) {
        self.0.draining.set(true);
        self.0.drains.ring();
        let begun = pinion_runtime::now();
        let under_way = || self.0.admission.calls() + self.0.calls_of_others.calls();
        while under_way() > 0 && begun.elapsed() < DRAIN_MAX && !self.has_failed() {
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
        pinion_runtime::sleep(LINGER).await;
    }
}
