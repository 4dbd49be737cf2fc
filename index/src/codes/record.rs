//! The bytes of one page in a segment file, and how vectors are read from them.

use std::ops::Range;

use super::{Codebook, Group};
use crate::bytes::{halves, read_halves};
use crate::kernel::levels::{ZERO_LEVEL, decode_levels, level_width};
use crate::kernel::{Depth, Lines, Planes};

/// Bits that a position on a page of so many tokens takes.
fn order_bits(tokens: usize) -> usize {
    (usize::BITS - tokens.saturating_sub(1).leading_zeros()) as usize
}

/// The original token of each coded one, in as few bits as name a token of the page.
pub(super) fn pack_order(order: &[u16]) -> Vec<u8> {
    let bits = order_bits(order.len());
    let mut packed = vec![0u8; (order.len() * bits).div_ceil(8)];
    for (at, token) in order.iter().enumerate() {
        for bit in (0..bits).filter(|bit| token >> bit & 1 == 1) {
            packed[(at * bits + bit) / 8] |= 1 << ((at * bits + bit) % 8);
        }
    }
    packed
}

/// A page in codes, tokens sorted by centroid:
/// `order (packed) | scales f16 | first planes | second planes | third planes`.
#[derive(Clone, Copy)]
pub(crate) struct CodedRecord<'a> {
    order: &'a [u8],
    scales: &'a [u8],
    planes: Planes<'a>,
    depth: Depth,
}

impl<'a> CodedRecord<'a> {
    /// Bytes of a page.
    pub fn length(tokens: usize, dim: usize, depth: Depth) -> usize {
        (tokens * order_bits(tokens)).div_ceil(8) + tokens * (2 + depth.bytes_per_token(dim))
    }

    /// Cuts a record into its parts, as deep as `bytes` reach; `None` if they are too short for `depth`.
    pub fn cut(bytes: &'a [u8], tokens: usize, dim: usize, depth: Depth) -> Option<Self> {
        let part = level_width(dim) / 4;
        let (order, rest) = bytes.split_at_checked((tokens * order_bits(tokens)).div_ceil(8))?;
        let (scales, rest) = rest.split_at_checked(2 * tokens)?;
        let (first, rest) = rest.split_at_checked(tokens * part)?;
        let (second, rest) = rest.split_at_checked(if depth == Depth::Two { 0 } else { tokens * part })?;
        let (third, _) = rest.split_at_checked(if depth == Depth::Eight { tokens * 2 * part } else { 0 })?;
        Some(Self { order, scales, planes: Planes { first, second, third }, depth })
    }

    /// The original token of the coded token `at`.
    pub fn original(&self, at: usize, tokens: usize) -> usize {
        let bits = order_bits(tokens);
        let bit = |bit: usize| usize::from(self.order[(at * bits + bit) / 8] >> ((at * bits + bit) % 8)) & 1;
        // Damaged bytes may name a token that is not there.
        (0..bits).map(|at| bit(at) << at).sum::<usize>().min(tokens - 1)
    }

    /// What one level of each token is worth.
    pub fn scales(&self, scales: &mut Vec<f32>) {
        let unit = 1.0 / self.depth.unit();
        read_halves(self.scales, scales);
        scales.iter_mut().for_each(|scale| *scale *= unit);
    }

    /// Whether the tokens of one centroid are repetitions of it: no scale exceeds `most`.
    pub fn repeats(&self, run: Range<usize>, most: f32) -> bool {
        halves(&self.scales[2 * run.start..2 * run.end]).all(|scale| scale <= most)
    }

    /// The scales and levels of some runs, one after the other; the runs hold `tokens` tokens.
    pub fn of_runs(
        &self,
        runs: &[Range<usize>],
        tokens: usize,
        dim: usize,
        scales: &mut Vec<f32>,
        levels: &mut Lines<u8>,
    ) {
        let (unit, width) = (1.0 / self.depth.unit(), level_width(dim));
        levels.resize(tokens * width);
        scales.clear();
        for run in runs {
            let cut = |plane: &'a [u8], bytes: usize| plane.get(bytes * run.start..bytes * run.end).unwrap_or_default();
            let planes = Planes {
                first: cut(self.planes.first, width / 4),
                second: cut(self.planes.second, width / 4),
                third: cut(self.planes.third, width / 2),
            };
            let start = scales.len() * width;
            scales.extend(halves(&self.scales[2 * run.start..2 * run.end]).map(|scale| scale * unit));
            decode_levels(self.depth, planes, width, &mut levels.values_mut()[start..][..run.len() * width]);
        }
    }

    /// Levels of all tokens, `tokens x width`.
    pub fn levels(&self, dim: usize, levels: &mut Lines<u8>) {
        levels.resize(self.scales.len() / 2 * level_width(dim));
        decode_levels(self.depth, self.planes, level_width(dim), levels.values_mut());
    }

    /// What the codes stand for, `tokens x dim`, tokens in their original order.
    pub fn values(&self, groups: &[Group], codebook: &Codebook) -> Vec<f32> {
        let (dim, tokens) = (codebook.dim(), self.scales.len() / 2);
        let (mut scales, mut levels) = (Vec::new(), Lines::default());
        self.scales(&mut scales);
        self.levels(dim, &mut levels);
        let mut values = vec![0.0; tokens * dim];
        let centroids = groups.iter().flat_map(|group| (0..=group.more).map(|_| usize::from(group.centroid)));
        for (at, centroid) in centroids.enumerate().take(tokens) {
            let token = &mut values[self.original(at, tokens) * dim..][..dim];
            codebook.centroid(centroid, token);
            let levels = &levels.values()[at * level_width(dim)..][..dim];
            for (value, level) in token.iter_mut().zip(levels) {
                *value += (f32::from(*level) - f32::from(ZERO_LEVEL)) * scales[at];
            }
        }
        values
    }
}

/// A page in direct codes, tokens in their original order: `scales f16 | levels u8, tokens x width`.
#[derive(Clone, Copy)]
pub(crate) struct DirectRecord<'a> {
    scales: &'a [u8],
    pub levels: &'a [u8],
}

impl<'a> DirectRecord<'a> {
    /// Bytes of a page.
    pub fn length(tokens: usize, dim: usize) -> usize {
        tokens * (2 + level_width(dim))
    }

    /// Cuts a record into its parts; `None` if it is too short.
    pub fn cut(bytes: &'a [u8], tokens: usize, dim: usize) -> Option<Self> {
        let (scales, rest) = bytes.split_at_checked(2 * tokens)?;
        let (levels, _) = rest.split_at_checked(tokens * level_width(dim))?;
        Some(Self { scales, levels })
    }

    /// What one level of each token is worth.
    pub fn scales(&self, scales: &mut Vec<f32>) {
        read_halves(self.scales, scales);
    }

    /// What the codes stand for, `tokens x dim`.
    pub fn values(&self, dim: usize) -> Vec<f32> {
        let scales = halves(self.scales);
        let tokens = self.levels.chunks_exact(level_width(dim)).zip(scales);
        tokens
            .flat_map(|(levels, scale)| {
                levels[..dim].iter().map(move |level| (f32::from(*level) - f32::from(ZERO_LEVEL)) * scale)
            })
            .collect()
    }
}
