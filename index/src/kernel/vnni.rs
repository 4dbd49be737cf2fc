//! AVX-512 VNNI in 256-bit registers: lanes come in groups of eight, and four products per lane and instruction.

use std::arch::x86_64::*;

use super::tile::{Machine, entry_points};
use super::ymm::Ymm;

/// Whether this machine has it.
pub(super) fn is_present() -> bool {
    is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx2")
}

pub(super) struct Vnni;

// SAFETY of all functions: the caller has checked the instruction set; pointers are valid as `Machine` says.
impl Machine for Vnni {
    type Registers = Ymm;
    type Levels = __m256i;

    #[inline(always)]
    fn tokens(groups: usize, parts: usize) -> usize {
        if groups * parts <= 3 { 8 } else { 4 }
    }

    #[inline(always)]
    unsafe fn levels(levels: *const u8) -> __m256i {
        unsafe { _mm256_set1_epi32(levels.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256i, levels: __m256i, query: *const i8) -> __m256i {
        unsafe { _mm256_dpbusd_epi32(sums, levels, _mm256_loadu_si256(query.cast())) }
    }
}

entry_points!(Vnni, "avx512vnni,avx512vl,avx2");
