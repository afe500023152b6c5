//! A region's stamp: the leader's time in milliseconds since the Unix epoch, which never goes back.
//!
//! It is the one use of wall-clock time, for expiry alone. A proposal carries it; applying the entry raises the region's stamp to it;
//! whoever leads next starts from there. A read judges expiry by the later of the region's stamp and the clock, and raises the stamp, so
//! that what was gone for one reader is gone for every later one on this leader. Expiry that a read saw before a change of leader
//! can be seen again only while the new leader's clock is behind.

use std::cell::Cell;

/// The stamp of one region.
#[derive(Debug, Default)]
pub struct Stamp(Cell<u64>);

impl Stamp {
    /// A stamp that begins at `milliseconds`.
    pub fn new(milliseconds: u64) -> Self {
        Self(Cell::new(milliseconds))
    }

    /// The stamp, not moved.
    pub fn get(&self) -> u64 {
        self.0.get()
    }

    /// Raises the stamp to `milliseconds`, if that is later; gives the stamp.
    pub fn raise(&self, milliseconds: u64) -> u64 {
        let stamp = self.0.get().max(milliseconds);
        self.0.set(stamp);
        stamp
    }

    /// Raises the stamp to the wall clock, if that is later; gives the stamp.
    pub fn tick(&self) -> u64 {
        self.raise(u64::try_from(pinion_runtime::wall_clock().as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_never_goes_back() {
        let stamp = Stamp::new(10);
        assert_eq!(stamp.raise(5), 10);
        assert_eq!(stamp.raise(11), 11);
        assert!(stamp.tick() > 11);
    }
}
