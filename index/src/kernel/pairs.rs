//! Single query tokens with runs of page tokens, straight from the first bit planes: where centroids leave few page tokens
//! that can be a query token's best, only these are multiplied.
//!
//! The query is kept by planes: bits `2p` of a plane's bytes are the values from `p * part` on, so 32 bytes of a plane meet
//! 32 neighbouring values of the query four times. Parts are filled up with zeros, which cancel what is read beyond them.

use std::ops::Range;

use half::f16;

use super::levels::{Depth, FOUR_LEVELS, Planes, TWO_LEVELS, ZERO_LEVEL, level_width};
use super::{Grade, QueryLanes};

/// Bytes of a plane that are looked at together.
const STEP: usize = 32;

/// Tokens that are multiplied before their sums are added up.
const BATCH: usize = 8;

/// A query by planes, 8 bits a value.
#[derive(Clone, Debug)]
pub(crate) struct PairQuery {
    /// Bytes per plane and page token.
    part: usize,
    /// `query tokens x 4 x part`, each part filled up to whole steps.
    values: Vec<i8>,
    /// What level bytes add to the dot product by not being signed.
    zeros: Vec<i32>,
}

/// Neighbouring tokens of one page, and how deep their planes are read.
#[derive(Clone, Copy)]
pub(crate) struct PairTokens<'a> {
    /// [`Depth::Two`] or [`Depth::Four`].
    pub depth: Depth,
    pub planes: Planes<'a>,
    /// f16, little-endian.
    pub scales: &'a [u8],
}

impl PairQuery {
    /// The query of `lanes`, by the coarse grade.
    pub fn new(lanes: &QueryLanes) -> Self {
        let part = level_width(lanes.dim()) / 4;
        let padded = part.next_multiple_of(STEP);
        let (coarse, _, zeros, _) = lanes.parts(Grade::Coarse);
        let mut values = vec![0; lanes.tokens() * 4 * padded];
        for (lane, values) in values.chunks_exact_mut(4 * padded).enumerate() {
            for at in 0..lanes.dim() {
                values[at / part * padded + at % part] = coarse[(at / 4 * lanes.lanes() + lane) * 4 + at % 4];
            }
        }
        Self { part, values, zeros: zeros.to_vec() }
    }

    fn lane(&self, lane: usize) -> &[i8] {
        let length = 4 * self.part.next_multiple_of(STEP);
        &self.values[lane * length..][..length]
    }

    /// The best lane score of query token `lane` with the residuals of the page tokens of `run`.
    pub fn best(&self, lane: usize, tokens: PairTokens<'_>, run: Range<usize>) -> f32 {
        assert!(tokens.depth != Depth::Eight && run.end * 2 <= tokens.scales.len());
        assert!(run.end * self.part <= tokens.planes.first.len());
        assert!(tokens.depth == Depth::Two || run.end * self.part <= tokens.planes.second.len());
        #[cfg(target_arch = "x86_64")]
        {
            if x86::vnni_is_present() {
                // SAFETY: it was just found to be present; the run is within planes and scales.
                return unsafe { x86::best_by_vnni(self, lane, tokens, run) };
            }
            if x86::avx2_is_present() {
                // SAFETY: as above.
                return unsafe { x86::best_by_avx2(self, lane, tokens, run) };
            }
        }
        self.best_portable(lane, tokens, run)
    }

    /// The version for all machines, and the one that the others are tested against.
    fn best_portable(&self, lane: usize, tokens: PairTokens<'_>, run: Range<usize>) -> f32 {
        let (part, query) = (self.part, self.lane(lane));
        let padded = part.next_multiple_of(STEP);
        let mut best = f32::NEG_INFINITY;
        for token in run {
            let first = &tokens.planes.first[token * part..][..part];
            let mut sum = 0i32;
            for p in 0..4 {
                let values = &query[p * padded..][..part];
                if tokens.depth == Depth::Two {
                    for (value, first) in values.iter().zip(first) {
                        sum += i32::from(*value) * i32::from(TWO_LEVELS[usize::from(first >> (2 * p)) & 3]);
                    }
                } else {
                    let second = &tokens.planes.second[token * part..][..part];
                    for ((value, first), second) in values.iter().zip(first).zip(second) {
                        let code = (usize::from(first >> (2 * p)) & 3) << 2 | usize::from(second >> (2 * p)) & 3;
                        sum += i32::from(*value) * i32::from(FOUR_LEVELS[code]);
                    }
                }
            }
            let scale = f16::from_le_bytes([tokens.scales[2 * token], tokens.scales[2 * token + 1]]).to_f32();
            let score = (sum - self.zeros[lane]) as f32 * (scale * (1.0 / tokens.depth.unit()));
            best = if score > best { score } else { best };
        }
        best
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::*;

    pub(super) fn vnni_is_present() -> bool {
        is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl") && avx2_is_present()
    }

    pub(super) fn avx2_is_present() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")
    }

