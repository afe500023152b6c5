//! Clusters: several stores, each on a host of its own, and what may happen to them.
//!
//! - [`campaign`]: one seed, from the first store to the verdict;
//! - `course`: rows of the course, each a campaign of less; `stories`: those that go step by step; `members`: those about members,
//!   `snapshots`: about what members are sent, `slow_disks`: about stores that are slower than what they are sent, `tombstones`: about
//!   those that were removed, `links`: about links that are half whole, `reads`: about reads that are late, `catch_up`: about members that
//!   are behind, `stops`: about stores that are stopped;
//! - `growth` and `split_check`: clusters that get stores, and data;
//! - `stores`: the cluster itself, its starts and restarts;
//! - `trouble`: what befalls stores, links and clocks; `disks`: what befalls disks; `administrator`: what is asked of the regions meanwhile;
//! - `clients`: who reads and writes, and remembers what came back; `route`: how a client finds a region's leader;
//! - `observer`: what must hold at every moment; `convergence`: what must hold soon after all trouble has ended;
//! - `coverage`: whether everything that is to be shown has happened at all.

mod administrator;
pub(crate) mod campaign;
mod catch_up;
mod clients;
mod convergence;
mod course;
mod coverage;
mod disks;
mod growth;
mod links;
mod members;
mod observer;
mod reads;
mod route;
mod slow_disks;
mod snapshots;
mod split_check;
mod splits;
mod stops;
mod stores;
mod stories;
mod tombstones;
mod trouble;
