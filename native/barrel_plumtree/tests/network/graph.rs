// SPDX-License-Identifier: Apache-2.0

//! Random graphs.

use std::collections::BTreeSet;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

type Edge = (usize, usize);

pub fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for n in (1..items.len()).rev() {
        items.swap(n, rng.random_range(0..=n));
    }
}

/// Pairs the free ends that are given, none with itself and no two twice. Returns new
/// edges and the ends that remain.
pub fn pair(
    mut free: Vec<usize>,
    mut edges: BTreeSet<Edge>,
    rng: &mut ChaCha8Rng,
) -> (Vec<Edge>, Vec<usize>) {
    let mut new = Vec::new();
    // What cannot be paired in one order may be in another. A few suffice.
    for _ in 0..20 {
        shuffle(&mut free, rng);
        let mut rest = Vec::new();
        for two in free.chunks(2) {
            match *two {
                [a, b] if a != b && edges.insert((a.min(b), a.max(b))) => {
                    new.push((a.min(b), a.max(b)));
                }
                _ => rest.extend_from_slice(two),
            }
        }
        free = rest;
    }
    (new, free)
}

/// All edges of a graph in which each of `size` nodes has `degree` neighbours.
pub fn regular(size: usize, degree: usize, rng: &mut ChaCha8Rng) -> Vec<Edge> {
    assert!(degree < size && (size * degree).is_multiple_of(2));
    let free = (0..size).flat_map(|n| [n].repeat(degree)).collect();
    let (mut edges, mut free) = pair(free, BTreeSet::new(), rng);
    // Two ends that remain cut an edge in two and take its ends.
    while let [.., a, b] = free[..] {
        let at = rng.random_range(0..edges.len());
        let (c, d) = edges[at];
        let has = |x: usize, y: usize| x == y || edges.contains(&(x.min(y), x.max(y)));
        if !has(a, c) && !has(b, d) {
            edges[at] = (a.min(c), a.max(c));
            edges.push((b.min(d), b.max(d)));
            free.truncate(free.len() - 2);
        }
    }
    edges
}
