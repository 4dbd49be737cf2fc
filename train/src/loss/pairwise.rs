//! Softplus of the hardest negative's lead over the positive.

use super::{Cell, Evaluated, ScoreGrid, Targets, sigmoid_of, softplus};

pub(super) fn evaluate(scores: &ScoreGrid, targets: &Targets, temperature: f64) -> Option<Evaluated> {
    let mut sum = Evaluated::nothing(scores);
    let mut queries = 0;
    for query in 0..targets.queries() {
        let row = scores.row(query);
        let negatives = targets.of(query, Cell::Negative);
        // Of equal negatives the first, so that the gradient goes to one page only.
        let Some(hardest) = negatives.reduce(|best, page| if row[page] > row[best] { page } else { best }) else {
            continue;
        };
        queries += 1;
        let positive = targets.positive(query);
        let lead = (f64::from(row[hardest]) - f64::from(row[positive])) / temperature;
        let weight = targets.weight(query);
        sum.value += weight * softplus(lead);
        sum.no_learning += weight * std::f64::consts::LN_2;
        let slope = (weight * sigmoid_of(lead) / temperature) as f32;
        let gradient = sum.gradient.row_mut(query);
        gradient[hardest] = slope;
        gradient[positive] = -slope;
    }
    (queries > 0).then(|| sum.times(1.0 / f64::from(queries)))
}
