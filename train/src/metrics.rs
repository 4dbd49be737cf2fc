//! How well pages are ranked for queries whose pages are known, with confidence intervals.
//!
//! Relevance is yes or no. `nDCG@k` is the sum of `1 / log2(rank + 1)` over the relevant pages among the first `k`, divided
//! by the most it could be (Järvelin & Kekäläinen, TOIS 2002); `MRR` is 1 over the rank of the first relevant page, 0
//! where none was found; `recall@k` is the share of the relevant pages among the first `k`.

use std::collections::HashSet;

use serde::Serialize;

use crate::Error;
use crate::data::PageId;
use crate::random::{Purpose, Stream};

/// Resamplings behind an interval.
const RESAMPLINGS: usize = 1000;

/// Where the relevant pages of one query stand in its ranking.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judged {
    /// Ranks of the relevant pages that were found, from 1, ascending.
    ranks: Vec<usize>,
    /// Relevant pages, found or not.
    relevant: usize,
}

impl Judged {
    /// Judges a ranking, best page first.
    ///
    /// # Errors
    /// No page is relevant.
    pub fn new<'a>(
        ranking: impl IntoIterator<Item = &'a PageId>,
        relevant: impl IntoIterator<Item = &'a PageId>,
    ) -> Result<Self, Error> {
        let relevant: HashSet<&PageId> = relevant.into_iter().collect();
        if relevant.is_empty() {
            return Err(Error::shape("relevant pages of a query", "at least one", 0));
        }
        let mut seen = HashSet::new();
        // A page that is named twice counts where it stands first.
        let hits = ranking.into_iter().filter(|page| seen.insert(*page)).zip(1..);
        let ranks = hits.filter(|(page, _)| relevant.contains(page)).map(|(_, rank)| rank).collect();
        Ok(Self { ranks, relevant: relevant.len() })
    }

    /// Normalised discounted cumulative gain of the first `k` pages, 0 to 1.
    pub fn ndcg(&self, k: usize) -> f64 {
        let gain = |rank: usize| 1.0 / (rank as f64 + 1.0).log2();
        let best: f64 = (1..=self.relevant.min(k)).map(gain).sum();
        let found: f64 = self.ranks.iter().take_while(|rank| **rank <= k).map(|rank| gain(*rank)).sum();
        if best > 0.0 { found / best } else { 0.0 }
    }

    /// 1 over the rank of the first relevant page.
    pub fn reciprocal_rank(&self) -> f64 {
        self.ranks.first().map_or(0.0, |rank| 1.0 / *rank as f64)
    }

    /// Share of the relevant pages among the first `k`.
    pub fn recall(&self, k: usize) -> f64 {
        self.ranks.iter().filter(|rank| **rank <= k).count() as f64 / self.relevant as f64
    }
}

/// A mean over queries, with the interval that holds it in 95 of 100 resamplings of the queries (percentile bootstrap,
/// Efron 1979).
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// All metrics of an evaluation.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Metrics {
    /// Queries judged.
    pub queries: usize,
    /// nDCG of the first 5 pages.
    pub ndcg_5: Mean,
    /// nDCG of the first 10 pages.
    pub ndcg_10: Mean,
    /// Mean reciprocal rank.
    pub mrr: Mean,
    /// Recall of the first page.
    pub recall_1: Mean,
    /// Recall of the first 5 pages.
    pub recall_5: Mean,
    /// Recall of the first 10 pages.
    pub recall_10: Mean,
}

impl Metrics {
    /// Means over all queries. The intervals depend on the seed alone.
    ///
    /// # Errors
    /// There are no queries.
    pub fn of(judged: &[Judged], seed: u64) -> Result<Self, Error> {
        if judged.is_empty() {
            return Err(Error::shape("judged queries", "at least one", 0));
        }
        let mean = |of: &dyn Fn(&Judged) -> f64| interval(&judged.iter().map(of).collect::<Vec<_>>(), seed);
        Ok(Self {
            queries: judged.len(),
            ndcg_5: mean(&|one| one.ndcg(5)),
            ndcg_10: mean(&|one| one.ndcg(10)),
            mrr: mean(&Judged::reciprocal_rank),
            recall_1: mean(&|one| one.recall(1)),
            recall_5: mean(&|one| one.recall(5)),
            recall_10: mean(&|one| one.recall(10)),
        })
    }
}

fn interval(values: &[f64], seed: u64) -> Mean {
    let count = values.len();
    let resampled = |round: usize| {
        let mut stream = Stream::new(seed, Purpose::Bootstrap, &[round as u64]);
        (0..count).map(|_| values[stream.below(count)]).sum::<f64>() / count as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLINGS).map(resampled).collect();
    means.sort_unstable_by(f64::total_cmp);
    let mean = values.iter().sum::<f64>() / count as f64;
    Mean { mean, low: means[RESAMPLINGS * 25 / 1000], high: means[RESAMPLINGS * 975 / 1000] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(ranking: &[u32], relevant: &[u32]) -> Judged {
        let pages = |numbers: &[u32]| numbers.iter().map(|page| PageId::new("a.pdf", *page)).collect::<Vec<_>>();
        Judged::new(&pages(ranking), &pages(relevant)).unwrap()
    }

    #[test]
    fn metrics_are_those_of_their_definitions() {
        let one = judged(&[7, 3, 9, 4], &[3, 4, 5]);
        assert_eq!((one.reciprocal_rank(), one.recall(1), one.recall(2)), (0.5, 0.0, 1.0 / 3.0));
        // Gains at ranks 2 and 4 against 1, 2 and 3.
        let expected = (1.0 / 3f64.log2() + 1.0 / 5f64.log2()) / (1.0 + 1.0 / 3f64.log2() + 0.5);
        assert!((one.ndcg(5) - expected).abs() < 1e-12);
        assert!((one.ndcg(2) - (1.0 / 3f64.log2()) / (1.0 + 1.0 / 3f64.log2())).abs() < 1e-12);
        let none = judged(&[1, 2], &[3]);
        assert_eq!((none.ndcg(5), none.reciprocal_rank(), none.recall(10)), (0.0, 0.0, 0.0));
        let perfect = judged(&[2, 1, 2, 9], &[1, 2, 2]);
        assert_eq!((perfect.ndcg(5), perfect.recall(5)), (1.0, 1.0));
        assert!(Judged::new(&[PageId::new("a", 1)], &[]).is_err());
    }

    #[test]
    fn intervals_hold_the_mean_and_narrow_with_more_queries() {
        let some = |count: usize| (0..count).map(|at| judged(&[1, 2], &[1 + (at % 2) as u32])).collect::<Vec<_>>();
        let (few, many) = (Metrics::of(&some(10), 1).unwrap(), Metrics::of(&some(1000), 1).unwrap());
        assert!((few.mrr.mean - 0.75).abs() < 1e-12 && few.mrr.low < 0.75 && few.mrr.high > 0.75);
        assert!(many.mrr.high - many.mrr.low < 0.25 * (few.mrr.high - few.mrr.low));
        assert_eq!(few, Metrics::of(&some(10), 1).unwrap());
        // With values of 0.5 and 1 the standard error of 1000 queries is 0.0079.
        assert!((many.mrr.high - many.mrr.low - 2.0 * 1.96 * 0.0079).abs() < 0.006, "{:?}", many.mrr);
        assert!(Metrics::of(&[], 1).is_err());
    }
}
