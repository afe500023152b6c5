//! Random numbers: from the operating system on glommio, from the run's seed in the simulator.

/// 64 random bits.
pub fn random_u64() -> u64 {
    match crate::sim::current() {
        Some(here) => here.random_u64(),
        None => crate::glommio_machine::random::random_u64(),
    }
}
