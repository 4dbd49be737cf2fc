//! Negatives that score about as high as the positive are often answers that nobody labelled.

use super::{Evaluated, ScoreGrid, Targets};
use crate::Error;
use crate::scores::Cell;

/// What happens to suspects.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Suspects {
    /// They are left out, as in NV-Retriever's mining (Moreira et al. 2024).
    Ignore,
    /// Their score is multiplied by this, gradient included, as in colpali-engine, where it is 0.5.
    Scale(f64),
}

/// Takes in-batch negatives above `threshold * positive` for unlabelled positives.
///
/// Collapsed embeddings score everything alike, so that all negatives are suspects and the loss is small although
/// nothing was learnt: [`Evaluated::suspects`] shows it. Start the filter when the model ranks already.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct NegativeFilter {
    /// Share of the positive's score above which a negative is suspect.
    pub threshold: f64,
    /// What happens to it.
    pub suspects: Suspects,
}

impl Default for NegativeFilter {
    /// Negatives above 0.95 of the positive are left out.
    fn default() -> Self {
        Self { threshold: 0.95, suspects: Suspects::Ignore }
    }
}

impl NegativeFilter {
    /// Evaluates a loss on filtered scores, and leads the gradient back to the scores as they are.
    pub(super) fn around(
        self,
        scores: &ScoreGrid,
        targets: &Targets,
        evaluate: impl FnOnce(&ScoreGrid, &Targets) -> Option<Evaluated>,
    ) -> Option<Evaluated> {
        let suspects = self.find(scores, targets);
        let mut evaluated = match self.suspects {
            // A batch of suspects only has nothing to teach; its loss is 0.
            Suspects::Ignore => {
                evaluate(scores, &targets.without(&suspects)).unwrap_or_else(|| Evaluated::nothing(scores))
            }
            Suspects::Scale(factor) => {
                let scale = |grid: &mut ScoreGrid| {
                    suspects.iter().for_each(|at| grid.values_mut()[*at] *= factor as f32);
                };
                let mut scaled = scores.clone();
                scale(&mut scaled);
                let mut evaluated = evaluate(&scaled, targets)?;
                scale(&mut evaluated.gradient);
                evaluated
            }
        };
        evaluated.suspects = suspects.len();
        Some(evaluated)
    }

    fn find(self, scores: &ScoreGrid, targets: &Targets) -> Vec<usize> {
        let of_query = |query: usize| {
            let row = scores.row(query);
            let limit = self.threshold * f64::from(row[targets.positive(query)]);
            let high = move |page: &usize| f64::from(row[*page]) > limit;
            targets.of(query, Cell::Negative).filter(high).map(move |page| query * scores.pages() + page)
        };
        (0..targets.queries()).flat_map(of_query).collect()
    }

    pub(super) fn check(self) -> Result<(), Error> {
        if !(self.threshold > 0.0 && self.threshold.is_finite()) {
            return Err(Error::setting("threshold of suspect negatives", "a number above 0", self.threshold));
        }
        match self.suspects {
            Suspects::Scale(factor) if !(0.0..1.0).contains(&factor) => {
                Err(Error::setting("factor of suspect negatives", "a number from 0 up to, not including, 1", factor))
            }
            _ => Ok(()),
        }
    }
}
