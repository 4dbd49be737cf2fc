//! AVX-512 VNNI in 256-bit registers: lanes come in groups of eight, and four products per lane and instruction.

use std::arch::x86_64::*;

use super::lanes::{Grade, QueryLanes, Tokens};
use super::tile::{self, Machine};
use super::ymm::Ymm;

/// Whether this machine has it.
pub(super) fn is_present() -> bool {
    is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx2")
}

struct Vnni;

// SAFETY of all functions: the caller has checked the instruction set; pointers are valid as `Machine` says.
impl Machine for Vnni {
    type Registers = Ymm;
    type Levels = __m256i;
    const TOKENS: usize = 4;

    #[inline(always)]
    unsafe fn levels(levels: *const u8) -> __m256i {
        unsafe { _mm256_set1_epi32(levels.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256i, levels: __m256i, query: *const i8) -> __m256i {
        unsafe { _mm256_dpbusd_epi32(sums, levels, _mm256_loadu_si256(query.cast())) }
    }
}

/// # Safety
/// [`is_present`] was true.
#[target_feature(enable = "avx512vnni,avx512vl,avx2")]
pub(super) unsafe fn raise_best(query: &QueryLanes, grade: Grade, tokens: Tokens<'_>, best: &mut [f32]) {
    // SAFETY: compiled for what the caller has found.
    unsafe { tile::raise_best::<Vnni>(query, grade, tokens, best) }
}

/// # Safety
/// [`is_present`] was true.
#[target_feature(enable = "avx512vnni,avx512vl,avx2")]
pub(super) unsafe fn fill_rows(query: &QueryLanes, grade: Grade, levels: &[u8], scales: &[f32], rows: &mut [f32]) {
    // SAFETY: compiled for what the caller has found.
    unsafe { tile::fill_rows::<Vnni>(query, grade, levels, scales, rows) }
}

/// # Safety
/// [`is_present`] was true.
#[target_feature(enable = "avx512vnni,avx512vl,avx2")]
pub(super) unsafe fn nearest(query: &QueryLanes, levels: &[u8], scales: &[f32], half_norms: &[f32], found: &mut [u32]) {
    // SAFETY: compiled for what the caller has found.
    unsafe { tile::nearest::<Vnni>(query, levels, scales, half_norms, found) }
}