    /// How an instruction set multiplies 32 level bytes with 32 values.
    trait Multiply {
        /// Whether levels are taken as bytes above zero, so that the zero is to be taken off in the end.
        const UNSIGNED: bool;
        /// # Safety
        /// The instruction set is present.
        unsafe fn add(sums: __m256i, levels: __m256i, values: __m256i) -> __m256i;
    }

    struct Vnni;

    impl Multiply for Vnni {
        const UNSIGNED: bool = true;

        #[inline(always)]
        unsafe fn add(sums: __m256i, levels: __m256i, values: __m256i) -> __m256i {
            // SAFETY: as the trait says.
            unsafe { _mm256_dpbusd_epi32(sums, levels, values) }
        }
    }

    struct Avx2;

    impl Multiply for Avx2 {
        const UNSIGNED: bool = false;

        #[inline(always)]
        unsafe fn add(sums: __m256i, levels: __m256i, values: __m256i) -> __m256i {
            // SAFETY: as the trait says. Magnitudes of up to 120 and 127 make pairs that fit 16 bits.
            unsafe {
                let levels = _mm256_xor_si256(levels, _mm256_set1_epi8(ZERO_LEVEL as i8));
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(levels), _mm256_sign_epi8(values, levels));
                _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
            }
        }
    }

    /// # Safety
    /// [`vnni_is_present`] was true; the run is within planes and scales.
    #[target_feature(enable = "avx512vnni,avx512vl,avx2,f16c")]
    pub(super) unsafe fn best_by_vnni(
        query: &PairQuery,
        lane: usize,
        tokens: PairTokens<'_>,
        run: Range<usize>,
    ) -> f32 {
        // SAFETY: compiled for what the caller has found.
        unsafe {
            match tokens.depth {
                Depth::Two => best::<Vnni, true>(query, lane, tokens, run),
                _ => best::<Vnni, false>(query, lane, tokens, run),
            }
        }
    }

    /// # Safety
    /// [`avx2_is_present`] was true; the run is within planes and scales.
    #[target_feature(enable = "avx2,f16c")]
    pub(super) unsafe fn best_by_avx2(
        query: &PairQuery,
        lane: usize,
        tokens: PairTokens<'_>,
        run: Range<usize>,
    ) -> f32 {
        // SAFETY: compiled for what the caller has found.
        unsafe {
            match tokens.depth {
                Depth::Two => best::<Avx2, true>(query, lane, tokens, run),
                _ => best::<Avx2, false>(query, lane, tokens, run),
            }
        }
    }

    /// # Safety
    /// AVX2, F16C and what `M` needs are present; the run is within planes and scales.
    #[inline(always)]
    unsafe fn best<M: Multiply, const TWO: bool>(
        query: &PairQuery,
        lane: usize,
        tokens: PairTokens<'_>,
        run: Range<usize>,
    ) -> f32 {
        let part = query.part;
        let values = query.lane(lane).as_ptr();
        // SAFETY: a step reads 32 bytes of the query's filled part, and of planes only where `load` finds them.
        unsafe {
            let table = match TWO {
                true => std::array::from_fn(|code| TWO_LEVELS[code & 3]),
                false => FOUR_LEVELS,
            };
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            let three = _mm256_set1_epi8(3);
            let zero = _mm256_set1_epi32(if M::UNSIGNED { query.zeros[lane] } else { 0 });
            let unit = _mm256_set1_ps(1.0 / tokens.depth.unit());
            let mut best = _mm256_set1_ps(f32::NEG_INFINITY);
            let mut start = run.start;
            while start < run.end {
                let count = (run.end - start).min(BATCH);
                let mut sums = [_mm256_setzero_si256(); BATCH];
                for (token, sum) in (start..start + count).zip(&mut sums) {
                    let mut at = 0;
                    while at < part {
                        let mut first = load(tokens.planes.first, token * part + at);
                        let mut second = if TWO { first } else { load(tokens.planes.second, token * part + at) };
                        for p in 0..4 {
                            let code = _mm256_and_si256(first, three);
                            let code = match TWO {
                                true => code,
                                false => {
                                    _mm256_or_si256(_mm256_slli_epi16::<2>(code), _mm256_and_si256(second, three))
                                }
                            };
                            let levels = _mm256_shuffle_epi8(table, code);
                            let values = values.add(p * part.next_multiple_of(STEP) + at);
                            *sum = M::add(*sum, levels, _mm256_loadu_si256(values.cast()));
                            // Bits that cross from the next byte are masked off above.
                            first = _mm256_srli_epi16::<2>(first);
                            second = _mm256_srli_epi16::<2>(second);
                        }
                        at += STEP;
                    }
                }
                let sums = _mm256_sub_epi32(added_up(sums), zero);
                let scales = _mm256_mul_ps(_mm256_cvtph_ps(load_scales(tokens.scales, start, count)), unit);
                let scores = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scales);
                let there = _mm256_cmpgt_epi32(
                    _mm256_set1_epi32(count as i32),
                    _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                );
                let none = _mm256_set1_ps(f32::NEG_INFINITY);
                best = _mm256_max_ps(best, _mm256_blendv_ps(none, scores, _mm256_castsi256_ps(there)));
                start += count;
            }
            let mut lanes = [0.0f32; 8];
            _mm256_storeu_ps(lanes.as_mut_ptr(), best);
            lanes.into_iter().fold(f32::NEG_INFINITY, |best, score| if score > best { score } else { best })
        }
    }

    /// 32 bytes from `at` on; zeros beyond the end.
    ///
    /// # Safety
    /// AVX2 is present, and `at` is not beyond the end.
    #[inline(always)]
    unsafe fn load(bytes: &[u8], at: usize) -> __m256i {
        // SAFETY: 32 bytes are there, or in the copy.
        unsafe {
            if at + STEP <= bytes.len() {
                return _mm256_loadu_si256(bytes.as_ptr().add(at).cast());
            }
            let mut copy = [0u8; STEP];
            copy[..bytes.len() - at].copy_from_slice(&bytes[at..]);
            _mm256_loadu_si256(copy.as_ptr().cast())
        }
    }

    /// The scales of `count` tokens, at most 8, from `token` on.
    ///
    /// # Safety
    /// SSE2 is present, and the tokens have scales.
    #[inline(always)]
    unsafe fn load_scales(scales: &[u8], token: usize, count: usize) -> __m128i {
        // SAFETY: 16 bytes are there, or in the copy.
        unsafe {
            if 2 * token + 16 <= scales.len() {
                return _mm_loadu_si128(scales.as_ptr().add(2 * token).cast());
            }
            let mut copy = [0u8; 16];
            copy[..2 * count].copy_from_slice(&scales[2 * token..][..2 * count]);
            _mm_loadu_si128(copy.as_ptr().cast())
        }
    }

    /// The sum of the 8 integers of each register, in the order of the registers.
    ///
    /// # Safety
    /// AVX2 is present.
    #[inline(always)]
    unsafe fn added_up(sums: [__m256i; BATCH]) -> __m256i {
        // SAFETY: as the function says.
        unsafe {
            let pair = |at: usize| _mm256_hadd_epi32(sums[at], sums[at + 1]);
            let low = _mm256_hadd_epi32(pair(0), pair(2));
            let high = _mm256_hadd_epi32(pair(4), pair(6));
            let (one, other) =
                (_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high));
            _mm256_add_epi32(one, other)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::levels::decode_portable;

    proptest! {
        #[test]
        fn all_versions_find_the_best_of_decoded_tokens(
            dim in prop::sample::select(vec![3usize, 8, 96, 128, 132, 320]), tokens in 1usize..40,
            bytes in prop::collection::vec(any::<u8>(), 40 * 80 * 2), four in any::<bool>(),
            scales in prop::collection::vec(0.001f32..2.0, 40), query in prop::collection::vec(-1.0f32..1.0, 2 * 320),
            ends in (0usize..40, 0usize..40),
        ) {
            let part = level_width(dim) / 4;
            let (first, second) = bytes.split_at(40 * 80);
            let planes = Planes { first: &first[..tokens * part], second: &second[..tokens * part], third: &[] };
            let scales: Vec<u8> = scales[..tokens].iter().flat_map(|scale| f16::from_f32(*scale).to_le_bytes()).collect();
            let depth = if four { Depth::Four } else { Depth::Two };
            let run = ends.0.min(ends.1).min(tokens - 1)..ends.0.max(ends.1).clamp(1, tokens);
            let lanes = QueryLanes::new(&query[..2 * dim], dim, Grade::Coarse);
            let pairs = PairQuery::new(&lanes);
            let page = PairTokens { depth, planes, scales: &scales };
            let mut levels = vec![0; tokens * 4 * part];
            decode_portable(depth, planes, 4 * part, &mut levels);
            for lane in 0..2 {
                let token = &query[lane * dim..][..dim];
                let score = |at: usize| {
                    let scale = f16::from_le_bytes([scales[2 * at], scales[2 * at + 1]]).to_f64() / f64::from(depth.unit());
                    let values = levels[at * 4 * part..][..dim].iter().zip(token);
                    values.map(|(level, value)| (f64::from(*level) - 128.0) * f64::from(*value)).sum::<f64>() * scale
                };
                let naive = run.clone().map(score).fold(f64::NEG_INFINITY, f64::max);
                let portable = pairs.best_portable(lane, page, run.clone());
                let length = token.iter().map(|value| value.abs()).fold(0.0, f32::max);
                let error = 0.5 * f64::from(length) / 127.0 * 128.0 * dim as f64 * 2.0 / f64::from(depth.unit()) + 1e-3;
                prop_assert!((f64::from(portable * lanes.scales()[lane]) - naive).abs() < error, "{portable} {naive}");
                prop_assert_eq!(pairs.best(lane, page, run.clone()).to_bits(), portable.to_bits());
                #[cfg(target_arch = "x86_64")]
                if x86::avx2_is_present() {
                    // SAFETY: it was just found to be present.
                    let found = unsafe { x86::best_by_avx2(&pairs, lane, page, run.clone()) };
                    prop_assert_eq!(found.to_bits(), portable.to_bits());
                }
            }
        }
    }
}
