//! Losses over the scores of a batch, with their exact gradients and the value they have before anything was learnt.
//!
//! `s` is a score, usually MaxSim divided by the number of query tokens, `T` the temperature, `p` the query's positive
//! and `n` a negative. Every loss is a mean over the queries (or pairs) of the batch, computed in f64; what queries count more
//! than others ([`Targets::with_weights`]) is a factor of their terms.
//!
//! | loss | formula | without learning | source |
//! |---|---|---|---|
//! | [`Kind::InfoNce`] | `ln sum_j exp((s_j - s_p) / T)` over `p` and all `n` | `ln(1 + negatives)`, `ln B` in a plain batch | van den Oord et al. 2018; colpali-engine `ColbertLoss` |
//! | [`Kind::Pairwise`] | `softplus((max_n s_n - s_p) / T)` | `ln 2` | colpali-engine `ColbertPairwiseCELoss` |
//! | [`Kind::Sigmoid`] | `softplus(-s_p / T)` and `softplus(s_n / T)`, mean over all cells | entropy of the share of positives | SigLIP (Zhai et al. 2023); colpali-engine `ColbertSigmoidLoss` |
//! | [`Explicit::Pairs`] | `(1 - w) mean softplus((s_e - s_p) / T) + w in-batch loss`, `e` mined for the query | `(1 - w) ln 2 + w in-batch` | colpali-engine `ColbertNegativeCELoss`, `ColbertPairwiseNegativeCELoss` |
//! | [`Distillation`] | `KL(softmax(teacher), softmax(s / T))` | KL to the uniform distribution | ColBERTv2 (Santhanam et al. 2022); pylate `Distillation` |
//!
//! "Without learning" means that all scores are equal, as when the embeddings have collapsed to one point. A loss that
//! stays there is the best known way for late interaction to fail.

mod distillation;
mod explicit;
mod filter;
mod info_nce;
mod pairwise;
mod sigmoid;

pub use distillation::{Distillation, Teacher};
pub use filter::{NegativeFilter, Suspects};

use crate::Error;
use crate::scores::{Cell, ScoreGrid, Targets};

/// What is asked of the positive against the other pages of the batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Cross entropy over all candidates.
    InfoNce,
    /// Softplus of the hardest negative's lead. In small batches it easily stays at `ln 2`.
    Pairwise,
    /// A yes or no for every page by itself.
    Sigmoid,
}

/// How negatives that were mined for a query enter its loss.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Explicit {
    /// A term of their own beside the in-batch loss, which has this weight, from 0 to 1.
    Pairs {
        /// Weight of the in-batch loss.
        in_batch_weight: f64,
    },
    /// As further candidates of the in-batch loss.
    Candidates,
}

/// A contrastive loss.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Loss {
    /// The in-batch loss.
    pub kind: Kind,
    /// What scores are divided by.
    pub temperature: f64,
    /// How mined negatives enter.
    pub explicit: Explicit,
    /// What happens to in-batch negatives that score about as high as the positive.
    pub filter: Option<NegativeFilter>,
    /// Whether a query counts as much as the positives of its question weigh on average; otherwise all count alike.
    pub by_weight: bool,
}

impl Loss {
    /// A loss with temperature 0.02, mined negatives in a term of their own of weight one half, and no filter:
    /// colpali-engine's defaults, except that its pairwise loss without mined negatives has temperature 1. With scores
    /// divided by the number of query tokens that can never fall below `softplus(-1) = 0.313`.
    pub fn new(kind: Kind) -> Self {
        let explicit = Explicit::Pairs { in_batch_weight: 0.5 };
        Self { kind, temperature: 0.02, explicit, filter: None, by_weight: false }
    }

