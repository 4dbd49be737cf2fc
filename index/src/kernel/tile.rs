//! The one loop of all vector machines: a few page tokens against a few groups of query lanes, all sums in registers.

use super::lanes::{GROUP_LANES, Grade, QueryLanes, Tokens};
use super::levels::level_width;
use super::sink::{Best, Fill, Nearest, Sink};

/// Groups of lanes that one pass holds in registers, the tail counted.
const PASS_GROUPS: usize = 3;

/// `LANES` i32 sums and `LANES` f32 scores in registers.
///
/// # Safety
/// All functions may be called only where the instruction set is present; pointers are valid for what they are said to hold.
pub(super) trait Registers {
    /// [`GROUP_LANES`] or twice as many.
    const LANES: usize = GROUP_LANES;
    type Sums: Copy;
    type Scores: Copy;

    unsafe fn zero() -> Self::Sums;
    /// `sums` less the `LANES` integers at `zero`, as f32.
    unsafe fn scores(sums: Self::Sums, zero: *const i32) -> Self::Scores;
    /// Loads `LANES` scores.
    unsafe fn load(scores: *const f32) -> Self::Scores;
    unsafe fn store(scores: *mut f32, values: Self::Scores);
    unsafe fn splat(value: f32) -> Self::Scores;
    /// `a + b`.
    unsafe fn plus(a: Self::Scores, b: Self::Scores) -> Self::Scores;
    /// `a * b`.
    unsafe fn times(a: Self::Scores, b: Self::Scores) -> Self::Scores;
    /// Lane by lane `a` where it is greater than `b`, else `b`.
    unsafe fn greater(a: Self::Scores, b: Self::Scores) -> Self::Scores;
}

/// How an instruction set multiplies levels with the query.
///
/// # Safety
/// As for [`Registers`].
pub(super) trait Machine {
    type Registers: Registers;
    /// Four values of a page token, in all lanes.
    type Levels: Copy;
    /// The machine for the last [`GROUP_LANES`] lanes where registers are twice as wide; else the machine itself.
    type Tail: Machine;
    /// Page tokens per tile of the coarse grade: 1, 2, 4 or 8.
    const TOKENS: usize;
    /// Of the refined grade, which needs twice the sums.
    const FINE_TOKENS: usize;

    /// Broadcasts the 4 level bytes at `levels`.
    unsafe fn levels(levels: *const u8) -> Self::Levels;
    /// The same levels for the tail.
    unsafe fn tail(levels: Self::Levels) -> <Self::Tail as Machine>::Levels;
    /// Adds to each lane the products of 4 levels and the 4 values of that lane at `query` (4 bytes per lane).
    unsafe fn add(sums: Sums<Self>, levels: Self::Levels, query: *const i8) -> Sums<Self>;
}

/// The entry points of a machine in its own module, compiled for `features`.
macro_rules! entry_points {
    ($machine:ty, $features:literal) => {
        use super::lanes::{Grade, QueryLanes, Tokens};
        use super::tile;

        /// # Safety
        /// [`is_present`] was true.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn raise_best(query: &QueryLanes, grade: Grade, tokens: Tokens<'_>, best: &mut [f32]) {
            // SAFETY: compiled for what the caller has found.
            unsafe { tile::raise_best::<$machine>(query, grade, tokens, best) }
        }

        /// # Safety
        /// [`is_present`] was true.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn fill_rows(
            query: &QueryLanes,
            grade: Grade,
            levels: &[u8],
            scales: &[f32],
            rows: &mut [f32],
        ) {
            // SAFETY: compiled for what the caller has found.
            unsafe { tile::fill_rows::<$machine>(query, grade, levels, scales, rows) }
        }

        /// # Safety
        /// [`is_present`] was true.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn nearest(
            query: &QueryLanes,
            levels: &[u8],
            scales: &[f32],
            half_norms: &[f32],
            found: &mut [u32],
        ) {
            // SAFETY: compiled for what the caller has found.
            unsafe { tile::nearest::<$machine>(query, levels, scales, half_norms, found) }
        }
    };
}
pub(super) use entry_points;

type Sums<M> = <<M as Machine>::Registers as Registers>::Sums;
type Scores<M> = <<M as Machine>::Registers as Registers>::Scores;

/// What a tile reads.
#[derive(Clone, Copy)]
struct Input<'a> {
    query: &'a QueryLanes,
    levels: &'a [u8],
    scales: &'a [f32],
}

