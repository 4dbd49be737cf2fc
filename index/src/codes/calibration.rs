//! What codes do to scores on average, and how it is undone.
//!
//! Levels that minimise the error of a token shrink its dot product with a query that resembles it, and the best of many
//! noisy dot products is too high. Both are nearly linear in the score, so a line per codebook, fitted where the vectors
//! are still known, makes scores of segments with different codes comparable. A line with positive slope changes no ranking
//! within a segment.

use rayon::prelude::*;

use super::train::Random;
use super::{CodedPage, PageEncoder};
use crate::kernel::Depth;
use crate::vectors::length;

/// Pages that probe the codes.
const PAGES: usize = 128;
/// Probing queries per page.
const QUERIES: usize = 4;
/// Other pages that each of them is compared with.
const OTHERS: usize = 16;

/// The corrected best score of a query token: `slope * score + offset * length of the query token`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Calibration {
    pub offset: f32,
    pub slope: f32,
}

impl Calibration {
    pub const NONE: Self = Self { offset: 0.0, slope: 1.0 };

    /// The corrected MaxSim, given the summed lengths of the query tokens.
    pub fn correct(self, score: f32, lengths: f32) -> f32 {
        self.slope * score + self.offset * lengths
    }

    /// Whether the line keeps the order of scores.
    pub fn is_sane(self) -> bool {
        self.offset.is_finite() && self.slope.is_finite() && self.slope > 0.0
    }
}

/// The best dot product of the query token with a page, as it is and as the codes have it.
type Pair = (f64, f64);

/// Probes the codes with noisy copies of the pages' tokens: one point of the line are the scores with the page that the
/// token is from, the other those with other pages.
pub(super) fn fit(sample: &[Vec<f32>], encoder: &PageEncoder<'_>) -> Calibration {
    // Eight bits lose less than the line could be fitted to.
    if encoder.depth() == Depth::Eight || sample.is_empty() {
        return Calibration::NONE;
    }
    let dim = encoder.codebook().dim();
    let step = sample.len().div_ceil(PAGES);
    let pages: Vec<&Vec<f32>> = sample.iter().step_by(step).collect();
    let decoded: Vec<Vec<f32>> =
        pages.par_iter().map(|page| CodedPage::values(&encoder.encode(page), encoder)).collect();
    let pairs = |at: usize| {
        let mut random = Random(at as u64);
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for _ in 0..QUERIES {
            let query = noisy(pages[at], dim, &mut random);
            let pair = |page: usize| (best(&query, pages[page], dim), best(&query, &decoded[page], dim));
            own.push(pair(at));
            // A sample of one page has no others; then the line is a shift.
            others.extend((0..OTHERS).map(|_| random.below(pages.len())).filter(|page| *page != at).map(pair));
        }
        (mean(&own), mean(&others))
    };
    let means: Vec<(Option<Pair>, Option<Pair>)> = (0..pages.len()).into_par_iter().map(pairs).collect();
    let own: Vec<Pair> = means.iter().filter_map(|(own, _)| *own).collect();
    let others: Vec<Pair> = means.iter().filter_map(|(_, others)| *others).collect();
    line(mean(&own), mean(&others))
}

/// The line through two points (true score, coded score).
fn line(own: Option<Pair>, others: Option<Pair>) -> Calibration {
    let Some((true_own, coded_own)) = own else { return Calibration::NONE };
    let (true_others, coded_others) = others.unwrap_or((true_own, coded_own));
    let slope = (true_own - true_others) / (coded_own - coded_others);
    // Where both points coincide nothing can be said about the slope.
    let slope = if slope.is_finite() && (0.5..2.0).contains(&slope) { slope } else { 1.0 };
    let offset = true_others - slope * coded_others;
    let line = Calibration { offset: offset as f32, slope: slope as f32 };
    // With any other a segment could be written, but never be opened.
    if line.is_sane() { line } else { Calibration::NONE }
}

/// A token of the page with noise of its own length, at the length of 1: as near to it as queries are at best.
fn noisy(page: &[f32], dim: usize, random: &mut Random) -> Vec<f32> {
    let token = random.below(page.len() / dim);
    let token = &page[token * dim..][..dim];
    let noise = length(token) / (dim as f32).sqrt();
    let mut query: Vec<f32> = token.iter().map(|value| value + noise * random.normal()).collect();
    let length = length(&query).max(f32::MIN_POSITIVE);
    query.iter_mut().for_each(|value| *value /= length);
    query
}

fn best(query: &[f32], page: &[f32], dim: usize) -> f64 {
    let dot = |token: &[f32]| token.iter().zip(query).map(|(one, two)| one * two).sum::<f32>();
    f64::from(page.chunks_exact(dim).map(dot).fold(f32::NEG_INFINITY, f32::max))
}

fn mean(pairs: &[Pair]) -> Option<Pair> {
    let count = pairs.len() as f64;
    let sum = pairs.iter().copied().reduce(|one, two| (one.0 + two.0, one.1 + two.1))?;
    Some((sum.0 / count, sum.1 / count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::train::train;

    #[test]
    fn a_page_with_an_infinite_value_leaves_scores_as_they_are() {
        let mut random = Random(5);
        let mut pages: Vec<Vec<f32>> = (0..40).map(|_| (0..64).map(|_| random.normal()).collect()).collect();
        let fitted = train(&pages, 4, 640, Depth::Two, 0).calibration;
        assert!(fitted.is_sane() && fitted != Calibration::NONE, "{fitted:?}");
        pages[3][5] = f32::INFINITY;
        assert!(train(&pages, 4, 640, Depth::Two, 0).calibration.is_sane());
        for others in [(f64::INFINITY, 0.4), (f64::NAN, 0.4), (1e39, 0.4), (0.5, f64::INFINITY)] {
            assert_eq!(line(Some((1.0, 0.9)), Some(others)), Calibration::NONE);
        }
    }
}
