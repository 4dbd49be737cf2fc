//! The 256-bit registers of AVX2, which VNNI sums in as well.

use std::arch::x86_64::*;

use super::tile::Registers;

pub(super) struct Ymm;

// SAFETY of all functions: the caller has checked that AVX2 is present; pointers are valid as `Registers` says.
impl Registers for Ymm {
    type Sums = __m256i;
    type Scores = __m256;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn scores(sums: __m256i, zero: *const i32) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(_mm256_sub_epi32(sums, _mm256_loadu_si256(zero.cast()))) }
    }

    #[inline(always)]
    unsafe fn load(scores: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(scores) }
    }

    #[inline(always)]
    unsafe fn store(scores: *mut f32, values: __m256) {
        unsafe { _mm256_storeu_ps(scores, values) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        unsafe { _mm256_set1_ps(value) }
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
}
