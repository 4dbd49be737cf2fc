//! AVX-512 VNNI in 512-bit registers: sixteen lanes at a time, the last eight in a 256-bit register where they are over.

use std::arch::x86_64::*;

use super::tile::{Machine, entry_points};
use super::vnni::Vnni;
use super::zmm::Zmm;

/// Whether this machine has it.
pub(super) fn is_present() -> bool {
    is_x86_feature_detected!("avx512f") && super::vnni::is_present()
}

struct VnniWide;

// SAFETY of all functions: the caller has checked the instruction set; pointers are valid as `Machine` says.
impl Machine for VnniWide {
    type Registers = Zmm;
    type Levels = __m512i;
    type Tail = Vnni;
    const TOKENS: usize = 8;
    const FINE_TOKENS: usize = 4;

    #[inline(always)]
    unsafe fn levels(levels: *const u8) -> __m512i {
        unsafe { _mm512_set1_epi32(levels.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn tail(levels: __m512i) -> __m256i {
        unsafe { _mm512_castsi512_si256(levels) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512i, levels: __m512i, query: *const i8) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, levels, _mm512_loadu_si512(query.cast())) }
    }
}

entry_points!(VnniWide, "avx512f,avx512vnni,avx512vl,avx2");
