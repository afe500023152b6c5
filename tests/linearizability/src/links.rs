//! Rings of numbered nodes from which a node can be taken, and put back where it was, at the cost of four assignments.

/// Doubly linked rings over the nodes from 0.
#[derive(Debug)]
pub(crate) struct Links {
    next: Vec<usize>,
    previous: Vec<usize>,
}

impl Links {
    /// Every node is a ring of its own.
    pub(crate) fn new(nodes: usize) -> Self {
        Self { next: (0..nodes).collect(), previous: (0..nodes).collect() }
    }

    /// Puts a node that is alone at the end of the ring that begins with `head`.
    pub(crate) fn push_back(&mut self, head: usize, node: usize) {
        assert_eq!(self.next[node], node, "a node is in one ring");
        self.next[node] = head;
        self.previous[node] = self.previous[head];
        self.restore(node);
    }

    pub(crate) fn next(&self, node: usize) -> usize {
        self.next[node]
    }

    /// Takes a node out. It remembers its neighbours.
    pub(crate) fn remove(&mut self, node: usize) {
        self.next[self.previous[node]] = self.next[node];
        self.previous[self.next[node]] = self.previous[node];
    }

    /// Puts back the node that was removed last and is not yet back: only then its neighbours are still neighbours.
    pub(crate) fn restore(&mut self, node: usize) {
        self.next[self.previous[node]] = node;
        self.previous[self.next[node]] = node;
    }
}
