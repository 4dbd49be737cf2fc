//! Bit planes to levels by AVX-512 VBMI: two parts of a token at a time, in tables of 64 and 128 bytes.

use std::arch::x86_64::*;

use super::levels::{Depth, EIGHT_LEVELS, FOUR_LEVELS, Planes, TWO_LEVELS, check_rows, rows};

/// Whether this machine has it.
pub(super) fn is_present() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi")
}

/// Levels by codes whose upper bits do not count.
const fn repeated<const N: usize>(levels: &[u8; N], from: usize) -> [u8; 64] {
    let mut table = [0; 64];
    let mut code = 0;
    while code < 64 {
        table[code] = levels[from + code % N];
        code += 1;
    }
    table
}

const TWO: [u8; 64] = repeated(&TWO_LEVELS, 0);
const FOUR: [u8; 64] = repeated(&FOUR_LEVELS, 0);
/// Levels that are not negative; that of a negative one is the byte's negative.
const INNER: [u8; 64] = repeated(&EIGHT_LEVELS, 128);
const OUTER: [u8; 64] = repeated(&EIGHT_LEVELS, 192);

/// The bits of `one` where those of `mask` are set, else the bits of `two`.
///
/// # Safety
/// [`is_present`] was true.
#[inline(always)]
unsafe fn choose(mask: i8, one: __m512i, two: __m512i) -> __m512i {
    // SAFETY: as the caller says.
    unsafe { _mm512_ternarylogic_epi64::<0b1100_1010>(_mm512_set1_epi8(mask), one, two) }
}

/// Turns the planes of `tokens` tokens into levels.
///
/// # Safety
/// [`is_present`] was true.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) unsafe fn decode(depth: Depth, planes: Planes<'_>, width: usize, tokens: usize, levels: &mut [u8]) {
    check_rows(depth, planes, width, tokens, levels);
    // SAFETY: the instructions are present, and lengths were just checked.
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
        let (two, four) = (table(&TWO), table(&FOUR));
        let (inner, outer) = (table(&INNER), table(&OUTER));
        for token in 0..tokens {
            for at in rows(part) {
                let first = _mm512_broadcast_i64x4(row(planes.first, token * part + at));
                let (mut second, mut third) = (first, first);
                if BITS >= 4 {
                    second = _mm512_broadcast_i64x4(row(planes.second, token * part + at));
                }
                if BITS == 8 {
                    let place = token * 2 * part + at;
                    third = _mm512_castsi256_si512(row(planes.third, place));
                    third = _mm512_inserti64x4::<1>(third, row(planes.third, place + part));
                }
                for half in 0..2 {
                    // Shifts that bring a part's two bits to the lowest place: part `2 * half` in the lower half of the register.
                    let (one, other) = (4 * half, 4 * half + 2);
                    let shift = _mm512_setr_epi64(one, one, one, one, other, other, other, other);
                    let decoded = match BITS {
                        2 => _mm512_permutexvar_epi8(_mm512_srlv_epi64(first, shift), two),
                        4 => {
                            let first = _mm512_rorv_epi64(first, _mm512_sub_epi64(shift, _mm512_set1_epi64(2)));
                            let second = _mm512_srlv_epi64(second, shift);
                            _mm512_permutexvar_epi8(choose(0b11, second, first), four)
                        }
                        _ => {
                            let first = _mm512_rorv_epi64(first, _mm512_sub_epi64(shift, _mm512_set1_epi64(6)));
                            let second = _mm512_rorv_epi64(second, _mm512_sub_epi64(shift, _mm512_set1_epi64(4)));
                            let third = _mm512_srl_epi64(third, _mm_cvtsi64_si128(4 * half));
                            let code = choose(0b1111, third, choose(0b11_0000, second, first));
                            let level = _mm512_permutex2var_epi8(inner, code, outer);
                            let negative = !_mm512_movepi8_mask(code);
                            _mm512_mask_sub_epi8(level, negative, _mm512_setzero_si512(), level)
                        }
                    };
                    let target = levels.as_mut_ptr().add(token * width + 2 * half as usize * part + at);
                    _mm256_storeu_si256(target.cast(), _mm512_castsi512_si256(decoded));
                    _mm256_storeu_si256(target.add(part).cast(), _mm512_extracti64x4_epi64::<1>(decoded));
                }
            }
        }
    }
}

/// # Safety
/// [`is_present`] was true.
#[inline(always)]
unsafe fn table(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the bytes are there.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// # Safety
/// [`is_present`] was true; the plane holds 32 bytes at `at`.
#[inline(always)]
unsafe fn row(plane: &[u8], at: usize) -> __m256i {
    // SAFETY: as the caller says.
    unsafe { _mm256_loadu_si256(plane.as_ptr().add(at).cast()) }
}
