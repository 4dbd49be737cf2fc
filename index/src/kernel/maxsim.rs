//! MaxSim of a query with one page: for each query token its best page token, summed (Khattab & Zaharia, ColBERT, 2020).

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::dot::{GROUP, dots};

/// Page tokens that are widened to f32 at once; they stay in the first-level cache while the query passes over them.
const BLOCK: usize = 16;

/// A query prepared for scoring pages, and the room that scoring needs.
pub(crate) struct MaxSim<'q> {
    query: &'q [f32],
    dim: usize,
    best: Vec<f32>,
    block: Vec<f32>,
    halves: Vec<f16>,
}

impl<'q> MaxSim<'q> {
    /// `query` is `query tokens x dim`.
    pub fn new(query: &'q [f32], dim: usize) -> Self {
        Self { query, dim, best: vec![0.0; query.len() / dim], block: vec![0.0; BLOCK * dim], halves: Vec::new() }
    }

    /// The MaxSim with a page of f16 `tokens x dim`, little-endian.
    pub fn score(&mut self, page: &[u8]) -> f32 {
        self.best.fill(f32::NEG_INFINITY);
        let Self { query, dim, best, block, halves } = self;
        let page = as_halves(page, halves);
        score_page(query, *dim, page, block, best);
        best.iter().sum()
    }
}

/// The score of every (query token, page token) pair, query tokens outermost: for explanations, not for speed. `page` is
/// `tokens x dim`.
pub(crate) fn token_scores(query: &[f32], dim: usize, page: &[f32]) -> Vec<Vec<f32>> {
    query
        .chunks_exact(dim)
        .map(|token| page.chunks_exact(dim).map(|other| token.iter().zip(other).map(|(a, b)| a * b).sum()).collect())
        .collect()
}

/// Views stored bytes as f16, without a copy where the machine's byte order and the address allow it.
fn as_halves<'a>(page: &'a [u8], copy: &'a mut Vec<f16>) -> &'a [f16] {
    if cfg!(target_endian = "little") {
        // SAFETY: any two bytes are a valid u16; `align_to` itself sees to alignment and length.
        let (before, bits, after) = unsafe { page.align_to::<u16>() };
        if before.is_empty() && after.is_empty() {
            return bits.reinterpret_cast();
        }
    }
    copy.clear();
    copy.extend(page.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]])));
    copy
}

/// Runs the widest version that the machine has; the check is one cached load.
fn score_page(query: &[f32], dim: usize, page: &[f16], block: &mut [f32], best: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma") {
            // SAFETY: AVX-512F and FMA were just found.
            return unsafe { score_page_avx512(query, dim, page, block, best) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: AVX2 and FMA were just found.
            return unsafe { score_page_avx2(query, dim, page, block, best) };
        }
        score_page_by::<false>(query, dim, page, block, best);
    }
    // NEON and its fused multiply-add belong to every aarch64 machine.
    #[cfg(not(target_arch = "x86_64"))]
    score_page_by::<{ cfg!(target_arch = "aarch64") }>(query, dim, page, block, best);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,fma")]
fn score_page_avx512(query: &[f32], dim: usize, page: &[f16], block: &mut [f32], best: &mut [f32]) {
    score_page_by::<true>(query, dim, page, block, best);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn score_page_avx2(query: &[f32], dim: usize, page: &[f16], block: &mut [f32], best: &mut [f32]) {
    score_page_by::<true>(query, dim, page, block, best);
}

/// Raises `best` to the best dot product of each query token with the page's tokens.
#[inline(always)]
pub(super) fn score_page_by<const FUSED: bool>(
    query: &[f32],
    dim: usize,
    page: &[f16],
    block: &mut [f32],
    best: &mut [f32],
) {
    for tokens in page.chunks(BLOCK * dim) {
        let widened = &mut block[..tokens.len()];
        tokens.convert_to_f32_slice(widened);
        let whole = best.len() - best.len() % GROUP;
        for at in (0..whole).step_by(GROUP) {
            let group: [&[f32]; GROUP] =
                std::array::from_fn(|offset| &query[(at + offset) * dim..(at + offset + 1) * dim]);
            let mut highest: [f32; GROUP] = std::array::from_fn(|offset| best[at + offset]);
            for token in widened.chunks_exact(dim) {
                let found = dots::<FUSED, GROUP>(group, token);
                for (high, score) in highest.iter_mut().zip(found) {
                    *high = high.max(score);
                }
            }
            best[at..at + GROUP].copy_from_slice(&highest);
        }
        for at in whole..best.len() {
            for token in widened.chunks_exact(dim) {
                let [score] = dots::<FUSED, 1>([&query[at * dim..(at + 1) * dim]], token);
                best[at] = best[at].max(score);
            }
        }
    }
}
