//! A query in int8, one lane per query token, and its dot products with stored levels.
//!
//! Lanes come in groups of eight or sixteen, one register of i32 sums. Four or eight values of a page token, as the machine's
//! [`Layout`] says, are broadcast to all lanes and multiplied with as many of each query token: few sums across lanes are
//! needed, and the best score of each query token stays in its lane.

use super::levels::{ZERO_LEVEL, level_width};
use super::lines::Lines;
use super::machines;
use crate::rounding::{rounded, whole};
use crate::vectors::largest;

/// The steps of the second int8 within one of the first.
const FINE_STEPS: f32 = 128.0;

/// How exactly the query is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Grade {
    /// One int8 per value: for passes that only choose.
    Coarse,
    /// Two, 15 bits: for scores that are reported. Twice the work.
    Refined,
}

/// How a machine takes the values of the query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    /// Values of a lane that stand together: 4 or 8.
    pub step: usize,
    /// Lanes of a register: they are rounded up to a multiple of these.
    pub lanes: usize,
}

impl Layout {
    /// Four values at a time in 256-bit registers.
    pub const NARROW: Self = Self { step: 4, lanes: 8 };
}

/// Quantized query tokens (or any vectors that many stored tokens are compared with).
///
/// Lane scores are in units of the lane's scale: `score = lane score * scales()[lane]`.
#[derive(Debug)]
pub(crate) struct QueryLanes {
    dim: usize,
    tokens: usize,
    lanes: usize,
    layout: Layout,
    /// `width / step (rounded up) x lanes x step`.
    coarse: Lines<i8>,
    /// As `coarse`, in 1 / 128 of its units; empty where only the coarse grade is asked for.
    fine: Lines<i8>,
    /// Sums of the values of each lane times [`ZERO_LEVEL`]: what level bytes add to the dot product by not being signed.
    coarse_zero: Vec<i32>,
    fine_zero: Vec<i32>,
    scales: Vec<f32>,
    inverse_scales: Vec<f32>,
    coarse_error: f32,
}

impl QueryLanes {
    /// For scores up to `grade` on this machine; `query` is `query tokens x dim`.
    pub fn new(query: &[f32], dim: usize, grade: Grade) -> Self {
        Self::laid_out(query, dim, grade, machines::chosen().layout)
    }

    /// As [`new`](Self::new), for machines that take queries as `layout` says.
    pub(super) fn laid_out(query: &[f32], dim: usize, grade: Grade, layout: Layout) -> Self {
        let tokens = query.len() / dim;
        let lanes = tokens.next_multiple_of(layout.lanes);
        let bytes = level_width(dim).next_multiple_of(layout.step) * lanes;
        let mut made = Self {
            dim,
            tokens,
            lanes,
            layout,
            coarse: Lines::new(bytes),
            fine: Lines::new(if grade == Grade::Refined { bytes } else { 0 }),
            coarse_zero: vec![0; lanes],
            fine_zero: vec![0; lanes],
            scales: vec![0.0; lanes],
            inverse_scales: vec![0.0; lanes],
            coarse_error: 0.0,
        };
        for (lane, token) in query.chunks_exact(dim).enumerate() {
            made.set(lane, token);
        }
        made
    }

    fn set(&mut self, lane: usize, token: &[f32]) {
        let largest = largest(token);
        let step = if largest >= 127.0 * f32::MIN_POSITIVE { largest / 127.0 } else { 1.0 };
        self.scales[lane] = step;
        self.inverse_scales[lane] = 1.0 / step;
        let exact: Vec<f32> = token.iter().map(|value| value / step).collect();
        let coarse: Vec<f32> = exact.iter().map(|exact| rounded(*exact).clamp(-127.0, 127.0)).collect();
        let place = Place { lane, lanes: self.lanes, step: self.layout.step };
        self.coarse_zero[lane] = place.put(&coarse, self.coarse.values_mut());
        // What is left of the first values.
        let rest: Vec<f32> = exact.iter().zip(&coarse).map(|(exact, coarse)| exact - coarse).collect();
        if !self.fine.values().is_empty() {
            let fine: Vec<f32> = rest.iter().map(|rest| rounded(rest * FINE_STEPS).clamp(-64.0, 64.0)).collect();
            self.fine_zero[lane] = place.put(&fine, self.fine.values_mut());
        }
        self.coarse_error += rest.iter().map(|rest| (rest * step).powi(2)).sum::<f32>().sqrt();
    }

