//! Evidence as training data.

use serde::Serialize;

use super::counts::{Pair, RANKS};
use super::{Evidence, Judgement};
use crate::clicks::propensity::Propensities;
use crate::clicks::query::Salt;
use crate::clicks::visits::Visits;
use crate::data::{NegativePage, PositivePage, Question};

/// The origin of negatives that were skipped.
pub const SKIPPED: &str = "skipped";

/// No query counts for more than this many average ones, as propensities are clipped.
const MOST: f64 = 4.0;

/// What a click is worth.
#[derive(Clone, Copy, Debug)]
pub enum Weighting<'a> {
    /// One vote at every rank.
    Naive,
    /// The inverse of the probability that its rank is examined (Joachims et al., WSDM 2017).
    InversePropensity(&'a Propensities),
}

/// What a query's questions were made from, without its text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct QueryCounts {
    /// Its name: a salted hash, the `query_id` of its question.
    pub query: String,
    /// Sessions that asked it.
    pub sessions: usize,
    /// Votes for pages.
    pub votes: u64,
    /// Positives kept.
    pub positives: usize,
    /// Negatives kept.
    pub negatives: usize,
}

/// Training data.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Examples {
    /// Queries with at least one positive, in order of their normalised text. Against each other the positives of a query weigh
    /// as their votes do; on average they weigh what the query counts ([`Question::weight`]). That is what a vote for its answers
    /// is worth by the weighting, against the mean of all queries: 1 where every vote is worth the same.
    pub questions: Vec<Question>,
    /// What each was made from.
    pub counts: Vec<QueryCounts>,
}

impl Evidence {
    /// Makes training data: one question per query, named by its salted hash.
    pub fn examples(&self, visits: &Visits, salt: &Salt, weighting: Weighting<'_>) -> Examples {
        let (mut examples, mut worths) = (Examples::default(), Vec::new());
        let judged: Vec<(&Judgement, &Pair)> = self.judgements.iter().zip(&self.pairs).collect();
        for own in judged.chunk_by(|one, other| one.0.query == other.0.query) {
            let query = &visits.queries()[own[0].0.query];
            let (positives, worth) = self.positives(own, visits, weighting);
            if positives.is_empty() {
                continue;
            }
            worths.push(worth);
            let negatives = self.negatives(own, visits);
            let name = salt.name(&query.normalised);
            examples.counts.push(QueryCounts {
                query: name.clone(),
                sessions: query.sessions,
                votes: own.iter().map(|(judgement, _)| judgement.positive).sum(),
                positives: positives.len(),
                negatives: negatives.len(),
            });
            let (query_id, query) = (name, query.text.clone());
            examples.questions.push(Question { query_id, query, positives, negatives, group: None });
        }
        // Over all queries together: within one, what a vote is worth tells nothing where there is one answer.
        let mean = worths.iter().sum::<f64>() / worths.len().max(1) as f64;
        for (question, worth) in examples.questions.iter_mut().zip(&worths) {
            let counts = (worth / mean).min(MOST);
            question.positives.iter_mut().for_each(|positive| positive.weight *= counts as f32);
        }
        examples
    }

    /// The positives of a query, which weigh 1 on average, and what a vote for them is worth on average.
    fn positives(
        &self,
        own: &[(&Judgement, &Pair)],
        visits: &Visits,
        weighting: Weighting<'_>,
    ) -> (Vec<PositivePage>, f64) {
        let mut kept: Vec<_> = own.iter().filter(|(judgement, _)| self.is_answer(judgement)).collect();
        kept.sort_by(|one, other| {
            let by_page = || visits.pages()[one.0.page].cmp(&visits.pages()[other.0.page]);
            other.0.posterior.total_cmp(&one.0.posterior).then_with(by_page)
        });
        kept.truncate(self.options.positives_per_query);
        let weights: Vec<f64> =
            kept.iter().map(|(judgement, pair)| judgement.posterior * votes(pair, weighting)).collect();
        let (sum, naive) = (
            weights.iter().sum::<f64>(),
            kept.iter().map(|(judgement, pair)| judgement.posterior * votes(pair, Weighting::Naive)).sum::<f64>(),
        );
        let mean = sum / weights.len().max(1) as f64;
        let positive = |((judgement, _), weight): (&&(&Judgement, &Pair), f64)| PositivePage {
            page: visits.pages()[judgement.page].clone(),
            weight: (weight / mean) as f32,
        };
        (kept.iter().zip(weights).map(positive).collect(), sum / naive)
    }

    fn negatives(&self, own: &[(&Judgement, &Pair)], visits: &Visits) -> Vec<NegativePage> {
        let mut kept: Vec<_> = own.iter().filter(|(judgement, _)| self.is_negative(judgement)).collect();
        kept.sort_by(|one, other| {
            let by_page = || visits.pages()[one.0.page].cmp(&visits.pages()[other.0.page]);
            other.0.skips.cmp(&one.0.skips).then_with(by_page)
        });
        kept.truncate(self.options.negatives_per_query);
        let negative = |(judgement, _): &&(&Judgement, &Pair)| NegativePage {
            page: visits.pages()[judgement.page].clone(),
            score: None,
            origin: Some(SKIPPED.to_owned()),
        };
        kept.iter().map(negative).collect()
    }
}

fn votes(pair: &Pair, weighting: Weighting<'_>) -> f64 {
    match weighting {
        Weighting::Naive => pair.positive() as f64,
        Weighting::InversePropensity(propensities) => pair
            .tallies
            .iter()
            .map(|(place, tally)| tally.positive * propensities.weight((place % RANKS) as u32 + 1))
            .sum(),
    }
}
