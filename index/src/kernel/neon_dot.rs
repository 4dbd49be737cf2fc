//! NEON with the dot product extension: four products per lane and instruction, eight lanes in two registers.

use std::arch::aarch64::*;
use std::arch::asm;

use super::neon::{Quads, signed_levels};
use super::tile::{Machine, entry_points};

/// Whether this machine has it.
pub(super) fn is_present() -> bool {
    std::arch::is_aarch64_feature_detected!("dotprod")
}

/// Adds to each of 4 sums the products of 4 levels with 4 values.
///
/// # Safety
/// [`is_present`] was true.
#[inline(always)]
unsafe fn dot(mut sums: int32x4_t, levels: int8x16_t, values: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction is present and touches these registers alone. Stable Rust has no intrinsic for it yet.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sums:v}.4s, {levels:v}.16b, {values:v}.16b",
            sums = inout(vreg) sums,
            levels = in(vreg) levels,
            values = in(vreg) values,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

struct NeonDot;

// SAFETY of all functions: the caller has checked the instruction set; pointers are valid as `Machine` says.
impl Machine for NeonDot {
    type Registers = Quads<2>;
    type Levels = int8x16_t;

    #[inline(always)]
    fn tokens(_groups: usize, _parts: usize) -> usize {
        4
    }

    #[inline(always)]
    unsafe fn levels(levels: *const u8) -> int8x16_t {
        unsafe { signed_levels(levels) }
    }

    #[inline(always)]
    unsafe fn add(sums: [int32x4_t; 2], levels: int8x16_t, query: *const i8) -> [int32x4_t; 2] {
        unsafe { [dot(sums[0], levels, vld1q_s8(query)), dot(sums[1], levels, vld1q_s8(query.add(16)))] }
    }
}

entry_points!(NeonDot, "neon,dotprod");
