//! AMX: 16 page tokens with 16 query lanes and 64 values in one instruction.
//!
//! Sums are written to memory and scored from there, while the next tokens are multiplied. The compiler knows
//! no tiles, so each block of tokens is one piece of assembly.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::sync::LazyLock;

use super::lanes::{Grade, Layout, Parts};
use super::sink::Sink;
use super::tile::{Input, Machine, Registers, begin, entry_points, passes, with_fine};
use super::zmm::Sixteen;

/// Rows of a tile: tokens, or quads of values of the query; and lanes.
const ROWS: usize = 16;

/// Whether this machine has it and the operating system lets this process use it, for which Linux wants to be asked once. From
/// then on it refuses alternate signal stacks that are too small for the state of tiles (`AT_MINSIGSTKSZ` tells the size).
pub(super) fn is_present() -> bool {
    static PRESENT: LazyLock<bool> = LazyLock::new(|| super::vnni_wide::is_present() && has_tiles() && may_use_tiles());
    *PRESENT
}

/// Bits 24 and 25: AMX-TILE and AMX-INT8. Rust's own check of these is not stable yet.
fn has_tiles() -> bool {
    const BOTH: u32 = 3 << 24;
    // SAFETY: a machine with AVX-512 has this instruction and leaf. Newer versions of Rust need no word of that.
    #[allow(unused_unsafe)]
    let features = unsafe { __cpuid_count(7, 0) };
    features.edx & BOTH == BOTH
}

#[cfg(target_os = "linux")]
fn may_use_tiles() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let refused: i64;
    // SAFETY: the call reads and writes no memory of this process.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => refused,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    refused == 0
}

#[cfg(not(target_os = "linux"))]
fn may_use_tiles() -> bool {
    false
}

/// Quads of values that a tile holds: as many as divide those of a token; `None` where that would be few.
fn depth(width: usize) -> Option<usize> {
    let quads = width / 4;
    (ROWS / 2..=ROWS).rev().find(|depth| quads.is_multiple_of(*depth))
}

/// The shapes of the tiles: 0 to 3 hold sums, 4 and 5 levels, 6 and 7 values of the query.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    fn new(depth: usize) -> Self {
        let mut shapes = Self { palette: 1, start: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shapes.row_bytes[..8].fill(4 * ROWS as u16);
        shapes.rows[..8].fill(ROWS as u8);
        shapes.row_bytes[4..6].fill(4 * depth as u16);
        shapes.rows[6..8].fill(depth as u8);
        shapes
    }
}

/// Page tokens that are multiplied at once: two tiles share each load of the query.
const BLOCK: usize = 2 * ROWS;

/// Sums of a block with one or two times 16 lanes.
type BlockSums = [[__m512i; 2]; BLOCK];

/// What is multiplied: two times 16 tokens with one or two tiles of lanes.
#[derive(Clone, Copy)]
struct Factors {
    tokens: [*const u8; 2],
    /// Bytes of a token.
    width: usize,
    lanes: *const i8,
    /// Bytes between quads of the query.
    stride: usize,
    /// Quads of a tile.
    depth: usize,
}

/// Multiplies tokens with `GROUPS` times 16 lanes.
///
/// # Safety
/// [`is_present`] was true and tiles are shaped for `depth`, which divides the width.
#[inline(always)]
unsafe fn multiply<const GROUPS: usize>(factors: Factors, sums: *mut BlockSums) {
    let Factors { tokens, width, lanes, stride, depth } = factors;
    /// A loop over tiles of values, and what comes before and after.
    macro_rules! tiles {
        ($before:literal, $each:literal, $after:literal) => {
            asm!(
                $before,
                "2:",
                $each,
                "add {one}, {next}",
                "add {two}, {next}",
                "add {lanes}, {next_lanes}",
                "dec {times}",
                "jnz 2b",
                $after,
                times = inout(reg) width / (4 * depth) => _,
                one = inout(reg) tokens[0] => _,
                two = inout(reg) tokens[1] => _,
                next = in(reg) 4 * depth,
                width = in(reg) width,
                lanes = inout(reg) lanes => _,
                next_lanes = in(reg) depth * stride,
                stride = in(reg) stride,
                sums = in(reg) sums,
                row = in(reg) 2 * ROWS * size_of::<i32>(),
                out("tmm0") _,
                out("tmm1") _,
                out("tmm2") _,
                out("tmm3") _,
                out("tmm4") _,
                out("tmm5") _,
                out("tmm6") _,
                out("tmm7") _,
                options(nostack),
            )
        };
    }
    // SAFETY: as the caller says; the loop reads `width` values of each token.
    unsafe {
        if GROUPS == 1 {
            tiles!(
                "tilezero tmm0
                tilezero tmm2",
                "tileloadd tmm6, [{lanes} + {stride}]
                tileloadd tmm4, [{one} + {width}]
                tdpbusd tmm0, tmm4, tmm6
                tileloadd tmm5, [{two} + {width}]
                tdpbusd tmm2, tmm5, tmm6",
                "tilestored [{sums} + {row}], tmm0
                tilestored [{sums} + {row} + 2048], tmm2"
            );
        } else {
            tiles!(
                "tilezero tmm0
                tilezero tmm1
                tilezero tmm2
                tilezero tmm3",
                "tileloadd tmm6, [{lanes} + {stride}]
                tileloadd tmm4, [{one} + {width}]
                tdpbusd tmm0, tmm4, tmm6
                tileloadd tmm7, [{lanes} + {stride} + 64]
                tdpbusd tmm1, tmm4, tmm7
                tileloadd tmm5, [{two} + {width}]
                tdpbusd tmm2, tmm5, tmm6
                tdpbusd tmm3, tmm5, tmm7",
                "tilestored [{sums} + {row}], tmm0
                tilestored [{sums} + {row} + 64], tmm1
                tilestored [{sums} + {row} + 2048], tmm2
                tilestored [{sums} + {row} + 2112], tmm3"
            );
        }
    }
}

