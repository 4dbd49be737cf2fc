//! A page found by a query, and the best of many.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use tantivy::{DocAddress, Score};

/// A page found by a query.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PageHit {
    /// MaxSim: the sum over query tokens of the best dot product with a page token.
    pub score: f32,
    /// Where the document stands in the searcher.
    pub address: DocAddress,
}

impl From<PageHit> for (Score, DocAddress) {
    fn from(hit: PageHit) -> Self {
        (hit.score, hit.address)
    }
}

impl Eq for PageHit {}

impl Ord for PageHit {
    /// The better hit is the greater: higher score, then lower address.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.address.cmp(&self.address))
    }
}

impl PartialOrd for PageHit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The `k` best hits so far, `k` at least 1.
pub(super) struct BestHits {
    k: usize,
    /// The worst on top.
    heap: BinaryHeap<Reverse<PageHit>>,
}

impl BestHits {
    pub fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    pub fn push(&mut self, hit: PageHit) {
        if self.heap.len() < self.k {
            self.heap.push(Reverse(hit));
        } else if self.heap.peek().is_some_and(|Reverse(worst)| *worst < hit) {
            self.heap.pop();
            self.heap.push(Reverse(hit));
        }
    }

    /// The best of both.
    pub fn merged(mut self, mut other: Self) -> Self {
        if self.heap.len() < other.heap.len() {
            std::mem::swap(&mut self, &mut other);
        }
        other.heap.into_iter().for_each(|Reverse(hit)| self.push(hit));
        self
    }

    /// What a page has to exceed to be among them: with fewer than `k` hits anything is.
    pub fn limit(&self) -> f32 {
        let full = self.heap.len() >= self.k;
        self.heap.peek().filter(|_| full).map_or(f32::NEG_INFINITY, |Reverse(worst)| worst.score)
    }

    /// Best first; equal scores by ascending address.
    pub fn into_sorted(self) -> Vec<PageHit> {
        let mut hits: Vec<PageHit> = self.heap.into_iter().map(|Reverse(hit)| hit).collect();
        hits.sort_unstable_by(|one, other| other.cmp(one));
        hits
    }
}
