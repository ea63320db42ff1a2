// SPDX-License-Identifier: Apache-2.0

//! What a network looks like.

use std::collections::VecDeque;

use super::Net;

#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) average: f64,
    pub(crate) longest: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    pub(crate) deviation: f64,
    pub(crate) min: usize,
    pub(crate) max: usize,
}

impl Net {
    /// Steps from one node to all it reaches; `None` for the others.
    pub(crate) fn flood(&self, source: u32) -> Vec<Option<u32>> {
        let mut steps = vec![None; self.nodes.len()];
        steps[source as usize] = Some(0);
        let mut next = VecDeque::from([source]);
        while let Some(id) = next.pop_front() {
            for peer in self.node(id).active() {
                if self.reach(id, peer) && steps[peer as usize].is_none() {
                    steps[peer as usize] = steps[id as usize].map(|steps: u32| steps + 1);
                    next.push_back(peer);
                }
            }
        }
        steps
    }

    /// The part of the living that are in the largest component, in percent.
    pub(crate) fn giant(&self) -> f64 {
        let mut seen = vec![false; self.nodes.len()];
        let mut largest = 0;
        for id in self.living() {
            if seen[id as usize] {
                continue;
            }
            let reached = self.flood(id);
            let size = reached.iter().flatten().count();
            for (seen, steps) in seen.iter_mut().zip(&reached) {
                *seen |= steps.is_some();
            }
            largest = largest.max(size);
        }
        100.0 * largest as f64 / self.living().count() as f64
    }

    /// The part of the living that hear a broadcast, over that many sources, in percent.
    pub(crate) fn reliability(&self, sources: usize) -> f64 {
        let living: Vec<u32> = self.living().collect();
        let step = (living.len() / sources).max(1);
        let chosen: Vec<u32> = living.iter().copied().step_by(step).collect();
        let heard = |id: &u32| self.flood(*id).iter().flatten().count();
        let total: usize = chosen.iter().map(heard).sum();
        100.0 * total as f64 / (chosen.len() * living.len()) as f64
    }

    pub(crate) fn paths(&self, sources: usize) -> Paths {
        let living: Vec<u32> = self.living().collect();
        let step = (living.len() / sources).max(1);
        let (mut sum, mut count, mut longest) = (0_u64, 0_u64, 0);
        for source in living.iter().step_by(step) {
            for steps in self.flood(*source).into_iter().flatten() {
                sum += u64::from(steps);
                count += u64::from(steps > 0);
                longest = longest.max(steps);
            }
        }
        Paths {
            average: sum as f64 / count as f64,
            longest,
        }
    }

    /// How many of a node's pairs of neighbours are neighbours, on average.
    pub(crate) fn clustering(&self) -> f64 {
        let of = |id: u32| {
            let peers: Vec<u32> = self.node(id).active().collect();
            let pairs = peers.len() * peers.len().saturating_sub(1);
            let linked = |a: &u32| {
                peers
                    .iter()
                    .filter(|b| self.node(*a).is_active(**b))
                    .count()
            };
            if pairs == 0 {
                0.0
            } else {
                peers.iter().map(linked).sum::<usize>() as f64 / pairs as f64
            }
        };
        self.living().map(of).sum::<f64>() / self.living().count() as f64
    }

    /// The part of the living with all neighbours they should have, in percent.
    pub(crate) fn full(&self) -> f64 {
        let full = |id: &u32| self.node(*id).active().count() == self.node(*id).target();
        100.0 * self.living().filter(full).count() as f64 / self.living().count() as f64
    }

    pub(crate) fn asymmetric(&self) -> usize {
        let of = |id: u32| {
            let peers = self.node(id).active();
            peers
                .filter(|peer| !self.reach(id, *peer) || !self.node(*peer).is_active(id))
                .count()
        };
        self.living().map(of).sum()
    }

    /// In how many address books nodes are.
    pub(crate) fn passive_in_degree(&self) -> Spread {
        let mut degree = vec![0_usize; self.nodes.len()];
        for id in self.living() {
            self.node(id)
                .passive()
                .for_each(|peer| degree[peer as usize] += 1);
        }
        let living: Vec<usize> = self.living().map(|id| degree[id as usize]).collect();
        let size = living.len() as f64;
        let mean = living.iter().sum::<usize>() as f64 / size;
        let square = |degree: &usize| (*degree as f64 - mean).powi(2);
        Spread {
            mean,
            deviation: (living.iter().map(square).sum::<f64>() / size).sqrt(),
            min: living.iter().copied().min().unwrap_or(0),
            max: living.iter().copied().max().unwrap_or(0),
        }
    }

    /// Links between nodes of different sides, which are given.
    pub(crate) fn cross_links(&self, side: &[u8]) -> usize {
        let of = |id: u32| {
            let mine = side[id as usize];
            let peers = self.node(id).active();
            peers.filter(|peer| side[*peer as usize] != mine).count()
        };
        self.living().map(of).sum::<usize>() / 2
    }
}
