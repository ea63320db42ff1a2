//! The overlay as a graph.

use std::collections::{BTreeMap, VecDeque};

use crate::kernel::{Dice, NodeNo, World};
use crate::measure::Spread;
use crate::subject::Subject;

/// Who is whose neighbour, among the nodes that run.
#[derive(Clone, Debug)]
pub struct Graph {
    /// For each node of the graph those it has, in ascending order, both ways.
    ways: Vec<Vec<u32>>,
    /// Neighbours that do not have the one who has them.
    asymmetric: usize,
    names: Vec<NodeNo>,
}

/// The lengths of shortest paths from some nodes to all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Paths {
    /// Nodes the paths begin at.
    pub sources: usize,
    /// Their average length.
    pub mean: f64,
    /// The average of the longest of each node.
    pub mean_longest: f64,
    /// The longest.
    pub longest: u32,
}

impl Graph {
    /// The overlay of a world as it is now.
    #[must_use]
    pub fn of<S: Subject>(world: &World<S>) -> Self {
        let all = world.running();
        let views = all.iter().map(|node| {
            (
                *node,
                world.machine(*node).map(S::neighbours).unwrap_or_default(),
            )
        });
        Self::of_views(views.collect())
    }

    fn of_views(views: BTreeMap<NodeNo, Vec<NodeNo>>) -> Self {
        let names: Vec<NodeNo> = views.keys().copied().collect();
        let mut ways = vec![Vec::new(); names.len()];
        let mut asymmetric = 0;
        for (place, (node, neighbours)) in views.iter().enumerate() {
            for neighbour in neighbours {
                let is_mutual = views
                    .get(neighbour)
                    .is_some_and(|theirs| theirs.contains(node));
                match names.binary_search(neighbour) {
                    Ok(there) if is_mutual => ways[place].push(there as u32),
                    _ => asymmetric += 1,
                }
            }
            ways[place].sort_unstable();
        }
        Self {
            ways,
            asymmetric,
            names,
        }
    }

