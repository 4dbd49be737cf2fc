//! Cross entropy of the positive among all candidates.

use super::{Cell, Evaluated, ScoreGrid, Targets, log_sum_exp};

pub(super) fn evaluate(scores: &ScoreGrid, targets: &Targets, temperature: f64) -> Option<Evaluated> {
    let mut sum = Evaluated::nothing(scores);
    let mut queries = 0;
    for query in 0..targets.queries() {
        let positive = targets.positive(query);
        // The positive first.
        let pages: Vec<usize> = std::iter::once(positive).chain(targets.of(query, Cell::Negative)).collect();
        if pages.len() < 2 {
            continue;
        }
        queries += 1;
        let row = scores.row(query);
        let logits: Vec<f64> = pages.iter().map(|page| f64::from(row[*page]) / temperature).collect();
        let (all, weight) = (log_sum_exp(&logits), targets.weight(query));
        sum.value += weight * (all - logits[0]);
        sum.no_learning += weight * (pages.len() as f64).ln();
        let gradient = sum.gradient.row_mut(query);
        for (at, page) in pages.iter().enumerate() {
            let wanted = if at == 0 { 1.0 } else { 0.0 };
            gradient[*page] = (weight * ((logits[at] - all).exp() - wanted) / temperature) as f32;
        }
    }
    (queries > 0).then(|| sum.times(1.0 / f64::from(queries)))
}
