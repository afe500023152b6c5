//! The network in the hands of a test.

use super::Simulation;
use super::host::Host;
use std::ops::Range;
use std::time::Duration;

impl Simulation {
    /// Lets nothing pass between two hosts, in either direction. Connections stay and what is sent waits until [`Simulation::heal`].
    pub fn partition(&self, a: &Host, b: &Host) {
        self.block(a, b);
        self.block(b, a);
    }

    /// Lets packets pass again between two hosts, in both directions.
    pub fn heal(&self, a: &Host, b: &Host) {
        self.unblock(a, b);
        self.unblock(b, a);
    }

    /// Lets packets pass again between all hosts.
    pub fn heal_all(&self) {
        self.world.unblock_all();
    }

    /// A one-way cut: what `from` sends does not get to `to`.
    pub fn block(&self, from: &Host, to: &Host) {
        self.world.set_blocked((from.node.id, to.node.id), true);
    }

    /// Takes a one-way cut back.
    pub fn unblock(&self, from: &Host, to: &Host) {
        self.world.set_blocked((from.node.id, to.node.id), false);
    }

    /// Resets every connection between two hosts, for both ends at once. What was on its way is lost.
    pub fn cut_connections(&self, a: &Host, b: &Host) {
        self.world.break_connections(a.node.id, b.node.id, true);
    }

    /// Leaves every connection between two hosts half open: `gone` has lost them and its sockets say so; `other` learns it only when
    /// it sends.
    pub fn half_open_connections(&self, gone: &Host, other: &Host) {
        self.world.break_connections(gone.node.id, other.node.id, false);
    }

    /// Lets nothing arrive any more on the connections that there are between two hosts, as a firewall does that has forgotten them: no end hears
    /// of it. New connections are whole.
    pub fn silence_connections(&self, a: &Host, b: &Host) {
        self.world.silence_connections(a.node.id, b.node.id);
    }

    /// How long packets travel from one host to another from now on.
    pub fn set_network_delay(&self, from: &Host, to: &Host, delay: Range<Duration>) {
        self.world.set_delay((from.node.id, to.node.id), delay);
    }
}
