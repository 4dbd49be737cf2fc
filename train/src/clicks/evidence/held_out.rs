//! What clicks say of queries that judge a model, undone what they say of ranks.
//!
//! An answer is recognised only if enough sessions click it, and they click what stands at the top. Held-out queries whose
//! answers are recognised are therefore those that the serving model answers well already, and judged by them alone a new
//! model has nothing left to gain. So each answer counts by the inverse of the probability that it would be recognised
//! where it stood, and each query by the inverse of the probability that any of its answers would (Horvitz & Thompson, JASA
//! 1952, with the propensities of Joachims et al., WSDM 2017): the answers that are recognised at low ranks stand for those
//! that are not. Pages that were never shown stay unknown.

use super::counts::Pair;
use super::two_kinds::TwoKinds;
use super::{Evidence, Judgement};
use crate::clicks::chance::binomial_at_least;
use crate::clicks::visits::Visits;
use crate::data::PageId;

/// No answer and no query counts for more than this many, as propensities are clipped.
const MOST: f64 = 10.0;

/// A query that judges.
#[derive(Clone, PartialEq, Debug)]
pub struct HeldOut {
    /// The query, as a place in [`Visits::queries`].
    pub query: usize,
    /// Its answers, each with the probability that it is one over the probability that it would be recognised.
    pub gains: Vec<(PageId, f64)>,
    /// Pages that do not answer it, as far as clicks can tell. What clicks leave open is in neither list.
    pub others: Vec<PageId>,
    /// For how many queries it stands: itself, and those like it whose answers were not recognised.
    pub stands_for: f64,
}

impl Evidence {
    /// The queries with an answer, by [`HeldOut::query`].
    pub fn held_out(&self, visits: &Visits) -> Vec<HeldOut> {
        let judged: Vec<(&Judgement, &Pair)> = self.judgements.iter().zip(&self.pairs).collect();
        let mut held_out = Vec::new();
        for own in judged.chunk_by(|one, other| one.0.query == other.0.query) {
            let answers: Vec<_> = own.iter().filter(|(judgement, _)| self.is_answer(judgement)).collect();
            if answers.is_empty() {
                continue;
            }
            let mut missed = 1.0;
            let gain = |(judgement, pair): &&(&Judgement, &Pair)| {
                let (posterior, votes) = self.bar(judgement);
                let chance = recognised(&self.fitted, pair, posterior, votes).max(1.0 / MOST);
                missed *= 1.0 - chance;
                (visits.pages()[judgement.page].clone(), judgement.posterior / chance)
            };
            let gains = answers.iter().map(gain).collect();
            let others = own.iter().filter(|(judgement, _)| judgement.posterior <= self.options.negative);
            let others = others.map(|(judgement, _)| visits.pages()[judgement.page].clone()).collect();
            held_out.push(HeldOut { query: own[0].0.query, gains, others, stands_for: 1.0 / (1.0 - missed) });
        }
        held_out
    }
}

/// The probability that an answer which was shown as `pair` was gets votes enough for `posterior`, and at least `votes`.
fn recognised(model: &TwoKinds, pair: &Pair, posterior: f64, votes: u64) -> f64 {
    let (shown, expected) = (pair.shown(), model.expected(pair));
    let enough = |count: &u64| {
        let times = *count as f64 / expected;
        model.posterior(&pair.with_votes(times, |place| model.clicked[place])) >= posterior
    };
    let needed = (votes..=shown).find(enough);
    needed.map_or(0.0, |needed| binomial_at_least(shown, expected / shown as f64, needed))
}

#[cfg(test)]
mod tests {
    use super::super::counts::Tally;
    use super::*;
    use crate::clicks::evidence::counts::PLACES;
    use crate::random::{Purpose, Stream};

    /// Answers get a click in 0.7 / rank of the sessions, other pages in 0.05 / rank.
    fn model() -> TwoKinds {
        let mut clicked = [0.7; PLACES];
        (0..PLACES).for_each(|at| clicked[at] = 0.7 / (at % (PLACES / 2) + 1) as f64);
        TwoKinds { clicked, kappa: 0.05 / 0.7, share: [0.3; PLACES], gain: 1.0 }
    }

    fn shown(sessions: f64, place: usize, positive: f64) -> Pair {
        Pair { tallies: vec![(place, Tally { shown: sessions, positive, unclear: 0.0 })], ..Pair::default() }
    }

    #[test]
    fn answers_are_recognised_as_often_as_is_said() {
        let model = model();
        for (sessions, place) in [(4, 0), (10, 0), (10, 3), (30, 3), (30, 9)] {
            let mut stream = Stream::new(1, Purpose::Choice, &[sessions, place]);
            let mut count = 0;
            for _ in 0..20_000 {
                let rate = model.clicked[place as usize];
                let votes = (0..sessions).filter(|_| stream.unit() < rate).count();
                let pair = shown(sessions as f64, place as usize, votes as f64);
                count += usize::from(votes >= 3 && model.posterior(&pair) >= 0.9);
            }
            let said = recognised(&model, &shown(sessions as f64, place as usize, 0.0), 0.9, 3);
            assert!((said - count as f64 / 20_000.0).abs() < 0.012, "{sessions} at {place}: {said}, counted {count}");
        }
        assert_eq!(recognised(&model, &shown(2.0, 0, 2.0), 0.9, 3), 0.0);
    }
}