/// # Safety
/// As for [`Machine`]; slices are as the portable version takes them; `GROUPS` groups and the tail from `lane` on exist.
#[inline(always)]
unsafe fn pass<M: Machine, S: Sink, const GROUPS: usize, const TAIL: usize, const FINE: bool>(
    input: Input<'_>,
    lane: usize,
    sink: &mut S,
) {
    let tokens = input.levels.len() / level_width(input.query.dim());
    let most = if FINE { M::FINE_TOKENS } else { M::TOKENS };
    let mut token = 0;
    // SAFETY: tokens from `token` on are within `levels`, which holds `tokens * width` bytes.
    unsafe {
        while most >= 8 && token + 8 <= tokens {
            tile::<M, S, 8, GROUPS, TAIL, FINE>(input, lane, token, sink);
            token += 8;
        }
        while most >= 4 && token + 4 <= tokens {
            tile::<M, S, 4, GROUPS, TAIL, FINE>(input, lane, token, sink);
            token += 4;
        }
        while most >= 2 && token + 2 <= tokens {
            tile::<M, S, 2, GROUPS, TAIL, FINE>(input, lane, token, sink);
            token += 2;
        }
        while token < tokens {
            tile::<M, S, 1, GROUPS, TAIL, FINE>(input, lane, token, sink);
            token += 1;
        }
    }
}

/// # Safety
/// As for [`pass`]; `TOKENS` tokens from `token` on are within `levels` and `scales`.
#[inline(always)]
unsafe fn tile<M: Machine, S: Sink, const TOKENS: usize, const GROUPS: usize, const TAIL: usize, const FINE: bool>(
    input: Input<'_>,
    lane: usize,
    token: usize,
    sink: &mut S,
) {
    let query = input.query;
    let (coarse, fine, coarse_zero, fine_zero) = query.parts(if FINE { Grade::Refined } else { Grade::Coarse });
    let (width, stride) = (level_width(query.dim()), query.lanes() * 4);
    let wide = M::Registers::LANES;
    // SAFETY: chunk `c` of lane `l` stands at `c * stride + l * 4` in the parts that are read, which hold
    // `width / 4 * stride` bytes; zeros and lanes are counted alike.
    unsafe {
        let mut sums = [[M::Registers::zero(); GROUPS]; TOKENS];
        let mut fine_sums = [[M::Registers::zero(); GROUPS]; TOKENS];
        let mut tail_sums = [[<M::Tail as Machine>::Registers::zero(); TAIL]; TOKENS];
        let mut fine_tail_sums = [[<M::Tail as Machine>::Registers::zero(); TAIL]; TOKENS];
        let start = input.levels.as_ptr().add(token * width);
        for chunk in 0..width / 4 {
            let values = coarse.as_ptr().add(chunk * stride + lane * 4);
            // Lanes that only choose have no fine part.
            let fine_values = if FINE { fine.as_ptr().add(chunk * stride + lane * 4) } else { values };
            for at in 0..TOKENS {
                let levels = M::levels(start.add(at * width + chunk * 4));
                for group in 0..GROUPS {
                    let place = group * wide * 4;
                    sums[at][group] = M::add(sums[at][group], levels, values.add(place));
                    if FINE {
                        fine_sums[at][group] = M::add(fine_sums[at][group], levels, fine_values.add(place));
                    }
                }
                for tail in 0..TAIL {
                    let (place, levels) = (GROUPS * wide * 4, M::tail(levels));
                    tail_sums[at][tail] = M::Tail::add(tail_sums[at][tail], levels, values.add(place));
                    if FINE {
                        let sums = &mut fine_tail_sums[at][tail];
                        *sums = M::Tail::add(*sums, levels, fine_values.add(place));
                    }
                }
            }
        }
        let scales = input.scales.as_ptr().add(token);
        for group in 0..GROUPS {
            let lane = lane + group * wide;
            let zeros = (coarse_zero.as_ptr().add(lane), fine_zero.as_ptr().add(lane));
            let all = |at: usize| scores::<M, FINE>(sums[at][group], fine_sums[at][group], zeros, *scales.add(at));
            sink.take::<M::Registers, TOKENS>(token, lane, std::array::from_fn(all));
        }
        for tail in 0..TAIL {
            let lane = lane + GROUPS * wide;
            let zeros = (coarse_zero.as_ptr().add(lane), fine_zero.as_ptr().add(lane));
            let all = |at: usize| {
                scores::<M::Tail, FINE>(tail_sums[at][tail], fine_tail_sums[at][tail], zeros, *scales.add(at))
            };
            sink.take::<<M::Tail as Machine>::Registers, TOKENS>(token, lane, std::array::from_fn(all));
        }
    }
}

/// The scores that sums stand for, in the order of operations that all machines keep.
///
/// # Safety
/// As for [`Machine`]; `zeros` hold a group of lanes.
#[inline(always)]
unsafe fn scores<M: Machine, const FINE: bool>(
    sums: Sums<M>,
    fine_sums: Sums<M>,
    zeros: (*const i32, *const i32),
    scale: f32,
) -> Scores<M> {
    // SAFETY: as the caller says.
    unsafe {
        let mut scores = M::Registers::scores(sums, zeros.0);
        if FINE {
            let rest = M::Registers::scores(fine_sums, zeros.1);
            scores = M::Registers::plus(scores, M::Registers::times(rest, M::Registers::splat(1.0 / 128.0)));
        }
        M::Registers::times(scores, M::Registers::splat(scale))
    }
}

