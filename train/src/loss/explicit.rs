//! Softplus of each mined negative's lead over the positive of the query it was mined for.

use super::{Cell, Evaluated, ScoreGrid, Targets, sigmoid_of, softplus};

pub(super) fn evaluate(scores: &ScoreGrid, targets: &Targets, temperature: f64) -> Option<Evaluated> {
    let mut sum = Evaluated::nothing(scores);
    let (mut pairs, mut weights) = (0, 0.0);
    for query in 0..targets.queries() {
        let (row, positive, weight) = (scores.row(query), targets.positive(query), targets.weight(query));
        let mut pull = 0.0;
        for page in targets.of(query, Cell::Explicit) {
            pairs += 1;
            weights += weight;
            let lead = (f64::from(row[page]) - f64::from(row[positive])) / temperature;
            sum.value += weight * softplus(lead);
            let slope = weight * sigmoid_of(lead) / temperature;
            pull += slope;
            sum.gradient.row_mut(query)[page] = slope as f32;
        }
        sum.gradient.row_mut(query)[positive] = -pull as f32;
    }
    sum.no_learning = weights * std::f64::consts::LN_2;
    (pairs > 0).then(|| sum.times(1.0 / f64::from(pairs)))
}
