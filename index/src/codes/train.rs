//! Trains a codebook: k-means (Lloyd, 1982) on a sample of pages.

use rayon::prelude::*;

use super::{Codebook, PageEncoder, calibration};
use crate::kernel::Depth;

/// Rounds of assignment and averaging: what k-means gains after these is little. An estimate, not yet a measured choice.
const ROUNDS: usize = 6;
/// Sample tokens per centroid.
const TOKENS_PER_CENTROID: u64 = 48;
/// Sample tokens at most: the sample is held in memory.
const MOST_SAMPLE_TOKENS: u64 = 1 << 20;
/// Tokens that one task assigns.
const TASK_TOKENS: usize = 4096;

/// Which of `pages` pages with `tokens` tokens in all to train on: spread evenly, and enough of them.
pub(super) fn sampled_pages(pages: usize, tokens: u64) -> impl Iterator<Item = usize> {
    let wanted = tokens.min(Codebook::centroids_for(tokens) as u64 * TOKENS_PER_CENTROID).min(MOST_SAMPLE_TOKENS);
    let count = ((pages as u64 * wanted).div_ceil(tokens) as usize).clamp(1, pages);
    (0..count).map(move |at| at * pages / count)
}

/// A codebook for pages like those of `sample` (each `tokens x dim`), which stand for `tokens` tokens in all, calibrated for
/// codes of `depth`. The same sample gives the same codebook, `created` aside.
pub(super) fn train(sample: &[Vec<f32>], dim: usize, tokens: u64, depth: Depth, created: u64) -> Codebook {
    let values: Vec<f32> = sample.concat();
    let available = values.len() / dim;
    let count = Codebook::centroids_for(tokens).min(available.max(1));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    // Distinct starting tokens, spread over all pages.
    let mut centroids: Vec<f32> = (0..count)
        .flat_map(|at| {
            let (from, to) = (at * available / count, (at + 1) * available / count);
            let token = from + random.below(to - from);
            values[token * dim..][..dim].to_vec()
        })
        .collect();
    for _ in 0..ROUNDS {
        let codebook = Codebook::new(&centroids, dim, tokens, created);
        average(&values, dim, &codebook, &mut centroids, &mut random);
    }
    let codebook = Codebook::new(&centroids, dim, tokens, created);
    let calibration = calibration::fit(sample, &PageEncoder::new(&codebook, depth, false));
    codebook.with_calibration(calibration)
}

/// Moves each centroid to the mean of its tokens; one without tokens to a random token.
fn average(values: &[f32], dim: usize, codebook: &Codebook, centroids: &mut [f32], random: &mut Random) {
    let assigned: Vec<u16> =
        values.par_chunks(TASK_TOKENS * dim).flat_map_iter(|tokens| codebook.assign(tokens)).collect();
    let mut counts = vec![0u32; codebook.len()];
    centroids.fill(0.0);
    for (token, centroid) in values.chunks_exact(dim).zip(&assigned) {
        let at = usize::from(*centroid);
        counts[at] += 1;
        centroids[at * dim..][..dim].iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
    }
    for (centroid, count) in centroids.chunks_exact_mut(dim).zip(counts) {
        if count == 0 {
            let token = random.below(assigned.len());
            centroid.copy_from_slice(&values[token * dim..][..dim]);
        } else {
            centroid.iter_mut().for_each(|sum| *sum /= count as f32);
        }
    }
}

/// SplitMix64 (Steele et al., 2014): repeatable choices.
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `limit`, which is at least 1.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// About normally distributed with variance 1 (a sum of uniform values).
    pub fn normal(&mut self) -> f32 {
        let sum: f32 = (0..12).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32).sum();
        sum - 6.0
    }
}
