//! A page found by a query.

use std::cmp::Ordering;

use tantivy::DocAddress;

/// A page found by a query.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PageHit {
    /// MaxSim: the sum over query tokens of the best dot product with a page token.
    pub score: f32,
    /// Where the document stands in the searcher.
    pub address: DocAddress,
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
