//! Watching a training: is anything being learnt, or has it collapsed?
//!
//! A loss alone does not tell. Late interaction fails by giving everything the same score, and then the loss sits at a
//! value that looks like any other: `ln 2 = 0.693` for the pairwise loss, `ln B` for InfoNCE. So each step is recorded with
//! the value that its loss has without learning, and with what the loss cannot show: how far positives lead, how often they
//! are first, and whether vectors differ at all.

mod log;
mod plot;
mod verdict;

pub use log::StepLog;
pub use plot::plot;
pub use verdict::{Verdict, Watch};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::grad_cache::Learnt;
use crate::maxsim::Packed;
use crate::scores::{Cell, Targets};

/// One step of a training.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step, from 0.
    pub step: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// Queries of the batch.
    pub queries: usize,
    /// Pages of the batch.
    pub pages: usize,
    /// The loss.
    pub loss: f64,
    /// What the loss would be if all scores were equal.
    pub no_learning: f64,
    /// How far positives lead the highest negative on average, in units of the score.
    pub margin: f64,
    /// Share of the queries whose positive scores above all their negatives.
    pub accuracy: f64,
    /// The accuracy that random scores would have.
    pub chance: f64,
    /// Variance of page tokens: `1 - |mean|^2` for vectors of length 1. At 0 all tokens are the same.
    pub token_variance: f64,
    /// Variance of the pages' mean tokens. At 0 all pages are the same, even if their tokens differ.
    pub page_variance: f64,
    /// Norm of the gradient before it was clipped.
    pub gradient_norm: f64,
    /// The learning rate.
    pub learning_rate: f64,
    /// Share of the in-batch negatives that the filter took for unlabelled positives.
    pub suspects: f64,
}

impl StepRecord {
    /// What a step shows; `gradient_norm` and `learning_rate` as they were used.
    ///
    /// # Errors
    /// The device fails.
    pub fn of(
        (step, epoch): (u64, u64),
        learnt: &Learnt,
        targets: &Targets,
        gradient_norm: f64,
        learning_rate: f64,
    ) -> Result<Self, Error> {
        let (token_variance, page_variance) = learnt.spread.variances();
        let ranks = Ranks::of(learnt, targets);
        Ok(Self {
            step,
            epoch,
            queries: targets.queries(),
            pages: targets.pages(),
            loss: learnt.evaluated.value,
            no_learning: learnt.evaluated.no_learning,
            margin: ranks.margin,
            accuracy: ranks.accuracy,
            chance: ranks.chance,
            token_variance,
            page_variance,
            gradient_norm,
            learning_rate,
            suspects: learnt.evaluated.suspects as f64 / ranks.in_batch.max(1) as f64,
        })
    }
}

/// How positives stand against the negatives of their batch.
struct Ranks {
    margin: f64,
    accuracy: f64,
    chance: f64,
    in_batch: usize,
}

impl Ranks {
    fn of(learnt: &Learnt, targets: &Targets) -> Self {
        let mut ranks = Self { margin: 0.0, accuracy: 0.0, chance: 0.0, in_batch: 0 };
        let mut queries = 0.0;
        for query in 0..targets.queries() {
            let row = learnt.scores.row(query);
            let positive = row[targets.positive(query)];
            let mut negatives = 0;
            let mut highest = f32::NEG_INFINITY;
            for (cell, score) in targets.row(query).iter().zip(row) {
                if matches!(cell, Cell::Negative | Cell::Explicit) {
                    negatives += 1;
                    highest = highest.max(*score);
                }
                ranks.in_batch += usize::from(*cell == Cell::Negative);
            }
            if negatives > 0 {
                queries += 1.0;
                ranks.margin += f64::from(positive) - f64::from(highest);
                ranks.accuracy += f64::from(u8::from(positive > highest));
                ranks.chance += 1.0 / f64::from(negatives + 1);
            }
        }
        let mean = |sum: f64| if queries > 0.0 { sum / queries } else { 0.0 };
        Self { margin: mean(ranks.margin), accuracy: mean(ranks.accuracy), chance: mean(ranks.chance), ..ranks }
    }
}

/// How far token vectors of pages are apart, from mini-batches of them.
#[derive(Clone, Debug)]
pub struct PageSpread {
    tokens: Spread,
    means: Spread,
}

impl PageSpread {
    /// Of no page yet; vectors have `dim` values.
    pub fn new(dim: usize) -> Self {
        Self { tokens: Spread::new(dim), means: Spread::new(dim) }
    }

    /// Adds pages.
    ///
    /// # Errors
    /// The device fails.
    pub fn add(&mut self, pages: &Packed) -> Result<(), Error> {
        let dim = pages.dim();
        let values = pages.values()?;
        let mut rest = values.as_slice();
        for length in pages.lengths() {
            let (page, after) = rest.split_at(length * dim);
            rest = after;
            let mut mean = vec![0.0; dim];
            for token in page.chunks_exact(dim) {
                let token: Vec<f64> = token.iter().map(|value| f64::from(*value)).collect();
                mean.iter_mut().zip(&token).for_each(|(sum, value)| *sum += value / length as f64);
                self.tokens.add(&token);
            }
            self.means.add(&mean);
        }
        Ok(())
    }

    /// The variance of all tokens, and that of the pages' means.
    pub fn variances(&self) -> (f64, f64) {
        (self.tokens.variance(), self.means.variance())
    }
}

/// Sums from which a variance follows.
#[derive(Clone, Debug)]
struct Spread {
    sum: Vec<f64>,
    squares: f64,
    count: f64,
}

impl Spread {
    fn new(dim: usize) -> Self {
        Self { sum: vec![0.0; dim], squares: 0.0, count: 0.0 }
    }

    fn add(&mut self, vector: &[f64]) {
        self.sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
        self.squares += vector.iter().map(|value| value * value).sum::<f64>();
        self.count += 1.0;
    }

    /// The mean square of the distance from the mean, over all dimensions.
    fn variance(&self) -> f64 {
        let mean: f64 = self.sum.iter().map(|sum| (sum / self.count).powi(2)).sum();
        (self.squares / self.count - mean).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    fn variances(values: &[f32], lengths: &[usize]) -> (f64, f64) {
        let vectors = Tensor::from_slice(values, (values.len() / 2, 2), &Device::Cpu).unwrap();
        let mut spread = PageSpread::new(2);
        spread.add(&Packed::new(vectors, lengths).unwrap()).unwrap();
        spread.variances()
    }

    #[test]
    fn variances_tell_collapsed_tokens_from_collapsed_pages() {
        let close = |(tokens, pages): (f64, f64), expected: (f64, f64)| {
            assert!((tokens - expected.0).abs() < 1e-12 && (pages - expected.1).abs() < 1e-12, "{tokens} {pages}");
        };
        close(variances(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0], &[1, 2]), (0.0, 0.0));
        // Both pages have the same two tokens.
        close(variances(&[1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0], &[2, 2]), (0.5, 0.0));
        close(variances(&[1.0, 0.0, -1.0, 0.0], &[1, 1]), (1.0, 1.0));
    }
}
