//! A click model of two kinds of pages: those that answer the query and those that do not.
//!
//! A page that answers is clicked with probability `a_r` at place `r`, another one with `kappa * a_r`; at rank `r` a share
//! `pi_r` of the pages answer. A place is a rank with or without a click above it. That is the position-based model (Craswell et al., WSDM 2008) with two attractions only, and
//! that is what makes it fit where the ranks of a page never vary: a rank's click rate alone does not tell examination from
//! relevance, but the two heaps that its pages fall into do. Fitted by expectation maximisation on binomial counts, the
//! maximisation matching expected to counted clicks. `pi_r` is drawn to the mean over all ranks by ten pages.
//!
//! It is compared with one heap, each rank having one rate, by the Bayesian information criterion (Schwarz 1978). Clicks
//! without any relation to pages do not pass that.

use super::counts::{PLACES, Pair};

/// Where the search begins: what answers get against a rank's mean, and what other pages get against answers. From one start
/// alone a rank where nearly all pages answer may be taken for one where none do.
const STARTS: [(f64, f64); 4] = [(1.1, 0.1), (1.1, 0.4), (2.0, 0.1), (2.0, 0.4)];
/// Rounds of expectation maximisation.
const ROUNDS: usize = 300;
/// A change of the log likelihood per pair that ends them.
const SETTLED: f64 = 1e-7;
/// Pages that draw the share of a rank to the mean.
const DRAWN: f64 = 10.0;
/// A page that does not answer must be clicked less than this against one that does, or the two are not told apart.
const MOST_KAPPA: f64 = 0.65;

/// The fitted model.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct TwoKinds {
    pub clicked: [f64; PLACES],
    pub kappa: f64,
    pub share: [f64; PLACES],
    /// By how much it explains the counts better than one kind does, less what its parameters cost; above 0 is better.
    pub gain: f64,
}

impl TwoKinds {
    /// Fits the model.
    pub fn fit(pairs: &[Pair]) -> Self {
        let mut totals = [(0.0, 0.0); PLACES];
        for (place, tally) in pairs.iter().flat_map(|pair| &pair.tallies) {
            totals[*place].0 += tally.shown;
            totals[*place].1 += tally.positive;
        }
        let rate = totals.map(|(shown, positive)| probability((positive + 0.5) / (shown + 1.0)));
        let logs = logarithms(&rate, 1.0);
        let one_kind: f64 = pairs.iter().map(|pair| log_likelihood(pair, &logs)).sum();
        let starts = STARTS.into_iter().map(|(times, kappa)| {
            let clicked = rate.map(|rate| probability(times * rate));
            let mut model = Self { clicked, kappa, share: [0.3; PLACES], gain: f64::NEG_INFINITY };
            model.climb(pairs, &totals);
            let likelihood = model.expect(pairs).1;
            (model, likelihood)
        });
        let none = (Self { clicked: rate, kappa: 0.999, share: [0.3; PLACES], gain: 0.0 }, f64::NEG_INFINITY);
        let (mut model, likelihood) = starts.fold(none, |best, next| if next.1 > best.1 { next } else { best });
        let places = totals.iter().filter(|(shown, _)| *shown > 0.0).count();
        let cost = 0.5 * (places + 1) as f64 * (pairs.len().max(1) as f64).ln();
        model.gain = likelihood - one_kind - cost;
        model
    }

    fn climb(&mut self, pairs: &[Pair], totals: &[(f64, f64); PLACES]) {
        let mut before = f64::NEG_INFINITY;
        for _ in 0..ROUNDS {
            let (weights, likelihood) = self.expect(pairs);
            if (likelihood - before).abs() < SETTLED * pairs.len() as f64 {
                break;
            }
            before = likelihood;
            self.maximise(pairs, &weights, totals);
        }
    }

    /// Whether there are two kinds.
    pub fn tells_apart(&self) -> bool {
        self.gain > 0.0 && self.kappa < MOST_KAPPA
    }

    /// The logarithm of how much likelier the counts are if the page answers.
    pub fn log_ratio(&self, pair: &Pair) -> f64 {
        log_likelihood(pair, &logarithms(&self.clicked, 1.0))
            - log_likelihood(pair, &logarithms(&self.clicked, self.kappa))
    }

    /// The probability that the page answers the query.
    pub fn posterior(&self, pair: &Pair) -> f64 {
        let share = self.share[pair.main_place()];
        1.0 / (1.0 + (1.0 - share) / share * (-self.log_ratio(pair)).exp())
    }

    /// The probability that it does if as many pages answer as do not: what the counts alone say.
    pub fn even_posterior(&self, pair: &Pair) -> f64 {
        1.0 / (1.0 + (-self.log_ratio(pair)).exp())
    }

    /// The votes expected if the page answers.
    pub fn expected(&self, pair: &Pair) -> f64 {
        pair.tallies.iter().map(|(place, tally)| tally.shown * self.clicked[*place]).sum()
    }

