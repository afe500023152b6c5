//! A core's storage: the log, the trees, their caches.
