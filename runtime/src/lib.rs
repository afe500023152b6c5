//! One door to the machine, two machines behind it: glommio and the deterministic simulator.
