//! Hybrid ranking: lists of hits that were found in different ways, by words and by vectors say, fused into one.

use std::collections::{HashMap, HashSet};

use tantivy::{DocAddress, Score};

/// The constant of reciprocal rank fusion that its authors found to be good on all of their collections.
const RECIPROCAL_RANK_CONSTANT: u32 = 60;

/// Hits, best first, and what they weigh in a fusion.
#[derive(Clone, PartialEq, Debug)]
pub struct HitList {
    hits: Vec<(Score, DocAddress)>,
    weight: f32,
}

impl HitList {
    /// The hits of a collector such as `TopDocs`, of a late-interaction query or of a rescorer, best first, with weight 1.
    /// A document that stands there twice counts where it comes first.
    pub fn new<H: Into<(Score, DocAddress)>>(hits: impl IntoIterator<Item = H>) -> Self {
        let mut seen = HashSet::new();
        let hits = hits.into_iter().map(Into::into).filter(|(_, address)| seen.insert(*address)).collect();
        Self { hits, weight: 1.0 }
    }

    /// Sets how much the list counts, beside the weights of the others; a finite number.
    pub fn weight(mut self, weight: f32) -> Self {
        self.weight = weight;
        self
    }
}

/// How lists of hits become one.
///
/// ```
/// use colqwen_index_field::{Fusion, HitList, Normalization};
/// use tantivy::DocAddress;
///
/// let at = |doc| DocAddress::new(0, doc);
/// let by_words = HitList::new([(12.5, at(7)), (11.0, at(1))]);
/// let by_vectors = HitList::new([(16.2, at(3)), (15.9, at(7))]).weight(2.0);
/// let hits = Fusion::default().fuse(&[by_words, by_vectors], 10);
/// assert_eq!(hits.iter().map(|(_, address)| address.doc_id).collect::<Vec<_>>(), [7, 3, 1]);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fusion {
    /// Each list adds `weight / (constant + rank)` to its documents, ranks from 1 (Cormack, Clarke & Buettcher, Reciprocal
    /// Rank Fusion outperforms Condorcet and individual Rank Learning Methods, SIGIR 2009). Scores are not looked at, so it
    /// needs no tuning. The default, with constant 60.
    ReciprocalRank {
        /// The higher, the less the first ranks stand out.
        constant: u32,
    },
    /// Each list adds `weight * score` to its documents, scores brought to a common scale. Keeps what ranks throw away, how
    /// far hits lie apart, and is worth it where weights are tuned (Bruch, Gai & Ingber, An Analysis of Fusion Functions for
    /// Hybrid Retrieval, TOIS 2023).
    WeightedSum(Normalization),
}

/// How a weighted sum brings the scores of different lists to a common scale.
///
/// A score that is not finite counts as the highest or lowest finite one of its list, NaN as the lowest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Normalization {
    /// From 0 for the lowest score of a list to 1 for the highest; 1 for all where they are equal. A document that a list
    /// lacks counts as its lowest.
    #[default]
    MinMax,
    /// In standard deviations of the list's scores above the lowest; 1 for all where they are equal. One outlier stretches
    /// it less than [`MinMax`](Self::MinMax). These are z-scores, only counted from the lowest score instead of the mean:
    /// that moves all documents alike, and one that a list lacks counts as its lowest.
    ZScore,
    /// Scores as they are, for lists of one scale. A document that a list lacks gets nothing from it: give every list a
    /// score for every document, by rescoring, where that would be unfair.
    Raw,
}

impl Default for Fusion {
    fn default() -> Self {
        Self::ReciprocalRank { constant: RECIPROCAL_RANK_CONSTANT }
    }
}

impl Fusion {
    /// The `k` best of the fused hits, best first; equal scores by ascending address.
    pub fn fuse(&self, lists: &[HitList], k: usize) -> Vec<(Score, DocAddress)> {
        let mut fused: HashMap<DocAddress, Score> = HashMap::new();
        for list in lists {
            for (score, (_, address)) in self.parts(list).zip(&list.hits) {
                *fused.entry(*address).or_default() += score;
            }
        }
        let mut ranked: Vec<(Score, DocAddress)> = fused.into_iter().map(|(address, score)| (score, address)).collect();
        ranked.sort_unstable_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        ranked.truncate(k);
        ranked
    }

