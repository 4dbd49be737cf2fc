//! Encodes the vectors of one page.

use half::f16;

use super::Codebook;
use super::record::{CodedRecord, pack_order};
use crate::bytes::put_halves;
use crate::kernel::Depth;
use crate::kernel::levels::{LARGEST, QUARTERS, SPANS, STARTS, level_width, magnitude};
use crate::rounding::{rounded, whole};
use crate::vectors::largest;

/// Fits the scale to the codes and the codes to the scale; more rounds change the error by less than a hundredth.
const SCALE_ROUNDS: usize = 2;

/// Tokens of a page that share a centroid: up to 256; more make another group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Group {
    pub centroid: u16,
    /// Tokens, less one.
    pub more: u8,
}

/// The groups of sorted centroids.
pub(crate) fn groups_of(centroids: &[u16]) -> Vec<Group> {
    let runs = centroids.chunk_by(|one, two| one == two).flat_map(|run| run.chunks(256));
    runs.map(|run| Group { centroid: run[0], more: (run.len() - 1) as u8 }).collect()
}

/// Turns pages into codes of one depth by one codebook.
pub(crate) struct PageEncoder<'a> {
    codebook: &'a Codebook,
    depth: Depth,
    /// Whether the vectors are kept beside the codes, and scored in full.
    keeps_f16: bool,
}

/// A page in codes.
#[derive(Clone, Debug)]
pub(crate) struct CodedPage {
    /// The page's part of a segment file: as [`CodedRecord`] reads it, or [`DirectRecord`](super::DirectRecord) where there
    /// are no groups, then the f16 copy where it is kept.
    pub record: Vec<u8>,
    pub groups: Vec<Group>,
    /// The longest residual, or vector without a codebook, as it is scored in full: by the codes, or by the f16 copy.
    pub radius: f32,
    /// The largest distance between what a token's first plane stands for and what is scored in full. Kept for the format:
    /// searches bound coded pages by their centroids.
    pub coarse_error: f32,
}

/// The codes of one token.
#[derive(Default)]
struct TokenCodes {
    /// Per value: sign and quarter, 4 bits; step within the quarter, 4 bits.
    codes: Vec<u8>,
    scale: f16,
}

impl<'a> PageEncoder<'a> {
    pub fn new(codebook: &'a Codebook, depth: Depth, keeps_f16: bool) -> Self {
        Self { codebook, depth, keeps_f16 }
    }

