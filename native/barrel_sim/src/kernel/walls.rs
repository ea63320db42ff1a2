//! Who cannot send to whom.

use std::collections::BTreeSet;

use super::machine::NodeNo;

/// Nodes live in groups; between some groups, one way or both, nothing passes. Frozen nodes
/// neither send nor hear.
#[derive(Clone, Debug, Default)]
pub(crate) struct Walls {
    /// Nodes beyond the end are in group 0.
    group: Vec<u8>,
    cut: BTreeSet<(u8, u8)>,
    frozen: BTreeSet<NodeNo>,
}

impl Walls {
    pub(crate) fn assign(&mut self, nodes: &[NodeNo], group: u8) {
        for &node in nodes {
            let node = node as usize;
            if self.group.len() <= node {
                self.group.resize(node + 1, 0);
            }
            self.group[node] = group;
        }
    }

    pub(crate) fn cut(&mut self, from: u8, to: u8) {
        self.cut.insert((from, to));
    }

    pub(crate) fn open_all(&mut self) {
        self.cut.clear();
        self.group.clear();
    }

    pub(crate) fn freeze(&mut self, node: NodeNo) {
        self.frozen.insert(node);
    }

    pub(crate) fn thaw(&mut self, node: NodeNo) {
        self.frozen.remove(&node);
    }

    pub(crate) fn is_frozen(&self, node: NodeNo) -> bool {
        self.frozen.contains(&node)
    }

    /// Nothing passes this way.
    pub(crate) fn block(&self, from: NodeNo, to: NodeNo) -> bool {
        if !self.frozen.is_empty() && (self.is_frozen(from) || self.is_frozen(to)) {
            return true;
        }
        !self.cut.is_empty() && self.cut.contains(&(self.group_of(from), self.group_of(to)))
    }

    fn group_of(&self, node: NodeNo) -> u8 {
        self.group.get(node as usize).copied().unwrap_or(0)
    }
}