    /// What a list adds to each of its hits.
    fn parts(&self, list: &HitList) -> Box<dyn Iterator<Item = Score> + '_> {
        let weight = list.weight;
        match *self {
            Self::ReciprocalRank { constant } => {
                Box::new((1..=list.hits.len()).map(move |rank| weight / (constant as f32 + rank as f32)))
            }
            Self::WeightedSum(normalization) => {
                let scores = normalization.scores(&list.hits);
                Box::new(scores.into_iter().map(move |score| weight * score))
            }
        }
    }
}

impl Normalization {
    fn scores(self, hits: &[(Score, DocAddress)]) -> Vec<Score> {
        let finite = || hits.iter().map(|(score, _)| f64::from(*score)).filter(|score| score.is_finite());
        let (lowest, highest) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        if lowest > highest {
            // No score is finite: they say nothing.
            return vec![0.0; hits.len()];
        }
        let bounded: Vec<f64> = hits.iter().map(|(score, _)| f64::from(*score).max(lowest).min(highest)).collect();
        let (from, unit) = match self {
            Self::Raw => (0.0, 1.0),
            Self::MinMax => (lowest, highest - lowest),
            Self::ZScore => (lowest, standard_deviation(&bounded)),
        };
        let scaled = |score: &f64| if unit > 0.0 { (score - from) / unit } else { 1.0 };
        bounded.iter().map(|score| scaled(score) as f32).collect()
    }
}

