//! The 512-bit registers of AVX-512.

use std::arch::x86_64::*;

use super::lanes::GROUP_LANES;
use super::tile::Registers;

pub(super) struct Zmm;

// SAFETY of all functions: the caller has checked that AVX-512 is present; pointers are valid as `Registers` says.
impl Registers for Zmm {
    const LANES: usize = 2 * GROUP_LANES;
    type Sums = __m512i;
    type Scores = __m512;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn scores(sums: __m512i, zero: *const i32) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, _mm512_loadu_si512(zero.cast()))) }
    }

    #[inline(always)]
    unsafe fn load(scores: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(scores) }
    }

    #[inline(always)]
    unsafe fn store(scores: *mut f32, values: __m512) {
        unsafe { _mm512_storeu_ps(scores, values) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
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
}