    /// The loss and its gradient with respect to every score.
    ///
    /// # Errors
    /// Scores and targets differ in shape, a score is not finite, or a setting lies outside of its range.
    pub fn evaluate(&self, scores: &ScoreGrid, targets: &Targets) -> Result<Evaluated, Error> {
        self.check()?;
        targets.check(scores)?;
        check_finite(scores)?;
        let candidates;
        let targets = match self.explicit {
            Explicit::Pairs { .. } => targets,
            Explicit::Candidates => {
                candidates = targets.with_explicit_as_negatives();
                &candidates
            }
        };
        let in_batch = self.in_batch(scores, targets);
        let explicit = explicit::evaluate(scores, targets, self.temperature);
        match (in_batch, explicit, self.explicit) {
            (Some(in_batch), Some(explicit), Explicit::Pairs { in_batch_weight }) => {
                Ok(explicit.times(1.0 - in_batch_weight).plus(&in_batch.times(in_batch_weight)))
            }
            (Some(only), ..) | (None, Some(only), _) => Ok(only),
            (None, None, _) => Ok(Evaluated::nothing(scores)),
        }
    }

    /// The in-batch term; `None` where no query has an in-batch negative.
    fn in_batch(&self, scores: &ScoreGrid, targets: &Targets) -> Option<Evaluated> {
        let evaluate = match self.kind {
            Kind::InfoNce => info_nce::evaluate,
            Kind::Pairwise => pairwise::evaluate,
            Kind::Sigmoid => sigmoid::evaluate,
        };
        match self.filter {
            None => evaluate(scores, targets, self.temperature),
            Some(filter) => {
                filter.around(scores, targets, |scores, targets| evaluate(scores, targets, self.temperature))
            }
        }
    }

    /// Checks the settings, as [`Loss::evaluate`] does.
    ///
    /// # Errors
    /// One lies outside of its range.
    pub fn check(&self) -> Result<(), Error> {
        check_temperature("loss temperature", self.temperature)?;
        match self.explicit {
            Explicit::Pairs { in_batch_weight } if !(0.0..=1.0).contains(&in_batch_weight) => {
                Err(Error::setting("weight of the in-batch loss", "a number from 0 to 1", in_batch_weight))
            }
            _ => self.filter.map_or(Ok(()), NegativeFilter::check),
        }
    }
}

/// A loss at one batch.
#[derive(Clone, PartialEq, Debug)]
pub struct Evaluated {
    /// The loss.
    pub value: f64,
    /// Its derivative by each score, `queries x pages`.
    pub gradient: ScoreGrid,
    /// What the loss is when all scores of this batch are equal: nothing has been learnt, or everything has collapsed.
    pub no_learning: f64,
    /// In-batch negatives that the filter took for unlabelled positives.
    pub suspects: usize,
}

impl Evaluated {
    fn nothing(scores: &ScoreGrid) -> Self {
        let gradient = ScoreGrid::zeros(scores.queries(), scores.pages());
        Self { value: 0.0, gradient, no_learning: 0.0, suspects: 0 }
    }

    pub(crate) fn times(mut self, factor: f64) -> Self {
        self.gradient.values_mut().iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
        Self { value: self.value * factor, no_learning: self.no_learning * factor, ..self }
    }

    pub(crate) fn plus(mut self, other: &Self) -> Self {
        for (sum, value) in self.gradient.values_mut().iter_mut().zip(other.gradient.values()) {
            *sum += value;
        }
        Self {
            value: self.value + other.value,
            no_learning: self.no_learning + other.no_learning,
            suspects: self.suspects + other.suspects,
            ..self
        }
    }
}

fn check_temperature(name: &'static str, temperature: f64) -> Result<(), Error> {
    if temperature.is_finite() && temperature > 0.0 {
        return Ok(());
    }
    Err(Error::setting(name, "a number above 0", temperature))
}

fn check_finite(scores: &ScoreGrid) -> Result<(), Error> {
    match scores.values().iter().position(|score| !score.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let (query, page) = (at / scores.pages(), at % scores.pages());
            Err(Error::shape(
                "scores",
                "finite numbers",
                format!("{} for query {query}, page {page}", scores.values()[at]),
            ))
        }
    }
}

/// `ln(1 + exp(x))` without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `1 / (1 + exp(-x))`: the derivative of [`softplus`].
fn sigmoid_of(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// `ln(sum(exp(x)))` without overflow.
fn log_sum_exp(x: &[f64]) -> f64 {
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + x.iter().map(|x| (x - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests;
