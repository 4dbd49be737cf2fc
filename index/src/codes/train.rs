//! Trains a codebook: k-means (Lloyd, 1982) on a sample of pages.

use rayon::prelude::*;

use super::{Codebook, PageEncoder, calibration};
use crate::kernel::Depth;

/// Rounds of assignment and averaging: with 20, centroid scores rank the pages of `benches/end_to_end` no better.
const ROUNDS: usize = 6;
/// Sample tokens per centroid.
const TOKENS_PER_CENTROID: u64 = 48;
/// Sample tokens at most: the sample is held in memory.
const MOST_SAMPLE_TOKENS: u64 = 1 << 20;
/// Tokens that one task assigns.
const TASK_TOKENS: usize = 4096;
/// The share of the mean squared residual up to which the tokens of a centroid are repetitions of one: blank paper, margins.
const REPEATED: f64 = 0.09;
/// Repeated tokens that are told apart, those with the most repetitions: pages have a few backgrounds, and each is compared with
/// all centroids that hardly vary.
const MOST_REPEATED: usize = 256;

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

/// Moves each centroid to the mean of its tokens. One without tokens moves to a token, and so does one of several that
/// describe repetitions of the same token: k-means would give blank paper as large a share of the centroids as of the tokens,
/// and each page a long list of them. Tokens are drawn by their squared distance from what describes them (k-means++, Arthur &
/// Vassilvitskii, 2007).
fn average(values: &[f32], dim: usize, codebook: &Codebook, centroids: &mut [f32], random: &mut Random) {
    let (assigned, residuals): (Vec<u16>, Vec<f32>) =
        values.par_chunks(TASK_TOKENS * dim).flat_map_iter(|tokens| described(tokens, codebook)).unzip();
    let mut counts = vec![0u32; codebook.len()];
    let mut spreads = vec![0.0f64; codebook.len()];
    centroids.fill(0.0);
    for ((token, centroid), residual) in values.chunks_exact(dim).zip(&assigned).zip(&residuals) {
        let at = usize::from(*centroid);
        counts[at] += 1;
        spreads[at] += f64::from(*residual);
        centroids[at * dim..][..dim].iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
    }
    for (centroid, count) in centroids.chunks_exact_mut(dim).zip(&counts) {
        centroid.iter_mut().for_each(|sum| *sum /= (*count).max(1) as f32);
    }
    let near = REPEATED * residuals.iter().map(|residual| f64::from(*residual)).sum::<f64>() / residuals.len() as f64;
    for at in repetitions(centroids, dim, &counts, &spreads, near) {
        counts[at] = 0;
    }
    let mut sum = 0.0;
    let cumulated: Vec<f64> = residuals
        .iter()
        .map(|residual| {
            sum += f64::from(*residual);
            sum
        })
        .collect();
    for (centroid, _) in centroids.chunks_exact_mut(dim).zip(counts).filter(|(_, count)| *count == 0) {
        let drawn = random.share() * sum;
        let token = cumulated.partition_point(|sum| *sum <= drawn).min(assigned.len() - 1);
        centroid.copy_from_slice(&values[token * dim..][..dim]);
    }
}

/// The nearest centroid of each token and its squared distance.
fn described(tokens: &[f32], codebook: &Codebook) -> Vec<(u16, f32)> {
    let mut centroid = vec![0.0; codebook.dim()];
    let nearest = codebook.assign(tokens);
    let distance = |(token, nearest): (&[f32], u16)| {
        codebook.centroid(usize::from(nearest), &mut centroid);
        (nearest, token.iter().zip(&centroid).map(|(one, other)| (one - other).powi(2)).sum())
    };
    tokens.chunks_exact(codebook.dim()).zip(nearest).map(distance).collect()
}

/// The centroids that repeat another one with at least as many tokens: the squared distances of their tokens, and of one from
/// the other, are below `near`.
fn repetitions(centroids: &[f32], dim: usize, counts: &[u32], spreads: &[f64], near: f64) -> Vec<usize> {
    let tight = |at: &usize| counts[*at] > 0 && spreads[*at] < near * f64::from(counts[*at]);
    let mut order: Vec<usize> = (0..counts.len()).filter(tight).collect();
    order.sort_by_key(|at| std::cmp::Reverse(counts[*at]));
    let of = |at: usize| &centroids[at * dim..][..dim];
    let distance = |one: usize, other: usize| of(one).iter().zip(of(other)).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    let (mut kept, mut repeated) = (Vec::new(), Vec::new());
    for at in order {
        match kept.iter().any(|other| f64::from(distance(at, *other)) < near) {
            true => repeated.push(at),
            false if kept.len() < MOST_REPEATED => kept.push(at),
            false => {}
        }
    }
    repeated
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

    /// A number from 0 to below 1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normally distributed with variance 1 (a sum of uniform values).
    pub fn normal(&mut self) -> f32 {
        let sum: f32 = (0..12).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32).sum();
        sum - 6.0
    }
}
