//! NEON: products in 16 bits, added by pairs to sums in 32.
//!
//! Level bytes become signed on the way in, which takes from each sum exactly what other machines take off at the end.

use std::arch::aarch64::*;

use super::tile::{Machine, Registers, entry_points};

/// Whether this machine has it.
pub(super) fn is_present() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
}

/// Eight lanes in `PARTS` registers of sums, 2 where each lane has one sum, 4 where it has two.
pub(super) struct Quads<const PARTS: usize>;

// SAFETY of all functions: the caller has checked that NEON is present; pointers are valid as `Registers` says.
impl<const PARTS: usize> Registers for Quads<PARTS> {
    const TOKENS: usize = 1;
    type Sums = [int32x4_t; PARTS];
    type Scores = (float32x4_t, float32x4_t);

    /// Products are of signed levels: there is nothing to take off.
    #[inline(always)]
    unsafe fn start(_zero: *const i32) -> Self::Sums {
        unsafe { [vdupq_n_s32(0); PARTS] }
    }

    #[inline(always)]
    unsafe fn scores(one: Self::Sums, _two: Self::Sums) -> Self::Scores {
        unsafe {
            let (low, high) = if PARTS == 4 {
                (vpaddq_s32(one[0], one[1]), vpaddq_s32(one[2], one[PARTS - 1]))
            } else {
                (one[0], one[1])
            };
            (vcvtq_f32_s32(low), vcvtq_f32_s32(high))
        }
    }

    #[inline(always)]
    unsafe fn load(one: *const f32, _two: *const f32) -> Self::Scores {
        unsafe { (vld1q_f32(one), vld1q_f32(one.add(4))) }
    }

    #[inline(always)]
    unsafe fn store(one: *mut f32, _two: *mut f32, values: Self::Scores) {
        unsafe {
            vst1q_f32(one, values.0);
            vst1q_f32(one.add(4), values.1);
        }
    }

    #[inline(always)]
    unsafe fn splat(one: f32, _two: f32) -> Self::Scores {
        unsafe { (vdupq_n_f32(one), vdupq_n_f32(one)) }
    }

    #[inline(always)]
    unsafe fn plus(a: Self::Scores, b: Self::Scores) -> Self::Scores {
        unsafe { (vaddq_f32(a.0, b.0), vaddq_f32(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn times(a: Self::Scores, b: Self::Scores) -> Self::Scores {
        unsafe { (vmulq_f32(a.0, b.0), vmulq_f32(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn greater(a: Self::Scores, b: Self::Scores) -> Self::Scores {
        unsafe { Self::choose(a, b, a, b) }
    }

    #[inline(always)]
    unsafe fn choose(a: Self::Scores, b: Self::Scores, one: Self::Scores, two: Self::Scores) -> Self::Scores {
        unsafe { (vbslq_f32(vcgtq_f32(a.0, b.0), one.0, two.0), vbslq_f32(vcgtq_f32(a.1, b.1), one.1, two.1)) }
    }
}

/// Broadcasts the 4 level bytes at `levels`, less the level of zero.
///
/// # Safety
/// NEON is present; `levels` holds 4 bytes.
#[inline(always)]
pub(super) unsafe fn signed_levels(levels: *const u8) -> int8x16_t {
    // SAFETY: as the caller says. The top bit alone differs between `128 + level` and `level` in two's complement.
    unsafe {
        let bytes = vreinterpretq_u8_u32(vdupq_n_u32(levels.cast::<u32>().read_unaligned()));
        vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(0x80)))
    }
}

struct Neon;

// SAFETY of all functions: the caller has checked the instruction set; pointers are valid as `Machine` says.
impl Machine for Neon {
    type Registers = Quads<4>;
    type Levels = int8x8_t;

    #[inline(always)]
    fn tokens(_groups: usize, _parts: usize) -> usize {
        2
    }

    #[inline(always)]
    unsafe fn levels(levels: *const u8) -> int8x8_t {
        unsafe { vget_low_s8(signed_levels(levels)) }
    }

    #[inline(always)]
    unsafe fn add(mut sums: [int32x4_t; 4], levels: int8x8_t, query: *const i8) -> [int32x4_t; 4] {
        unsafe {
            for (pair, sums) in sums.iter_mut().enumerate() {
                *sums = vpadalq_s16(*sums, vmull_s8(levels, vld1_s8(query.add(pair * 8))));
            }
            sums
        }
    }
}

entry_points!(Neon, "neon");
