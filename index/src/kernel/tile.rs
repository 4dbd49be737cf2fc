//! The one loop of all vector machines: a few page tokens against a few groups of query lanes, all sums in registers.

use super::lanes::{GROUP_LANES, Grade, QueryLanes, Tokens};
use super::levels::level_width;

/// Groups of lanes that one pass holds in registers.
const PASS_GROUPS: usize = 3;

/// Eight i32 sums and eight f32 scores in registers.
///
/// # Safety
/// All functions may be called only where the instruction set is present; pointers are valid for what they are said to hold.
pub(super) trait Registers {
    type Sums: Copy;
    type Scores: Copy;

    unsafe fn zero() -> Self::Sums;
    /// `sums` less the 8 integers at `zero`, as f32.
    unsafe fn scores(sums: Self::Sums, zero: *const i32) -> Self::Scores;
    /// Loads 8 scores.
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
    /// Page tokens per tile.
    const TOKENS: usize;

    /// Broadcasts the 4 level bytes at `levels`.
    unsafe fn levels(levels: *const u8) -> Self::Levels;
    /// Adds to each lane the products of 4 levels and the 4 values of that lane at `query` (32 bytes).
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

/// What becomes of the scores of one token with one group of lanes.
trait Sink<R: Registers> {
    /// # Safety
    /// As for [`Registers`].
    unsafe fn take(&mut self, token: usize, group: usize, scores: R::Scores);
}

/// # Safety
/// As for [`Machine`]; slices are as the portable version takes them.
#[inline(always)]
unsafe fn pass<M: Machine, S: Sink<M::Registers>, const GROUPS: usize, const FINE: bool>(
    query: &QueryLanes,
    first: usize,
    levels: &[u8],
    scales: &[f32],
    sink: &mut S,
) {
    let width = level_width(query.dim());
    let tokens = levels.len() / width;
    let mut token = 0;
    // SAFETY: tokens from `token` on are within `levels`, which holds `tokens * width` bytes.
    unsafe {
        while token + M::TOKENS <= tokens {
            match M::TOKENS {
                4 => tile::<M, S, 4, GROUPS, FINE>(query, first, levels, scales, token, sink),
                _ => tile::<M, S, 2, GROUPS, FINE>(query, first, levels, scales, token, sink),
            }
            token += M::TOKENS;
        }
        while token < tokens {
            tile::<M, S, 1, GROUPS, FINE>(query, first, levels, scales, token, sink);
            token += 1;
        }
    }
}

/// # Safety
/// As for [`Machine`]; `TOKENS` tokens from `token` on are within `levels` and `scales`.
#[inline(always)]
unsafe fn tile<M: Machine, S: Sink<M::Registers>, const TOKENS: usize, const GROUPS: usize, const FINE: bool>(
    query: &QueryLanes,
    first: usize,
    levels: &[u8],
    scales: &[f32],
    token: usize,
    sink: &mut S,
) {
    let (coarse, fine, coarse_zero, fine_zero) = query.parts(if FINE { Grade::Refined } else { Grade::Coarse });
    let (width, stride) = (level_width(query.dim()), query.lanes() * 4);
    // SAFETY: chunk `c` of group `g` stands at `c * stride + g * 32` in the parts that are read, which hold `width / 4 * stride` bytes;
    // zeros and lanes are counted alike.
    unsafe {
        let mut sums = [[M::Registers::zero(); GROUPS]; TOKENS];
        let mut fine_sums = [[M::Registers::zero(); GROUPS]; TOKENS];
        let start = levels.as_ptr().add(token * width);
        let offset = first * GROUP_LANES * 4;
        for chunk in 0..width / 4 {
            let values = coarse.as_ptr().add(chunk * stride + offset);
            // Lanes that only choose have no fine part.
            let fine_values = if FINE { fine.as_ptr().add(chunk * stride + offset) } else { values };
            for (at, (sums, fine_sums)) in sums.iter_mut().zip(&mut fine_sums).enumerate() {
                let levels = M::levels(start.add(at * width + chunk * 4));
                for group in 0..GROUPS {
                    sums[group] = M::add(sums[group], levels, values.add(group * 32));
                    if FINE {
                        fine_sums[group] = M::add(fine_sums[group], levels, fine_values.add(group * 32));
                    }
                }
            }
        }
        for at in 0..TOKENS {
            for group in 0..GROUPS {
                let lane = (first + group) * GROUP_LANES;
                let mut scores = M::Registers::scores(sums[at][group], coarse_zero.as_ptr().add(lane));
                if FINE {
                    let rest = M::Registers::scores(fine_sums[at][group], fine_zero.as_ptr().add(lane));
                    scores = M::Registers::plus(scores, M::Registers::times(rest, M::Registers::splat(1.0 / 128.0)));
                }
                sink.take(
                    token + at,
                    first + group,
                    M::Registers::times(scores, M::Registers::splat(scales[token + at])),
                );
            }
        }
    }
}

/// # Safety
/// As for [`Machine`].
#[inline(always)]
unsafe fn passes<M: Machine, S: Sink<M::Registers>>(
    query: &QueryLanes,
    grade: Grade,
    levels: &[u8],
    scales: &[f32],
    sink: &mut S,
) {
    let groups = query.lanes() / GROUP_LANES;
    for first in (0..groups).step_by(PASS_GROUPS) {
        // SAFETY: groups `first..first + GROUPS` exist.
        unsafe {
            match (groups - first, grade) {
                (1, Grade::Coarse) => pass::<M, S, 1, false>(query, first, levels, scales, sink),
                (2, Grade::Coarse) => pass::<M, S, 2, false>(query, first, levels, scales, sink),
                (_, Grade::Coarse) => pass::<M, S, 3, false>(query, first, levels, scales, sink),
                (1, Grade::Refined) => pass::<M, S, 1, true>(query, first, levels, scales, sink),
                (2, Grade::Refined) => pass::<M, S, 2, true>(query, first, levels, scales, sink),
                (_, Grade::Refined) => pass::<M, S, 3, true>(query, first, levels, scales, sink),
            }
        }
    }
}

/// MaxSim: adds the row of the token's centroid and keeps the best.
struct Best<'a> {
    tokens: Tokens<'a>,
    lanes: usize,
    best: &'a mut [f32],
}

