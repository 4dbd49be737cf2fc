//! The 512-bit registers of AVX-512, with the lanes of one page token or of two.

use std::arch::x86_64::*;

use super::tile::Registers;

/// Sixteen lanes of one token.
pub(super) struct Sixteen;

/// Eight lanes of two tokens.
///
/// Each lane has two sums side by side, of the even and of the odd quads of values, which are added at the end. So a token's eight
/// bytes and a group of lanes are each one load, and few lanes are left over.
pub(super) struct TwoTokens;

/// The lanes of both tokens as [`TwoTokens::scores`] leaves them: two of the first token, two of the second, and so on; the second
/// token's are counted from 16.
///
/// # Safety
/// AVX-512 is present.
#[inline(always)]
unsafe fn places() -> __m512i {
    // SAFETY: as the caller says.
    unsafe { _mm512_setr_epi32(0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23) }
}

/// Which of them are the second token's.
const SECOND: u16 = 0b1100_1100_1100_1100;

// SAFETY of all functions: the caller has checked that AVX-512 is present; pointers are valid as `Registers` says.
impl Registers for TwoTokens {
    const TOKENS: usize = 2;
    type Sums = __m512i;
    type Scores = __m512;

    #[inline(always)]
    unsafe fn start(zero: *const i32) -> __m512i {
        unsafe { _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_cvtepu32_epi64(_mm256_loadu_si256(zero.cast()))) }
    }

    #[inline(always)]
    unsafe fn scores(one: __m512i, two: __m512i) -> __m512 {
        unsafe {
            let (one, two) = (_mm512_castsi512_ps(one), _mm512_castsi512_ps(two));
            let even = _mm512_castps_si512(_mm512_shuffle_ps::<0b10_00_10_00>(one, two));
            let odd = _mm512_castps_si512(_mm512_shuffle_ps::<0b11_01_11_01>(one, two));
            _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd))
        }
    }

    #[inline(always)]
    unsafe fn load(one: *const f32, two: *const f32) -> __m512 {
        unsafe {
            let (one, two) = (_mm256_loadu_ps(one), _mm256_loadu_ps(two));
            _mm512_permutex2var_ps(_mm512_castps256_ps512(one), places(), _mm512_castps256_ps512(two))
        }
    }

    #[inline(always)]
    unsafe fn store(one: *mut f32, two: *mut f32, values: __m512) {
        unsafe {
            let order = _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
            let values = _mm512_permutexvar_ps(order, values);
            _mm256_storeu_ps(one, _mm512_castps512_ps256(values));
            _mm256_storeu_ps(two, _mm512_extractf32x8_ps::<1>(values));
        }
    }

    #[inline(always)]
    unsafe fn splat(one: f32, two: f32) -> __m512 {
        unsafe { _mm512_mask_broadcastss_ps(_mm512_set1_ps(one), SECOND, _mm_set_ss(two)) }
    }

    #[inline(always)]
    unsafe fn plus(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn times(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn greater(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn choose(a: __m512, b: __m512, one: __m512, two: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), two, one) }
    }
}

// SAFETY of all functions: as above.
impl Registers for Sixteen {
    const LANES: usize = 16;
    const TOKENS: usize = 1;
    type Sums = __m512i;
    type Scores = __m512;

    #[inline(always)]
    unsafe fn start(zero: *const i32) -> __m512i {
        unsafe { _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_loadu_si512(zero.cast())) }
    }

    #[inline(always)]
    unsafe fn scores(one: __m512i, _two: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(one) }
    }

    #[inline(always)]
    unsafe fn load(one: *const f32, _two: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(one) }
    }

    #[inline(always)]
    unsafe fn store(one: *mut f32, _two: *mut f32, values: __m512) {
        unsafe { _mm512_storeu_ps(one, values) }
    }

    #[inline(always)]
    unsafe fn splat(one: f32, _two: f32) -> __m512 {
        unsafe { _mm512_set1_ps(one) }
    }

    #[inline(always)]
    unsafe fn plus(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn times(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn greater(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn choose(a: __m512, b: __m512, one: __m512, two: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), two, one) }
    }
}
