//! Bit planes to levels by AVX2: tables of 16 bytes, and the products that three planes take in 16 bits.

use std::arch::x86_64::*;

use super::levels::{Depth, FOUR_LEVELS, Planes, SPANS, STARTS, TWO_LEVELS, ZERO_LEVEL, check_rows, rows};

/// Entries of a table by codes whose upper bits do not count.
const fn repeated<const N: usize>(entries: &[u8; N]) -> [u8; 16] {
    let mut table = [0; 16];
    let mut code = 0;
    while code < 16 {
        table[code] = entries[code % N];
        code += 1;
    }
    table
}

const TWO: [u8; 16] = repeated(&TWO_LEVELS);
const FOUR: [u8; 16] = repeated(&FOUR_LEVELS);
const QUARTER_STARTS: [u8; 16] = repeated(&STARTS);
const QUARTER_SPANS: [u8; 16] = repeated(&SPANS);

/// Turns the planes of `tokens` tokens into levels.
///
/// # Safety
/// AVX2 is present.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn decode(depth: Depth, planes: Planes<'_>, width: usize, tokens: usize, levels: &mut [u8]) {
    check_rows(depth, planes, width, tokens, levels);
    // SAFETY: AVX2 is present, and lengths were just checked.
    unsafe {
        match depth {
            Depth::Two => decode_bits::<2>(planes, width, tokens, levels),
            Depth::Four => decode_bits::<4>(planes, width, tokens, levels),
            Depth::Eight => decode_bits::<8>(planes, width, tokens, levels),
        }
    }
}

/// # Safety
/// As for [`decode`]; planes and levels hold so many tokens, and rows of 32 bytes.
#[inline(always)]
unsafe fn decode_bits<const BITS: usize>(planes: Planes<'_>, width: usize, tokens: usize, levels: &mut [u8]) {
    let part = width / 4;
    // SAFETY: as the caller says.
    unsafe {
        for token in 0..tokens {
            for at in rows(part) {
                let first = row(planes.first, token * part + at);
                let second = if BITS >= 4 { row(planes.second, token * part + at) } else { first };
                for p in 0..4 {
                    let mut code = field(first, 2 * p, 3);
                    if BITS >= 4 {
                        code = _mm256_or_si256(_mm256_slli_epi16::<2>(code), field(second, 2 * p, 3));
                    }
                    let decoded = match BITS {
                        2 => look_up(&TWO, code),
                        4 => look_up(&FOUR, code),
                        _ => {
                            let third = row(planes.third, token * 2 * part + (p & 1) * part + at);
                            eight_levels(code, field(third, 4 * (p / 2), 15))
                        }
                    };
                    let target = levels.as_mut_ptr().add(token * width + p * part + at);
                    _mm256_storeu_si256(target.cast(), decoded);
                }
            }
        }
    }
}

/// The levels of three planes by sign and quarter, and step.
///
/// # Safety
/// AVX2 is present.
#[inline(always)]
unsafe fn eight_levels(code: __m256i, step: __m256i) -> __m256i {
    // SAFETY: AVX2 is present.
    unsafe {
        let span = look_up(&QUARTER_SPANS, code);
        let low = _mm256_set1_epi16(0xff);
        // 16-bit products of even and odd bytes.
        let even = _mm256_mullo_epi16(_mm256_and_si256(step, low), _mm256_and_si256(span, low));
        let odd = _mm256_mullo_epi16(_mm256_srli_epi16::<8>(step), _mm256_srli_epi16::<8>(span));
        let even = _mm256_srli_epi16::<4>(even);
        let odd = _mm256_slli_epi16::<8>(_mm256_srli_epi16::<4>(odd));
        let magnitude = _mm256_add_epi8(look_up(&QUARTER_STARTS, code), _mm256_or_si256(even, odd));
        let zero = _mm256_set1_epi8(ZERO_LEVEL as i8);
        let positive = _mm256_cmpgt_epi8(code, _mm256_set1_epi8(7));
        _mm256_blendv_epi8(_mm256_sub_epi8(zero, magnitude), _mm256_add_epi8(zero, magnitude), positive)
    }
}

/// # Safety
/// AVX2 is present; the plane holds 32 bytes at `at`.
#[inline(always)]
unsafe fn row(plane: &[u8], at: usize) -> __m256i {
    // SAFETY: as the caller says.
    unsafe { _mm256_loadu_si256(plane.as_ptr().add(at).cast()) }
}

/// Entries of 32 codes.
///
/// # Safety
/// AVX2 is present.
#[inline(always)]
unsafe fn look_up(table: &[u8; 16], codes: __m256i) -> __m256i {
    // SAFETY: AVX2 is present.
    unsafe {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        _mm256_shuffle_epi8(table, codes)
    }
}

/// Bits of each byte from `shift` on.
///
/// # Safety
/// AVX2 is present.
#[inline(always)]
unsafe fn field(bytes: __m256i, shift: usize, mask: i8) -> __m256i {
    // SAFETY: AVX2 is present. Bits that cross from the next byte are masked off.
    unsafe { _mm256_and_si256(_mm256_srl_epi64(bytes, _mm_cvtsi64_si128(shift as i64)), _mm256_set1_epi8(mask)) }
}
