//! AVX-512 VNNI in 512-bit registers.

use std::arch::x86_64::*;

use super::lanes::Layout;
use super::tile::{Machine, entry_points};
use super::zmm::TwoTokens;

/// Whether this machine has it, and does more with it than with 256 bits: `avxvnni` came with the cores that multiply in 512 bits as
/// often per cycle as in 256 (Sapphire Rapids, Zen 5). Others have half as many such units (Zen 4) or slow down (Ice Lake).
pub(super) fn is_present() -> bool {
    is_x86_feature_detected!("avxvnni")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && super::vnni::is_present()
}

struct VnniWide;

// SAFETY of all functions: the caller has checked the instruction set; pointers are valid as `Machine` says.
impl Machine for VnniWide {
    type Registers = TwoTokens;
    type Levels = __m512i;
    const LAYOUT: Layout = Layout { step: 8, lanes: 8 };

    #[inline(always)]
    fn tokens(groups: usize, parts: usize) -> usize {
        if groups * parts <= 3 { 8 } else { 4 }
    }

    #[inline(always)]
    unsafe fn levels(levels: *const u8) -> __m512i {
        unsafe { _mm512_set1_epi64(levels.cast::<i64>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn last_levels(levels: *const u8) -> __m512i {
        unsafe { _mm512_set1_epi64(i64::from(levels.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512i, levels: __m512i, query: *const i8) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, levels, _mm512_loadu_si512(query.cast())) }
    }
}

entry_points!(VnniWide, "avx512f,avx512dq,avx512vnni,avx512vl,avx2");
