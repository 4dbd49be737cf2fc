//! The 256-bit registers of AVX2, which VNNI sums in as well.

use std::arch::x86_64::*;

use super::tile::Registers;

pub(super) struct Ymm;

// SAFETY of all functions: the caller has checked that AVX2 is present; pointers are valid as `Registers` says.
impl Registers for Ymm {
    const TOKENS: usize = 1;
    type Sums = __m256i;
    type Scores = __m256;

    #[inline(always)]
    unsafe fn start(zero: *const i32) -> __m256i {
        unsafe { _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_loadu_si256(zero.cast())) }
    }

    #[inline(always)]
    unsafe fn scores(one: __m256i, _two: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(one) }
    }

    #[inline(always)]
    unsafe fn load(one: *const f32, _two: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(one) }
    }

    #[inline(always)]
    unsafe fn store(one: *mut f32, _two: *mut f32, values: __m256) {
        unsafe { _mm256_storeu_ps(one, values) }
    }

    #[inline(always)]
    unsafe fn splat(one: f32, _two: f32) -> __m256 {
        unsafe { _mm256_set1_ps(one) }
    }

    #[inline(always)]
    unsafe fn plus(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn times(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn greater(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn choose(a: __m256, b: __m256, one: __m256, two: __m256) -> __m256 {
        unsafe { _mm256_blendv_ps(two, one, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) }
    }
}