    pub fn codebook(&self) -> &'a Codebook {
        self.codebook
    }

    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// Encodes `vectors`, `tokens x dim`, 1 to 65,535 tokens.
    pub fn encode(&self, vectors: &[f32]) -> CodedPage {
        let dim = self.codebook.dim();
        let part = level_width(dim) / 4;
        let assigned = self.codebook.assign(vectors);
        let mut order: Vec<u16> = (0..assigned.len() as u16).collect();
        order.sort_by_key(|token| assigned[usize::from(*token)]);
        let centroids: Vec<u16> = order.iter().map(|token| assigned[usize::from(*token)]).collect();
        let tokens = order.len();
        let mut record = pack_order(&order);
        let scales_at = record.len();
        let first_at = scales_at + 2 * tokens;
        record.resize(first_at + tokens * self.depth.bytes_per_token(dim), 0);
        let (head, planes) = record.split_at_mut(first_at);
        let (first, rest) = planes.split_at_mut(tokens * part);
        let (second, third) = rest.split_at_mut(if self.depth == Depth::Two { 0 } else { tokens * part });
        let (mut residual, mut codes) = (vec![0.0; dim], TokenCodes::default());
        let (mut radius, mut coarse_error) = (0.0f32, 0.0f32);
        for (at, (token, centroid)) in order.iter().zip(&centroids).enumerate() {
            self.codebook.centroid(usize::from(*centroid), &mut residual);
            let vector = &vectors[usize::from(*token) * dim..][..dim];
            residual.iter_mut().zip(vector).for_each(|(residual, value)| *residual = value - *residual);
            self.encode_token(&residual, &mut codes);
            head[scales_at + 2 * at..][..2].copy_from_slice(&codes.scale.to_le_bytes());
            if !self.keeps_f16 {
                // From here on the residual is what the codes stand for.
                let by = codes.scale.to_f32() / self.depth.unit();
                residual.iter_mut().zip(&codes.codes).for_each(|(value, code)| *value = by * self.depth.level(*code));
            }
            let (length, error) = length_and_coarse_error(&residual, &codes);
            (radius, coarse_error) = (radius.max(length), coarse_error.max(error));
            for (p, codes) in codes.codes.chunks(part).enumerate() {
                let put = |plane: &mut [u8], shift: usize, mask: u8, place: usize| {
                    plane.iter_mut().zip(codes).for_each(|(byte, code)| *byte |= (code >> shift & mask) << place);
                };
                put(&mut first[at * part..], 6, 3, 2 * p);
                if self.depth != Depth::Two {
                    put(&mut second[at * part..], 4, 3, 2 * p);
                }
                if self.depth == Depth::Eight {
                    put(&mut third[at * 2 * part + p % 2 * part..], 0, 15, p / 2 * 4);
                }
            }
        }
        if self.keeps_f16 {
            put_halves(vectors, &mut record);
        }
        CodedPage { record, groups: groups_of(&centroids), radius, coarse_error }
    }

    fn encode_token(&self, residual: &[f32], token: &mut TokenCodes) {
        let square: f32 = residual.iter().map(|value| value * value).sum();
        let mut scale = (square / residual.len() as f32).sqrt();
        token.codes.clear();
        token.codes.resize(residual.len(), 0);
        if self.depth == Depth::Eight {
            // Nothing is cut off: a residual with one large value gets a larger scale.
            let reach = f32::from(LARGEST) / Depth::Eight.unit();
            token.scale = f16::from_f32(scale.max(largest(residual) / reach));
            scale = token.scale.to_f32();
        }
        for _ in 0..if self.depth == Depth::Eight { 1 } else { SCALE_ROUNDS } {
            let by = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            for (value, code) in residual.iter().zip(&mut token.codes) {
                *code = self.code(value * by);
            }
            if self.depth != Depth::Eight {
                scale = fitted_scale(residual, &token.codes, self.depth).unwrap_or(scale);
                token.scale = f16::from_f32(scale);
            }
        }
    }

    /// Sign and quarter, and the step within it at [`Depth::Eight`], of a value in units of the scale.
    fn code(&self, value: f32) -> u8 {
        let sign = if value < 0.0 { 0 } else { 0x80 };
        if self.depth == Depth::Eight {
            let magnitude = rounded(value.abs() * Depth::Eight.unit()).min(f32::from(LARGEST));
            return sign | STEPS[whole(magnitude) as usize];
        }
        let quarter = QUARTERS.iter().map(|start| u8::from(value.abs() >= *start)).sum::<u8>();
        sign | quarter << 4
    }
}

/// Quarter and step of each magnitude of three planes.
const STEPS: [u8; LARGEST as usize + 1] = {
    let mut steps = [0; LARGEST as usize + 1];
    let mut wanted = 0;
    while wanted <= LARGEST as usize {
        let mut quarter = 7;
        while quarter > 0 && STARTS[quarter] as usize > wanted {
            quarter -= 1;
        }
        // The last step whose magnitude does not exceed it, and the next where that is nearer.
        let mut step = 15;
        while step > 0 && magnitude(quarter, step) as usize > wanted {
            step -= 1;
        }
        if step < 15 && SPANS[quarter] > 16 {
            let (below, above) = (magnitude(quarter, step) as usize, magnitude(quarter, step + 1) as usize);
            if above - wanted < wanted - below {
                step += 1;
            }
        }
        steps[wanted] = (quarter as u8) << 4 | step;
        wanted += 1;
    }
    steps
};

