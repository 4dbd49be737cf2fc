//! Every page by itself: is it the query's, yes or no?

use super::{Cell, Evaluated, ScoreGrid, Targets, sigmoid_of, softplus};

pub(super) fn evaluate(scores: &ScoreGrid, targets: &Targets, temperature: f64) -> Option<Evaluated> {
    let mut sum = Evaluated::nothing(scores);
    let (mut positives, mut negatives, mut cells) = (0.0, 0.0, 0.0);
    for query in 0..targets.queries() {
        let weight = targets.weight(query);
        for (page, cell) in targets.row(query).iter().enumerate() {
            let sign = match cell {
                Cell::Positive => -1.0,
                Cell::Negative => 1.0,
                Cell::Explicit | Cell::Ignored => continue,
            };
            *if sign < 0.0 { &mut positives } else { &mut negatives } += weight;
            cells += 1.0;
            let logit = sign * f64::from(scores.row(query)[page]) / temperature;
            sum.value += weight * softplus(logit);
            sum.gradient.row_mut(query)[page] = (weight * sign * sigmoid_of(logit) / temperature) as f32;
        }
    }
    if negatives == 0.0 {
        return None;
    }
    // The least that one score for all cells can reach.
    let share: f64 = positives / (positives + negatives);
    let entropy = -share * share.ln() - (1.0 - share) * (1.0 - share).ln();
    Some(Evaluated { no_learning: entropy * (positives + negatives) / cells, ..sum.times(1.0 / cells) })
}