    fn expect(&self, pairs: &[Pair]) -> (Vec<f64>, f64) {
        let mut likelihood = 0.0;
        let (answering, others) = (logarithms(&self.clicked, 1.0), logarithms(&self.clicked, self.kappa));
        let weight = |pair: &Pair| {
            let share = self.share[pair.main_place()];
            let answers = share.ln() + log_likelihood(pair, &answering);
            let other = (1.0 - share).ln() + log_likelihood(pair, &others);
            let most = answers.max(other);
            let sum = most + ((answers - most).exp() + (other - most).exp()).ln();
            likelihood += sum;
            (answers - sum).exp()
        };
        (pairs.iter().map(weight).collect(), likelihood)
    }

    fn maximise(&mut self, pairs: &[Pair], weights: &[f64], totals: &[(f64, f64); PLACES]) {
        let mut shown = [(0.0, 0.0); PLACES];
        let mut shares = [(0.0, 0.0); PLACES];
        let mut other_clicks = 0.0;
        for (pair, weight) in pairs.iter().zip(weights) {
            let (sum, count) = &mut shares[pair.main_place()];
            *sum += weight;
            *count += 1.0;
            for (place, tally) in &pair.tallies {
                shown[*place].0 += weight * tally.shown;
                shown[*place].1 += (1.0 - weight) * tally.shown;
                other_clicks += (1.0 - weight) * tally.positive;
            }
        }
        let mean = weights.iter().sum::<f64>() / weights.len().max(1) as f64;
        for at in 0..PLACES {
            let (answering, other) = shown[at];
            // Half a click of the rate so far, so that a rank with few clicks keeps its place.
            let (clicks, trials) = (totals[at].1 + 0.5, answering + self.kappa * other + 0.5 / self.clicked[at]);
            self.clicked[at] = probability(clicks / trials);
            self.share[at] = probability((shares[at].0 + DRAWN * mean) / (shares[at].1 + DRAWN));
        }
        let expected: f64 = shown.iter().zip(&self.clicked).map(|((_, other), clicked)| other * clicked).sum();
        self.kappa = (other_clicks / expected.max(1e-12)).clamp(1e-3, 0.999);
    }
}

fn probability(value: f64) -> f64 {
    value.clamp(1e-5, 0.98)
}

/// The logarithms of the probabilities of a vote and of none, by place.
fn logarithms(clicked: &[f64; PLACES], times: f64) -> [(f64, f64); PLACES] {
    clicked.map(|rate| ((rate * times).ln(), (1.0 - rate * times).ln()))
}

fn log_likelihood(pair: &Pair, logarithms: &[(f64, f64); PLACES]) -> f64 {
    let at = |(place, tally): &(usize, super::counts::Tally)| {
        let (vote, none) = logarithms[*place];
        tally.positive * vote + (tally.shown - tally.positive) * none
    };
    pair.tallies.iter().map(at).sum()
}

#[cfg(test)]
mod tests {
    use super::super::counts::Tally;
    use super::*;
    use crate::random::{Purpose, Stream};

    /// Pages of both kinds, each at one rank for all its 40 sessions, that are examined by 1 / rank.
    fn pairs(count: usize, answers: f64, relevant: f64, other: f64, seed: u64) -> (Vec<Pair>, Vec<bool>) {
        let mut stream = Stream::new(seed, Purpose::Choice, &[]);
        let one = |at: usize| {
            let (place, truth) = (at % 10, stream.unit() < answers);
            let rate = if truth { relevant } else { other } / (place + 1) as f64;
            let positive = (0..40).filter(|_| stream.unit() < rate).count() as f64;
            (
                Pair {
                    query: at,
                    tallies: vec![(place, Tally { shown: 40.0, positive, unclear: 0.0 })],
                    ..Pair::default()
                },
                truth,
            )
        };
        (0..count).map(one).unzip()
    }

    #[test]
    fn rates_and_shares_are_found_where_ranks_never_vary() {
        let (pairs, truth) = pairs(2000, 0.3, 0.7, 0.2, 1);
        let model = TwoKinds::fit(&pairs);
        assert!(model.tells_apart() && model.gain > 100.0, "{model:?}");
        assert!((model.kappa - 2.0 / 7.0).abs() < 0.05, "{model:?}");
        // Of 200 pages at a rank, the share that answers varies by 0.03, and deeper ranks have few clicks.
        for at in 0..3 {
            let (clicked, share) = (model.clicked[at] * (at + 1) as f64, model.share[at]);
            assert!((clicked / 0.7 - 1.0).abs() < 0.15 && (share - 0.3).abs() < 0.12, "{at}: {model:?}");
        }
        let sure: Vec<bool> =
            pairs.iter().zip(truth).filter(|(pair, _)| model.posterior(pair) > 0.9).map(|(_, truth)| truth).collect();
        let right = sure.iter().filter(|truth| **truth).count();
        assert!(sure.len() > 300 && right as f64 > 0.95 * sure.len() as f64, "{right} of {}", sure.len());
    }

    #[test]
    fn noise_has_one_kind_of_pages() {
        let apart = |seed| TwoKinds::fit(&pairs(1000, 0.5, 0.3, 0.3, seed).0).tells_apart();
        assert_eq!((0..50).filter(|seed| apart(*seed)).count(), 0);
        assert!(!TwoKinds::fit(&[]).tells_apart());
    }
}