fn standard_deviation(scores: &[f64]) -> f64 {
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / scores.len() as f64;
    let middle = mean(&mut scores.iter().copied());
    mean(&mut scores.iter().map(|score| (score - middle).powi(2))).sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(doc: u32) -> DocAddress {
        DocAddress::new(doc % 3, doc)
    }

    fn list(hits: &[(Score, u32)]) -> HitList {
        HitList::new(hits.iter().map(|(score, doc)| (*score, at(*doc))))
    }

    fn fused(fusion: Fusion, lists: &[HitList]) -> Vec<(Score, u32)> {
        fusion.fuse(lists, 100).into_iter().map(|(score, address)| (score, address.doc_id)).collect()
    }

    fn docs(fusion: Fusion, lists: &[HitList]) -> Vec<u32> {
        fused(fusion, lists).into_iter().map(|(_, doc)| doc).collect()
    }

    #[test]
    fn ranks_are_what_the_paper_adds_up() {
        let (late, words) = (list(&[(9.0, 1), (8.0, 2)]), list(&[(3.0, 2), (1.0, 3)]));
        let hits = fused(Fusion::default(), &[late.clone(), words.clone()]);
        assert_eq!(hits, [(1.0 / 62.0 + 1.0 / 61.0, 2), (1.0 / 61.0, 1), (1.0 / 62.0, 3)]);
        // Weights and the constant.
        let hits = fused(Fusion::ReciprocalRank { constant: 0 }, &[late.clone(), words.weight(4.0)]);
        assert_eq!(hits, [(4.5, 2), (2.0, 3), (1.0, 1)]);
        assert_eq!(Fusion::default().fuse(&[late], 1), [(1.0 / 61.0, at(1))]);
    }

    #[test]
    fn a_weighted_sum_brings_scores_to_one_scale_first() {
        let (late, words) = (list(&[(16.0, 1), (15.0, 2), (12.0, 3)]), list(&[(2.0, 4), (1.0, 3), (0.0, 2)]));
        let sum =
            |normalization, late: &HitList| fused(Fusion::WeightedSum(normalization), &[late.clone(), words.clone()]);
        assert_eq!(sum(Normalization::MinMax, &late), [(1.0, 1), (1.0, 4), (0.75, 2), (0.5, 3)]);
        assert_eq!(sum(Normalization::MinMax, &late.clone().weight(2.0)), [(2.0, 1), (1.5, 2), (1.0, 4), (0.5, 3)]);
        assert_eq!(sum(Normalization::Raw, &late), [(16.0, 1), (15.0, 2), (13.0, 3), (2.0, 4)]);
        let deviations = sum(Normalization::ZScore, &late);
        // Late scores deviate by 1.7 from their mean, word scores by 0.816.
        let expected = [(4.0 / 1.6997, 1), (2.0 / 0.8165, 4), (3.0 / 1.6997, 2), (1.0 / 0.8165, 3)];
        assert_eq!(deviations.len(), expected.len());
        for (score, doc) in deviations {
            let (expected, _) = expected.iter().find(|(_, other)| *other == doc).unwrap();
            assert!((score - expected).abs() < 1e-3, "{doc}: {score} instead of {expected}");
        }
    }

    #[test]
    fn equal_scores_still_say_that_a_page_was_found() {
        let (one, other) = (list(&[(3.0, 5)]), list(&[(7.0, 1), (6.0, 2), (5.0, 5)]));
        for normalization in [Normalization::MinMax, Normalization::ZScore] {
            let hits = fused(Fusion::WeightedSum(normalization), &[one.clone().weight(10.0), other.clone()]);
            assert_eq!(hits[0], (10.0, 5), "{normalization:?}");
        }
    }

    #[test]
    fn scores_that_are_no_numbers_count_as_the_ends_of_their_list() {
        let odd = list(&[(f32::INFINITY, 1), (4.0, 2), (3.0, 3), (2.0, 4), (f32::NEG_INFINITY, 5), (f32::NAN, 6)]);
        let none = list(&[(f32::NAN, 1), (f32::INFINITY, 2)]);
        for normalization in [Normalization::MinMax, Normalization::ZScore, Normalization::Raw] {
            let fusion = Fusion::WeightedSum(normalization);
            let hits = fused(fusion, std::slice::from_ref(&odd));
            assert!(hits.iter().all(|(score, _)| score.is_finite()), "{normalization:?}: {hits:?}");
            let score = |doc| hits.iter().find(|(_, other)| *other == doc).unwrap().0;
            assert!(score(1) == score(2) && score(2) > score(3) && score(3) > score(4), "{normalization:?}");
            assert!(score(4) == score(5) && score(5) == score(6), "{normalization:?}");
            assert!(fused(fusion, std::slice::from_ref(&none)).iter().all(|(score, _)| *score == 0.0));
        }
    }

    #[test]
    fn nothing_gives_nothing() {
        for fusion in [Fusion::default(), Fusion::WeightedSum(Normalization::ZScore)] {
            assert_eq!(fusion.fuse(&[], 10), []);
            assert_eq!(fusion.fuse(&[list(&[]), list(&[(1.0, 1)])], 0), []);
            assert_eq!(docs(fusion, &[list(&[]), list(&[(1.0, 1)])]), [1]);
        }
    }

    fn some_list() -> impl Strategy<Value = HitList> {
        let hit = (-50.0f32..50.0, 0u32..40);
        proptest::collection::vec(hit, 0..30).prop_map(|mut hits| {
            hits.sort_by(|one, other| other.0.total_cmp(&one.0));
            list(&hits)
        })
    }

    proptest! {
        #[test]
        fn reciprocal_ranks_agree_with_their_definition(lists in proptest::collection::vec(some_list(), 0..4)) {
            let hits = fused(Fusion::default(), &lists);
            let score = |doc: u32| -> f32 {
                let rank = |list: &HitList| list.hits.iter().position(|(_, address)| *address == at(doc));
                lists.iter().filter_map(rank).map(|rank| 1.0 / (61.0 + rank as f32)).sum()
            };
            let mut expected: Vec<(Score, u32)> = (0..40).map(|doc| (score(doc), doc)).filter(|hit| hit.0 > 0.0).collect();
            expected.sort_by(|one, other| other.0.total_cmp(&one.0).then(at(one.1).cmp(&at(other.1))));
            prop_assert_eq!(hits, expected);
        }

        #[test]
        fn normalised_sums_do_not_depend_on_scale_or_place(
            lists in proptest::collection::vec(some_list(), 1..4),
            scale in 0.1f32..10.0,
            shift in -20.0f32..20.0,
        ) {
            for normalization in [Normalization::MinMax, Normalization::ZScore] {
                let moved: Vec<HitList> = lists
                    .iter()
                    .map(|list| HitList::new(list.hits.iter().map(|(score, address)| (score * scale + shift, *address))))
                    .collect();
                let fusion = Fusion::WeightedSum(normalization);
                let (before, after) = (fusion.fuse(&lists, 100), fusion.fuse(&moved, 100));
                let before: HashMap<DocAddress, Score> = before.into_iter().map(|(score, doc)| (doc, score)).collect();
                prop_assert_eq!(before.len(), after.len());
                for (score, address) in after {
                    prop_assert!((score - before[&address]).abs() < 1e-2, "{} and {}", score, before[&address]);
                }
            }
        }
    }
}