/// The scores, not yet scaled, of a row with a group of lanes.
///
/// # Safety
/// AVX-512 is present; `sums` were written.
#[inline(always)]
unsafe fn row_scores(sums: *const BlockSums, row: usize, group: usize, start: __m512i) -> __m512 {
    // SAFETY: as the caller says.
    unsafe {
        let sums = _mm512_add_epi32((*sums)[row][group], start);
        Sixteen::scores(sums, sums)
    }
}

/// Gives the scores of all tokens with the lanes of `GROUPS` groups, 1 or 2, to `sink`.
///
/// # Safety
/// [`is_present`] was true and tiles are shaped for `depth`, which divides the width; there are at least [`BLOCK`] tokens.
#[inline(always)]
unsafe fn columns<S: Sink<Sixteen>, const GROUPS: usize, const FINE: bool>(
    input: Input<'_>,
    depth: usize,
    first: usize,
    sink: &mut S,
) {
    let Input { query: Parts { coarse, fine, coarse_zero, fine_zero, stride }, levels, width, tokens, .. } = input;
    let mut sums = MaybeUninit::<[BlockSums; 2]>::uninit();
    let sums: *mut BlockSums = sums.as_mut_ptr().cast();
    // SAFETY: 16 tokens from each tile's start exist, and lanes stand in multiples of 16.
    unsafe {
        let starts = begin::<Sixteen, GROUPS>(coarse_zero, first);
        let fine_starts = begin::<Sixteen, GROUPS>(fine_zero, first);
        sink.begin();
        for at in (0..tokens).step_by(BLOCK) {
            // The last tiles reach back to tokens that were there before: no sink minds the same score again.
            let tiles = [at, at + ROWS].map(|token| token.min(tokens - ROWS));
            let tokens = tiles.map(|token| levels.as_ptr().add(token * width));
            let lane = first * ROWS * 4;
            let factors = Factors { tokens, width, lanes: coarse.as_ptr().add(lane), stride, depth };
            multiply::<GROUPS>(factors, sums);
            if FINE {
                multiply::<GROUPS>(Factors { lanes: fine.as_ptr().add(lane), ..factors }, sums.add(1));
            }
            for (half, tile) in tiles.into_iter().enumerate() {
                for row in 0..ROWS {
                    let scale = *input.scales.get_unchecked(tile + row);
                    let scale = Sixteen::splat(scale, scale);
                    let mut found = [scale; GROUPS];
                    for (group, found) in found.iter_mut().enumerate() {
                        let mut scores = row_scores(sums, half * ROWS + row, group, starts[group]);
                        if FINE {
                            let rest = row_scores(sums.add(1), half * ROWS + row, group, fine_starts[group]);
                            scores = with_fine::<Sixteen>(scores, rest);
                        }
                        *found = Sixteen::times(scores, scale);
                    }
                    sink.take([tile + row; 2], first, found);
                }
            }
        }
        sink.end(first, GROUPS);
    }
}

struct Amx;

// SAFETY of all functions: the caller has checked the instruction set; pointers are valid as `Machine` says.
impl Machine for Amx {
    type Registers = Sixteen;
    type Levels = __m512i;
    const LAYOUT: Layout = Layout { step: 4, lanes: ROWS };

    #[inline(always)]
    fn tokens(groups: usize, parts: usize) -> usize {
        if groups * parts <= 3 { 8 } else { 4 }
    }

    #[inline(always)]
    unsafe fn levels(levels: *const u8) -> __m512i {
        unsafe { _mm512_set1_epi32(levels.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512i, levels: __m512i, query: *const i8) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, levels, _mm512_loadu_si512(query.cast())) }
    }

    /// Few tokens go without tiles, which take their time to set up, and so do those of an odd width.
    #[inline(always)]
    unsafe fn run<S: Sink<Sixteen>>(input: Input<'_>, sink: &mut S) {
        unsafe {
            let Some(depth) = depth(input.width).filter(|_| input.tokens >= BLOCK) else {
                return passes::<Self, S>(input, sink);
            };
            // SAFETY: the shapes fit the palette, and live until the instruction has read them. Nothing between here and the
            // release panics.
            asm!("ldtilecfg [{}]", in(reg) &Shapes::new(depth), options(nostack, readonly));
            let groups = input.lanes / ROWS;
            for first in (0..groups).step_by(2) {
                match (groups - first, input.grade) {
                    (1, Grade::Coarse) => columns::<S, 1, false>(input, depth, first, sink),
                    (_, Grade::Coarse) => columns::<S, 2, false>(input, depth, first, sink),
                    (1, Grade::Refined) => columns::<S, 1, true>(input, depth, first, sink),
                    (_, Grade::Refined) => columns::<S, 2, true>(input, depth, first, sink),
                }
            }
            // SAFETY: sums were stored; nothing is left in the tiles.
            asm!("tilerelease", options(nostack, nomem));
        }
    }
}

entry_points!(Amx, "avx512f,avx512dq,avx512vnni,avx512vl,avx2");
