//! The checker against histories whose verdict is known: written by hand, judged by trying all orders, or made by a store that is
//! atomic by construction.

mod brute_force;
mod generated;
mod generator;
mod known;
mod load;