/// The scale at which the codes' levels have the least squared distance from the residual.
fn fitted_scale(residual: &[f32], codes: &[u8], depth: Depth) -> Option<f32> {
    let levels = codes.iter().map(|code| depth.level(*code));
    let (dot, square) = residual
        .iter()
        .zip(levels)
        .fold((0.0, 0.0), |(dot, square), (value, level)| (dot + value * level, square + level * level));
    (dot > 0.0).then(|| dot / square * depth.unit())
}

/// The length of the residual, and its distance from what the first plane stands for.
fn length_and_coarse_error(residual: &[f32], token: &TokenCodes) -> (f32, f32) {
    let scale = token.scale.to_f32() / Depth::Two.unit();
    // Both sums in one pass: each addition waits for the one before.
    let (square, error) = residual.iter().zip(&token.codes).fold((0.0f32, 0.0f32), |(square, error), (value, code)| {
        (square + value * value, error + (value - scale * Depth::Two.level(*code)).powi(2))
    });
    (square.sqrt(), error.sqrt())
}

impl CodedPage {
    /// What the codes stand for, `tokens x dim`, tokens in their original order.
    pub fn values(&self, encoder: &PageEncoder<'_>) -> Vec<f32> {
        let tokens = self.groups.iter().map(|group| usize::from(group.more) + 1).sum();
        match CodedRecord::cut(&self.record, tokens, encoder.codebook.dim(), encoder.depth) {
            Some(record) => record.values(&self.groups, encoder.codebook),
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codes::train::{Random, train};

    fn random_pages(dim: usize, tokens: usize, pages: usize, seed: u64) -> Vec<Vec<f32>> {
        let mut random = Random(seed);
        let mut page = || (0..tokens * dim).map(|_| random.normal() / (dim as f32).sqrt()).collect();
        (0..pages).map(|_| page()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn decoded_tokens_stand_where_they_stood_and_nearer_with_more_bits(
            dim in prop::sample::select(vec![3usize, 8, 96, 128, 320]), tokens in 1usize..300, seed in any::<u64>(),
        ) {
            let pages = random_pages(dim, tokens, 2, seed);
            let mut before = f32::INFINITY;
            for (depth, most) in [(Depth::Two, 0.6), (Depth::Four, 0.2), (Depth::Eight, 0.03)] {
                let codebook = train(&pages, dim, (2 * tokens) as u64, depth, 0);
                let encoder = PageEncoder::new(&codebook, depth, false);
                let page = encoder.encode(&pages[0]);
                let values = page.values(&encoder);
                prop_assert_eq!(values.len(), tokens * dim);
                let difference: f32 = values.iter().zip(&pages[0]).map(|(one, two)| (one - two).powi(2)).sum();
                let length: f32 = pages[0].iter().map(|value| value * value).sum();
                let error = (difference / length).sqrt();
                prop_assert!(error < most && error <= before + 0.02, "{depth:?}: {error} after {before}");
                let reported = page.coarse_error;
                prop_assert!(reported <= page.radius + 1e-3 && reported.is_finite());
                before = error;
            }
        }
    }

    #[test]
    fn steps_name_the_nearest_magnitude() {
        for wanted in 0..=LARGEST {
            let code = STEPS[usize::from(wanted)];
            let reached = magnitude(usize::from(code >> 4), code & 15);
            let nearest = (0..128u8).map(|code| magnitude(usize::from(code >> 4), code & 15).abs_diff(wanted)).min();
            assert_eq!(Some(reached.abs_diff(wanted)), nearest, "{wanted}");
        }
    }

    #[test]
    fn long_runs_make_several_groups() {
        let centroids = [vec![3; 600], vec![9; 1]].concat();
        let groups: Vec<(u16, u8)> = groups_of(&centroids).iter().map(|group| (group.centroid, group.more)).collect();
        assert_eq!(groups, [(3, 255), (3, 255), (3, 87), (9, 0)]);
    }
}