/// # Safety
/// As for [`Machine`].
#[inline(always)]
unsafe fn passes<M: Machine, S: Sink>(input: Input<'_>, grade: Grade, sink: &mut S) {
    let wide = M::Registers::LANES;
    let mut groups = input.query.lanes() / wide;
    let mut tail = input.query.lanes() % wide / GROUP_LANES;
    let mut lane = 0;
    while groups + tail > 0 {
        // Passes of about equal size: a pass of one group has too few sums to hide the latency of adding to them.
        let left = groups + tail;
        let taken = left.div_ceil(left.div_ceil(PASS_GROUPS));
        let with_tail = if taken == left { tail } else { 0 };
        let whole = taken - with_tail;
        // SAFETY: `groups` groups and `tail` tails are left from `lane` on.
        unsafe {
            match (whole, with_tail, grade) {
                (0, _, Grade::Coarse) => pass::<M, S, 0, 1, false>(input, lane, sink),
                (0, _, Grade::Refined) => pass::<M, S, 0, 1, true>(input, lane, sink),
                (1, 0, Grade::Coarse) => pass::<M, S, 1, 0, false>(input, lane, sink),
                (1, 0, Grade::Refined) => pass::<M, S, 1, 0, true>(input, lane, sink),
                (1, _, Grade::Coarse) => pass::<M, S, 1, 1, false>(input, lane, sink),
                (1, _, Grade::Refined) => pass::<M, S, 1, 1, true>(input, lane, sink),
                (2, 0, Grade::Coarse) => pass::<M, S, 2, 0, false>(input, lane, sink),
                (2, 0, Grade::Refined) => pass::<M, S, 2, 0, true>(input, lane, sink),
                (2, _, Grade::Coarse) => pass::<M, S, 2, 1, false>(input, lane, sink),
                (2, _, Grade::Refined) => pass::<M, S, 2, 1, true>(input, lane, sink),
                (_, _, Grade::Coarse) => pass::<M, S, 3, 0, false>(input, lane, sink),
                (_, _, Grade::Refined) => pass::<M, S, 3, 0, true>(input, lane, sink),
            }
        }
        (groups, tail, lane) = (groups - whole, tail - with_tail, lane + whole * wide);
    }
}

/// # Safety
/// As for [`Machine`].
#[inline(always)]
pub(super) unsafe fn raise_best<M: Machine>(query: &QueryLanes, grade: Grade, tokens: Tokens<'_>, best: &mut [f32]) {
    let lanes = query.lanes();
    check(query, tokens.levels, tokens.scales);
    assert!(best.len() >= lanes);
    if let Some(rows) = tokens.rows {
        let last = rows.centroids.iter().copied().max().map_or(0, |last| usize::from(last) + 1);
        assert!(
            rows.table.len() >= last * lanes && rows.centroids.len() >= tokens.scales.len().min(tokens.levels.len())
        );
    }
    let mut sink = Best { tokens, lanes, best };
    // SAFETY: lengths were just checked.
    unsafe { passes::<M, _>(Input { query, levels: tokens.levels, scales: tokens.scales }, grade, &mut sink) }
}

/// # Safety
/// As for [`Machine`].
#[inline(always)]
pub(super) unsafe fn fill_rows<M: Machine>(
    query: &QueryLanes,
    grade: Grade,
    levels: &[u8],
    scales: &[f32],
    rows: &mut [f32],
) {
    check(query, levels, scales);
    assert!(rows.len() >= levels.len() / level_width(query.dim()) * query.lanes());
    let mut sink = Fill { lanes: query.lanes(), rows };
    // SAFETY: lengths were just checked.
    unsafe { passes::<M, _>(Input { query, levels, scales }, grade, &mut sink) }
}

/// # Safety
/// As for [`Machine`].
#[inline(always)]
pub(super) unsafe fn nearest<M: Machine>(
    query: &QueryLanes,
    levels: &[u8],
    scales: &[f32],
    half_norms: &[f32],
    found: &mut [u32],
) {
    check(query, levels, scales);
    assert!(half_norms.len() >= scales.len() && found.len() >= query.lanes());
    let inverse = query.inverse_scales();
    let mut best = vec![f32::NEG_INFINITY; query.lanes()];
    let mut sink = Nearest { half_norms, inverse, best: &mut best, found };
    // SAFETY: lengths were just checked.
    unsafe { passes::<M, _>(Input { query, levels, scales }, Grade::Coarse, &mut sink) }
}

fn check(query: &QueryLanes, levels: &[u8], scales: &[f32]) {
    let width = level_width(query.dim());
    assert!(levels.len().is_multiple_of(width) && scales.len() >= levels.len() / width);
}