    /// Query tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Query tokens, rounded up to whole registers.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Values per token.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// What one unit of a lane's score is worth; 0 for lanes without a token.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The sum over tokens of the length of what the coarse grade leaves out.
    pub fn coarse_error(&self) -> f32 {
        self.coarse_error
    }

    /// The sum of the best scores of all lanes.
    pub fn total(&self, best: &[f32]) -> f32 {
        best[..self.tokens].iter().zip(&self.scales).map(|(best, scale)| best * scale).sum()
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    pub(super) fn inverse_scales(&self) -> &[f32] {
        &self.inverse_scales
    }

    /// What is multiplied for scores by `grade`.
    pub(super) fn parts(&self, grade: Grade) -> Parts<'_> {
        let fine = if grade == Grade::Coarse { &[] } else { self.fine.values() };
        assert!(grade == Grade::Coarse || !fine.is_empty(), "the query was made for the coarse grade");
        Parts {
            coarse: self.coarse.values(),
            fine,
            coarse_zero: &self.coarse_zero,
            fine_zero: &self.fine_zero,
            stride: self.lanes * self.layout.step,
        }
    }
}

/// Where the values of a lane stand.
#[derive(Clone, Copy)]
struct Place {
    lane: usize,
    lanes: usize,
    step: usize,
}

impl Place {
    /// Puts whole numbers within i8 there; returns what they add to the products with levels by these not being signed.
    fn put(self, values: &[f32], part: &mut [i8]) -> i32 {
        for (values, to) in values.chunks(self.step).zip(part.chunks_exact_mut(self.lanes * self.step)) {
            values.iter().zip(&mut to[self.lane * self.step..]).for_each(|(value, to)| *to = whole(*value) as i8);
        }
        // The sum of what was put, NaN too, and wrapping as the sums of the machines are: then the two always cancel out.
        let sum = values.iter().fold(0i32, |sum, value| sum.wrapping_add(i32::from(whole(*value) as i8)));
        sum.wrapping_mul(i32::from(ZERO_LEVEL))
    }
}

/// The values of a query, and what is to be taken off their sums.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub coarse: &'a [i8],
    /// Empty at the coarse grade.
    pub fine: &'a [i8],
    pub coarse_zero: &'a [i32],
    pub fine_zero: &'a [i32],
    /// Bytes from one step's values of all lanes to the next.
    pub stride: usize,
}

/// Neighbouring page tokens as the kernel takes them.
#[derive(Clone, Copy)]
pub(crate) struct Tokens<'a> {
    /// `tokens x width` bytes.
    pub levels: &'a [u8],
    /// What one level of each token is worth.
    pub scales: &'a [f32],
    /// Rows that are added to the tokens' scores, where tokens are residuals of centroids.
    pub rows: Option<Rows<'a>>,
}

/// Lane scores of centroids.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rows<'a> {
    /// `centroids x lanes`.
    pub table: &'a [f32],
    /// The centroid of each token.
    pub centroids: &'a [u16],
}

/// Raises `best` (one lane score per lane) to the best score of each lane with `tokens`: MaxSim, fused.
pub(crate) fn raise_best(query: &QueryLanes, grade: Grade, tokens: Tokens<'_>, best: &mut [f32]) {
    (machines::chosen().raise_best)(query, grade, tokens, best)
}

/// Writes the lane scores of each token, `tokens x lanes`.
pub(crate) fn fill_rows(query: &QueryLanes, grade: Grade, levels: &[u8], scales: &[f32], rows: &mut [f32]) {
    (machines::chosen().fill_rows)(query, grade, levels, scales, rows)
}

/// For each lane the index of the centroid with the highest `lane score - half_norm / lane scale`, that is the nearest one,
/// by the coarse grade; the lowest index among equals.
pub(crate) fn nearest(query: &QueryLanes, levels: &[u8], scales: &[f32], half_norms: &[f32], found: &mut [u32]) {
    (machines::chosen().nearest)(query, levels, scales, half_norms, found)
}
