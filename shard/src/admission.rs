//! Admission: calls and bytes under way on a core are bounded. Over a bound the answer is `serverBusy`, never a growing queue.

use std::cell::Cell;
use std::rc::Rc;

/// The bounds of a core.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// Calls under way.
    pub calls_max: usize,
    /// Bytes of the calls under way.
    pub bytes_max: usize,
}

/// Counts a core's calls under way.
#[derive(Debug)]
pub struct Admission {
    limits: AdmissionLimits,
    calls: Cell<usize>,
    bytes: Cell<usize>,
}

/// A call that was let in; it counts until this is dropped.
#[derive(Debug)]
pub struct Admitted {
    admission: Rc<Admission>,
    bytes: usize,
}

impl Admission {
    /// No calls yet.
    pub fn new(limits: AdmissionLimits) -> Rc<Self> {
        Rc::new(Self { limits, calls: Cell::new(0), bytes: Cell::new(0) })
    }

    /// Lets a call of `bytes` in, or says that the core is busy.
    pub fn admit(self: &Rc<Self>, bytes: usize) -> Option<Admitted> {
        let (calls, total) = (self.calls.get() + 1, self.bytes.get() + bytes);
        if calls > self.limits.calls_max || total > self.limits.bytes_max {
            return None;
        }
        self.calls.set(calls);
        self.bytes.set(total);
        Some(Admitted { admission: self.clone(), bytes })
    }

    /// Calls under way.
    pub fn calls(&self) -> usize {
        self.calls.get()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.calls.set(self.admission.calls.get() - 1);
        self.admission.bytes.set(self.admission.bytes.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_and_are_given_back() {
        let admission = Admission::new(AdmissionLimits { calls_max: 2, bytes_max: 100 });
        let first = admission.admit(60).unwrap();
        assert!(admission.admit(41).is_none());
        let second = admission.admit(40).unwrap();
        assert!(admission.admit(0).is_none());
        drop((first, second));
        assert_eq!(admission.calls(), 0);
        assert!(admission.admit(100).is_some());
    }
}
