//! Rankings against pages of different gain: the metrics of [`crate::metrics`] where relevance is not yes or no.

use std::collections::{BTreeMap, HashSet};

use crate::data::PageId;

/// A ranking with the gain of its pages.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Graded {
    /// Rank from 1 and gain of the pages that have one, by rank.
    found: Vec<(usize, f64)>,
    /// All gains, highest first.
    best: Vec<f64>,
}

impl Graded {
    /// Judges a ranking, best page first; a page that is named twice counts where it stands first.
    pub fn new(ranking: &[PageId], gains: &[(PageId, f64)]) -> Self {
        let gains: BTreeMap<&PageId, f64> = gains.iter().map(|(page, gain)| (page, *gain)).collect();
        let mut seen = HashSet::new();
        let distinct = ranking.iter().filter(|page| seen.insert(*page)).zip(1..);
        let found = distinct.filter_map(|(page, rank)| gains.get(page).map(|gain| (rank, *gain))).collect();
        let mut best: Vec<f64> = gains.into_values().collect();
        best.sort_unstable_by(|one, other| other.total_cmp(one));
        Self { found, best }
    }

    /// Normalised discounted cumulative gain of the first `k` pages (Järvelin & Kekäläinen, TOIS 2002, linear gains).
    pub fn ndcg(&self, k: usize) -> f64 {
        let discount = |rank: usize| 1.0 / (rank as f64 + 1.0).log2();
        let best: f64 = self.best.iter().take(k).zip(1..).map(|(gain, rank)| gain * discount(rank)).sum();
        let found: f64 = self.first(k).map(|(rank, gain)| gain * discount(rank)).sum();
        if best > 0.0 { found / best } else { 0.0 }
    }

    /// 1 over the rank of the first page with a gain.
    pub fn reciprocal_rank(&self) -> f64 {
        self.found.first().map_or(0.0, |(rank, _)| 1.0 / *rank as f64)
    }

    /// Share of the gains that stands among the first `k`.
    pub fn recall(&self, k: usize) -> f64 {
        let all: f64 = self.best.iter().sum();
        if all > 0.0 { self.first(k).map(|(_, gain)| gain).sum::<f64>() / all } else { 0.0 }
    }

    fn first(&self, k: usize) -> impl Iterator<Item = (usize, f64)> {
        self.found.iter().copied().take_while(move |(rank, _)| *rank <= k)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::Judged;

    fn pages(numbers: &[u32]) -> Vec<PageId> {
        numbers.iter().map(|page| PageId::new("a.pdf", *page)).collect()
    }

    proptest! {
        #[test]
        fn equal_gains_are_yes_or_no(
            ranking in prop::collection::vec(1u32..15, 0..20),
            relevant in prop::collection::btree_set(1u32..15, 1..6),
            k in 1usize..12,
        ) {
            let (ranking, relevant) = (pages(&ranking), pages(&relevant.into_iter().collect::<Vec<_>>()));
            let binary = Judged::new(&ranking, &relevant).unwrap();
            let gains: Vec<_> = relevant.into_iter().map(|page| (page, 0.7)).collect();
            let graded = Graded::new(&ranking, &gains);
            prop_assert!((graded.ndcg(k) - binary.ndcg(k)).abs() < 1e-12);
            prop_assert!((graded.recall(k) - binary.recall(k)).abs() < 1e-12);
            prop_assert_eq!(graded.reciprocal_rank(), binary.reciprocal_rank());
        }
    }

    #[test]
    fn higher_gains_belong_first() {
        let gains: Vec<_> = pages(&[1, 2]).into_iter().zip([1.0, 0.5]).collect();
        let ndcg = |ranking: &[u32]| Graded::new(&pages(ranking), &gains).ndcg(10);
        assert!(ndcg(&[1, 2]) == 1.0 && ndcg(&[2, 1]) < 1.0 && ndcg(&[2, 1]) > ndcg(&[3, 2, 1]));
    }
}
