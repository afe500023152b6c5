//! Hash maps whose order depends on nothing but what was put in: the simulator must replay a run byte for byte.

use foldhash::fast::FixedState;

/// A hash map with a fixed hash state. For keys that an adversary chooses, use an ordered map instead.
pub type HashMap<K, V> = hashbrown::HashMap<K, V, FixedState>;

/// A hash set with a fixed hash state.
pub type HashSet<K> = hashbrown::HashSet<K, FixedState>;