    /// Nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ways.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ways.is_empty()
    }

    /// Neighbours that do not have the one who has them, or do not run.
    #[must_use]
    pub fn asymmetric(&self) -> usize {
        self.asymmetric
    }

    /// How many neighbours the nodes have.
    #[must_use]
    pub fn degrees(&self) -> Vec<u64> {
        self.ways.iter().map(|ways| ways.len() as u64).collect()
    }

    /// The nodes of the largest component.
    #[must_use]
    pub fn giant(&self) -> Vec<NodeNo> {
        let mut known = vec![false; self.len()];
        let mut largest = Vec::new();
        for start in 0..self.len() {
            if known[start] {
                continue;
            }
            known[start] = true;
            let mut component = vec![start as u32];
            let mut next = 0;
            while let Some(&node) = component.get(next) {
                next += 1;
                for &way in &self.ways[node as usize] {
                    if !std::mem::replace(&mut known[way as usize], true) {
                        component.push(way);
                    }
                }
            }
            if component.len() > largest.len() {
                largest = component;
            }
        }
        largest
            .iter()
            .map(|place| self.names[*place as usize])
            .collect()
    }

    /// The part of the nodes that the largest component has, in percent.
    #[must_use]
    pub fn giant_percent(&self) -> f64 {
        100.0 * self.giant().len() as f64 / self.len().max(1) as f64
    }

    /// Shortest paths from so many nodes, or from all when there are fewer.
    #[must_use]
    pub fn paths(&self, sources: usize, dice: &mut Dice) -> Paths {
        let mut starts: Vec<usize> = (0..self.len()).collect();
        if sources < starts.len() {
            dice.shuffle(&mut starts);
            starts.truncate(sources);
        }
        let (mut sum, mut count, mut longest, mut longest_sum) = (0u64, 0u64, 0, 0u64);
        for start in &starts {
            let hops = self.hops_from(*start);
            let reached = hops.iter().filter(|hops| **hops != u32::MAX);
            sum += reached.clone().map(|hops| u64::from(*hops)).sum::<u64>();
            count += reached.clone().count() as u64 - 1;
            let far = reached.max().copied().unwrap_or(0);
            longest_sum += u64::from(far);
            longest = longest.max(far);
        }
        Paths {
            sources: starts.len(),
            mean: sum as f64 / count.max(1) as f64,
            mean_longest: longest_sum as f64 / starts.len().max(1) as f64,
            longest,
        }
    }

    fn hops_from(&self, start: usize) -> Vec<u32> {
        let mut hops = vec![u32::MAX; self.len()];
        hops[start] = 0;
        let mut next = VecDeque::from([start as u32]);
        while let Some(node) = next.pop_front() {
            let further = hops[node as usize] + 1;
            for &way in &self.ways[node as usize] {
                if hops[way as usize] == u32::MAX {
                    hops[way as usize] = further;
                    next.push_back(way);
                }
            }
        }
        hops
    }

    /// The average over all nodes of the part of their pairs of neighbours that are neighbours.
    #[must_use]
    pub fn clustering(&self) -> f64 {
        let local = self.ways.iter().map(|ways| {
            let pairs = ways.len() * ways.len().saturating_sub(1) / 2;
            let known =
                |one: &u32, other: &u32| self.ways[*one as usize].binary_search(other).is_ok();
            let closed = ways.iter().enumerate().map(|(at, one)| {
                ways[at + 1..]
                    .iter()
                    .filter(|other| known(one, other))
                    .count()
            });
            closed.sum::<usize>() as f64 / pairs.max(1) as f64
        });
        local.sum::<f64>() / self.len().max(1) as f64
    }

    /// Links between nodes with a property and nodes without.
    #[must_use]
    pub fn links_across(&self, is_here: impl Fn(NodeNo) -> bool) -> usize {
        let ends = self
            .ways
            .iter()
            .enumerate()
            .filter(|(place, _)| is_here(self.names[*place]));
        ends.map(|(_, ways)| {
            ways.iter()
                .filter(|way| !is_here(self.names[**way as usize]))
                .count()
        })
        .sum()
    }

    /// In how many address books each running node is.
    #[must_use]
    pub fn passive_in_degrees<S: Subject>(world: &World<S>) -> Spread {
        let mut known: BTreeMap<NodeNo, u64> =
            world.running().into_iter().map(|node| (node, 0)).collect();
        for node in world.running() {
            for entry in world.machine(node).map(S::passive).unwrap_or_default() {
                if let Some(count) = known.get_mut(&entry) {
                    *count += 1;
                }
            }
        }
        Spread::of(known.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(views: &[(NodeNo, &[NodeNo])]) -> Graph {
        Graph::of_views(
            views
                .iter()
                .map(|(node, view)| (*node, view.to_vec()))
                .collect(),
        )
    }

    #[test]
    fn a_ring_of_ten() {
        let ring: Vec<Vec<NodeNo>> = (0..10u32)
            .map(|node| vec![(node + 1) % 10, (node + 9) % 10])
            .collect();
        let views: Vec<(NodeNo, &[NodeNo])> = (0..).zip(ring.iter().map(Vec::as_slice)).collect();
        let ring = graph(&views);
        let paths = ring.paths(100, &mut Dice::new(1));
        assert_eq!(
            (paths.sources, paths.longest, ring.asymmetric()),
            (10, 5, 0)
        );
        // 1 1 2 2 3 3 4 4 5
        assert!((paths.mean - 25.0 / 9.0).abs() < 1e-9);
        assert_eq!(ring.giant().len(), 10);
        assert!(ring.clustering() < 1e-9);
        assert_eq!(ring.links_across(|node| node < 5), 2);
    }

    #[test]
    fn a_triangle_and_a_pair() {
        let graph = graph(&[
            (1, &[2, 3]),
            (2, &[1, 3]),
            (3, &[1, 2]),
            (8, &[9]),
            (9, &[8]),
        ]);
        assert_eq!(graph.giant(), [1, 2, 3]);
        assert!((graph.clustering() - 3.0 / 5.0).abs() < 1e-9);
        assert!((graph.giant_percent() - 60.0).abs() < 1e-9);
        assert_eq!(graph.degrees(), [2, 2, 2, 1, 1]);
    }

    #[test]
    fn what_only_one_side_knows_is_no_link() {
        let graph = graph(&[(1, &[2, 7]), (2, &[])]);
        assert_eq!(graph.asymmetric(), 2);
        assert_eq!(graph.giant().len(), 1);
    }
}
