//! AVX2: pairs of products in 16 bits would overflow, so levels and query are widened to i16 first.

use std::arch::x86_64::*;

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

    #[inline(always)]
    fn tokens(_groups: usize, _parts: usize) -> usize {
        2
    }

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
