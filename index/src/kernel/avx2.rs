//! AVX2: pairs of products in 16 bits would overflow, so levels and query are widened to i16 first.

use std::arch::x86_64::*;

use super::levels::{Depth, FOUR_LEVELS, Planes, SPANS, STARTS, TWO_LEVELS, ZERO_LEVEL};
use super::tile::{Machine, entry_points};
use super::ymm::Ymm;

/// Whether this machine has it.
pub(super) fn is_present() -> bool {
    is_x86_feature_detected!("avx2")
}

struct Avx2;

// SAFETY of all functions: the caller has checked the instruction set; pointers are valid as `Machine` says.
impl Machine for Avx2 {
    type Registers = Ymm;
    /// The levels of values 0 and 2, and of 1 and 3, as i16.
    type Levels = (__m256i, __m256i);
    const TOKENS: usize = 2;

    #[inline(always)]
    unsafe fn levels(levels: *const u8) -> (__m256i, __m256i) {
        unsafe {
            let bytes = _mm256_set1_epi32(levels.cast::<i32>().read_unaligned());
            (_mm256_and_si256(bytes, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(bytes))
        }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256i, levels: (__m256i, __m256i), query: *const i8) -> __m256i {
        unsafe {
            let values = _mm256_loadu_si256(query.cast());
            let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(values));
            let odd = _mm256_srai_epi16::<8>(values);
            let products = _mm256_add_epi32(_mm256_madd_epi16(levels.0, even), _mm256_madd_epi16(levels.1, odd));
            _mm256_add_epi32(sums, products)
        }
    }
}

entry_points!(Avx2, "avx2");

/// Level bytes of 32 codes.
///
/// # Safety
/// [`is_present`] was true.
#[inline(always)]
unsafe fn look_up(table: __m256i, codes: __m256i) -> __m256i {
    // SAFETY: AVX2 is present.
    unsafe { _mm256_shuffle_epi8(table, codes) }
}

/// Bits `shift..shift + bits` of each byte.
///
/// # Safety
/// [`is_present`] was true.
#[inline(always)]
unsafe fn field(bytes: __m256i, shift: usize, mask: i8) -> __m256i {
    // SAFETY: AVX2 is present. Bits that cross from the next byte are masked off.
    unsafe { _mm256_and_si256(_mm256_srl_epi64(bytes, _mm_cvtsi64_si128(shift as i64)), _mm256_set1_epi8(mask)) }
}

/// As [`decode_levels`](super::levels::decode_levels), for parts of whole 32 bytes.
///
/// # Safety
/// [`is_present`] was true.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn decode_levels(depth: Depth, planes: Planes<'_>, width: usize, levels: &mut [u8]) {
    let part = width / 4;
    let tokens = levels.len() / width;
    assert!(part.is_multiple_of(32) && planes.first.len() >= tokens * part);
    assert!(depth == Depth::Two || planes.second.len() >= tokens * part);
    assert!(depth != Depth::Eight || planes.third.len() >= tokens * 2 * part);
    // SAFETY: AVX2 is present; all reads and writes are of 32 bytes within the lengths just checked.
    unsafe {
        let table = |bytes: [u8; 16]| _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast()));
        let two = table(std::array::from_fn(|code| TWO_LEVELS[code & 3]));
        let four = table(FOUR_LEVELS);
        let starts = table(std::array::from_fn(|code| STARTS[code & 7]));
        let spans = table(std::array::from_fn(|code| SPANS[code & 7]));
        let low = _mm256_set1_epi16(0xff);
        for token in 0..tokens {
            for at in (0..part).step_by(32) {
                let first = _mm256_loadu_si256(planes.first.as_ptr().add(token * part + at).cast());
                let second = match depth {
                    Depth::Two => first,
                    _ => _mm256_loadu_si256(planes.second.as_ptr().add(token * part + at).cast()),
                };
                for p in 0..4 {
                    let sign = field(first, 2 * p, 3);
                    let decoded = if depth == Depth::Two {
                        look_up(two, sign)
                    } else {
                        let code = _mm256_or_si256(_mm256_slli_epi16::<2>(sign), field(second, 2 * p, 3));
                        if depth == Depth::Four {
                            look_up(four, code)
                        } else {
                            let third = planes.third.as_ptr().add(token * 2 * part + (p & 1) * part + at);
                            let step = field(_mm256_loadu_si256(third.cast()), 4 * (p / 2), 15);
                            let span = look_up(spans, code);
                            // 16-bit products of even and odd bytes.
                            let even = _mm256_mullo_epi16(_mm256_and_si256(step, low), _mm256_and_si256(span, low));
                            let odd = _mm256_mullo_epi16(_mm256_srli_epi16::<8>(step), _mm256_srli_epi16::<8>(span));
                            let even = _mm256_srli_epi16::<4>(even);
                            let odd = _mm256_slli_epi16::<8>(_mm256_srli_epi16::<4>(odd));
                            let magnitude = _mm256_add_epi8(look_up(starts, code), _mm256_or_si256(even, odd));
                            let zero = _mm256_set1_epi8(ZERO_LEVEL as i8);
                            let above = _mm256_add_epi8(zero, magnitude);
                            let below = _mm256_sub_epi8(zero, magnitude);
                            let positive = _mm256_cmpgt_epi8(code, _mm256_set1_epi8(7));
                            _mm256_blendv_epi8(below, above, positive)
                        }
                    };
                    let target = levels.as_mut_ptr().add(token * width + p * part + at);
                    _mm256_storeu_si256(target.cast(), decoded);
                }
            }
        }
    }
}
