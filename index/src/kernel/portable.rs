//! The integer kernels for all machines, and what the others are tested against.

use super::lanes::{Grade, Layout, Parts, QueryLanes, Tokens};
use super::levels::level_width;

pub(super) const LAYOUT: Layout = Layout::NARROW;

/// The lane scores of one token: `dot * scale`, the dot product in integers, what follows in this very order of f32
/// operations on every machine.
fn lane_scores(query: &QueryLanes, grade: Grade, levels: &[u8], scale: f32, scores: &mut [f32]) {
    let Parts { coarse, fine, coarse_zero, fine_zero, stride } = query.parts(grade);
    assert!(query.layout() == LAYOUT, "the query was laid out for another machine");
    let dot = |values: &[i8], lane: usize| -> i32 {
        // Wrapping, as other machines add.
        levels.chunks_exact(4).enumerate().fold(0, |sum, (chunk, levels)| {
            let values = &values[chunk * stride + lane * 4..][..4];
            let products = levels.iter().zip(values).map(|(level, value)| i32::from(*level) * i32::from(*value));
            sum.wrapping_add(products.sum::<i32>())
        })
    };
    for (lane, score) in scores.iter_mut().enumerate() {
        let mut sum = dot(coarse, lane).wrapping_sub(coarse_zero[lane]) as f32;
        if grade == Grade::Refined {
            sum += dot(fine, lane).wrapping_sub(fine_zero[lane]) as f32 * (1.0 / 128.0);
        }
        *score = sum * scale;
    }
}

pub(super) fn raise_best(query: &QueryLanes, grade: Grade, tokens: Tokens<'_>, best: &mut [f32]) {
    let lanes = query.lanes();
    let mut scores = vec![0.0; lanes];
    for (token, levels) in tokens.levels.chunks_exact(level_width(query.dim())).enumerate() {
        lane_scores(query, grade, levels, tokens.scales[token], &mut scores);
        if let Some(rows) = tokens.rows {
            let row = &rows.table[usize::from(rows.centroids[token]) * lanes..][..lanes];
            scores.iter_mut().zip(row).for_each(|(score, row)| *score += row);
        }
        best.iter_mut().zip(&scores).for_each(|(best, score)| *best = if *score > *best { *score } else { *best });
    }
}

pub(super) fn fill_rows(query: &QueryLanes, grade: Grade, levels: &[u8], scales: &[f32], rows: &mut [f32]) {
    let width = level_width(query.dim());
    let tokens = levels.chunks_exact(width).zip(scales);
    for ((levels, scale), row) in tokens.zip(rows.chunks_exact_mut(query.lanes())) {
        lane_scores(query, grade, levels, *scale, row);
    }
}

pub(super) fn nearest(query: &QueryLanes, levels: &[u8], scales: &[f32], half_norms: &[f32], found: &mut [u32]) {
    let lanes = query.lanes();
    let (mut scores, mut best) = (vec![0.0; lanes], vec![f32::NEG_INFINITY; lanes]);
    for (index, levels) in levels.chunks_exact(level_width(query.dim())).enumerate() {
        lane_scores(query, Grade::Coarse, levels, scales[index], &mut scores);
        for lane in 0..query.tokens() {
            let score = scores[lane] + -half_norms[index] * query.inverse_scales()[lane];
            if score > best[lane] {
                (best[lane], found[lane]) = (score, index as u32);
            }
        }
    }
}