impl<R: Registers> Sink<R> for Best<'_> {
    #[inline(always)]
    unsafe fn take(&mut self, token: usize, group: usize, mut scores: R::Scores) {
        let lane = group * GROUP_LANES;
        // SAFETY: `best` holds all lanes; rows were checked to hold all centroids.
        unsafe {
            if let Some(rows) = self.tokens.rows {
                let row = rows.table.as_ptr().add(usize::from(rows.centroids[token]) * self.lanes + lane);
                scores = R::plus(scores, R::load(row));
            }
            let best = self.best.as_mut_ptr().add(lane);
            R::store(best, R::greater(scores, R::load(best)));
        }
    }
}

/// Keeps all scores.
struct Fill<'a> {
    lanes: usize,
    rows: &'a mut [f32],
}

impl<R: Registers> Sink<R> for Fill<'_> {
    #[inline(always)]
    unsafe fn take(&mut self, token: usize, group: usize, scores: R::Scores) {
        // SAFETY: `rows` holds all lanes of all tokens.
        unsafe { R::store(self.rows.as_mut_ptr().add(token * self.lanes + group * GROUP_LANES), scores) }
    }
}

/// The index of the best token of each lane.
struct Nearest<'a> {
    half_norms: &'a [f32],
    inverse: &'a [f32],
    best: &'a mut [f32],
    found: &'a mut [u32],
}

impl<R: Registers> Sink<R> for Nearest<'_> {
    #[inline(always)]
    unsafe fn take(&mut self, token: usize, group: usize, scores: R::Scores) {
        let lane = group * GROUP_LANES;
        let mut values = [0.0f32; GROUP_LANES];
        // SAFETY: all slices hold all lanes, `half_norms` all tokens.
        unsafe {
            let far = R::times(R::splat(-self.half_norms[token]), R::load(self.inverse.as_ptr().add(lane)));
            let scores = R::plus(scores, far);
            let best = self.best.as_mut_ptr().add(lane);
            let before = R::load(best);
            let after = R::greater(scores, before);
            R::store(values.as_mut_ptr(), scores);
            let mut old = [0.0f32; GROUP_LANES];
            R::store(old.as_mut_ptr(), before);
            R::store(best, after);
            for at in 0..GROUP_LANES {
                let found = self.found.get_unchecked_mut(lane + at);
                *found = if values[at] > old[at] { token as u32 } else { *found };
            }
        }
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
    unsafe { passes::<M, _>(query, grade, tokens.levels, tokens.scales, &mut sink) }
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
    unsafe { passes::<M, _>(query, grade, levels, scales, &mut sink) }
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
    unsafe { passes::<M, _>(query, Grade::Coarse, levels, scales, &mut sink) }
}

fn check(query: &QueryLanes, levels: &[u8], scales: &[f32]) {
    let width = level_width(query.dim());
    assert!(levels.len().is_multiple_of(width) && scales.len() >= levels.len() / width);
}
