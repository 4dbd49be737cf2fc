//! The one loop of all vector machines: a few page tokens against a few groups of query lanes, all sums in registers.

use super::lanes::{Grade, Layout, Parts, QueryLanes, Rows, Tokens};
use super::levels::level_width;
use super::sink::{Best, Fill, Nearest, PASS_GROUPS, Sink};

/// A group of lanes, of one page token or of two, as i32 sums and as f32 scores in registers.
///
/// # Safety
/// All functions may be called only where the instruction set is present; pointers are valid for what they are said to hold.
pub(super) trait Registers {
    /// Lanes of a group: 8 or 16.
    const LANES: usize = 8;
    /// Page tokens whose scores stand together. Where it is 1, what is said of a second one means nothing.
    const TOKENS: usize;
    /// Sums of one page token.
    type Sums: Copy;
    type Scores: Copy;

    /// Sums of no products yet, less the integers of a group at `zero`.
    unsafe fn start(zero: *const i32) -> Self::Sums;
    /// The sums of both tokens as f32.
    unsafe fn scores(one: Self::Sums, two: Self::Sums) -> Self::Scores;
    /// Loads a group of scores of each token.
    unsafe fn load(one: *const f32, two: *const f32) -> Self::Scores;
    /// Stores a group of scores of each token.
    unsafe fn store(one: *mut f32, two: *mut f32, values: Self::Scores);
    /// The same in all lanes of a token.
    unsafe fn splat(one: f32, two: f32) -> Self::Scores;
    /// `a + b`.
    unsafe fn plus(a: Self::Scores, b: Self::Scores) -> Self::Scores;
    /// `a * b`.
    unsafe fn times(a: Self::Scores, b: Self::Scores) -> Self::Scores;
    /// Lane by lane `a` where it is greater than `b`, else `b`.
    unsafe fn greater(a: Self::Scores, b: Self::Scores) -> Self::Scores;
    /// Lane by lane the bits of `one` where `a` is greater than `b`, else those of `two`.
    unsafe fn choose(a: Self::Scores, b: Self::Scores, one: Self::Scores, two: Self::Scores) -> Self::Scores;
}

/// How an instruction set multiplies levels with the query.
///
/// # Safety
/// As for [`Registers`].
pub(super) trait Machine: Sized {
    type Registers: Registers;
    /// A step's values of a page token, in all lanes.
    type Levels: Copy;
    const LAYOUT: Layout = Layout::NARROW;

    /// Page tokens per tile (2, 4 or 8) that meet so many groups in so many parts of the query: enough sums to hide how long an
    /// addition takes, and not more than there are registers.
    fn tokens(groups: usize, parts: usize) -> usize;
    /// Broadcasts the level bytes of a step.
    unsafe fn levels(levels: *const u8) -> Self::Levels;
    /// As [`levels`](Self::levels) for the last 4 bytes of a token where steps are of 8.
    unsafe fn last_levels(levels: *const u8) -> Self::Levels {
        // SAFETY: called where steps are of 8 alone; those machines have their own.
        unsafe { Self::levels(levels) }
    }
    /// Adds to each lane the products of levels and the values of that lane at `query` (a group's of a step).
    unsafe fn add(sums: Sums<Self>, levels: Self::Levels, query: *const i8) -> Sums<Self>;

    /// Gives the scores of all tokens with all lanes to `sink`.
    ///
    /// # Safety
    /// The sink holds as many tokens and lanes.
    #[inline(always)]
    unsafe fn run<S: Sink<Self::Registers>>(input: Input<'_>, sink: &mut S) {
        // SAFETY: as the caller says.
        unsafe { passes::<Self, S>(input, sink) }
    }
}

/// The entry points of a machine in its own module, compiled for `features`.
macro_rules! entry_points {
    ($machine:ty, $features:literal) => {
        use super::{lanes, tile};

        pub(super) const LAYOUT: lanes::Layout = <$machine as tile::Machine>::LAYOUT;

        /// # Safety
        /// [`is_present`] was true.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn raise_best(
            query: &lanes::QueryLanes,
            grade: lanes::Grade,
            tokens: lanes::Tokens<'_>,
            best: &mut [f32],
        ) {
            // SAFETY: compiled for what the caller has found.
            unsafe { tile::raise_best::<$machine>(query, grade, tokens, best) }
        }

        /// # Safety
        /// [`is_present`] was true.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn fill_rows(
            query: &lanes::QueryLanes,
            grade: lanes::Grade,
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
            query: &lanes::QueryLanes,
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

/// The query and the page tokens, lengths checked.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub grade: Grade,
    pub query: Parts<'a>,
    pub lanes: usize,
    /// `tokens x width` bytes.
    pub levels: &'a [u8],
    pub width: usize,
    pub tokens: usize,
    /// What one level of each token is worth.
    pub scales: &'a [f32],
}

impl<'a> Input<'a> {
    fn new<M: Machine>(query: &'a QueryLanes, grade: Grade, levels: &'a [u8], scales: &'a [f32]) -> Self {
        let width = level_width(query.dim());
        let tokens = levels.len() / width;
        assert!(levels.len().is_multiple_of(width) && scales.len() >= tokens);
        assert!(query.layout() == M::LAYOUT, "the query was laid out for another machine");
        Self { grade, query: query.parts(grade), lanes: query.lanes(), levels, width, tokens, scales }
    }
}

/// # Safety
/// As for [`Machine::run`].
#[inline(always)]
pub(super) unsafe fn passes<M: Machine, S: Sink<M::Registers>>(input: Input<'_>, sink: &mut S) {
    let groups = input.lanes / M::Registers::LANES;
    let mut first = 0;
    while first < groups {
        // Passes of about equal size: one of a single group has few sums.
        let left = groups - first;
        let taken = left.div_ceil(left.div_ceil(PASS_GROUPS));
        // SAFETY: groups `first..first + taken` exist.
        unsafe {
            match (taken, input.grade) {
                (1, Grade::Coarse) => pass::<M, S, 1, false>(input, first, sink),
                (2, Grade::Coarse) => pass::<M, S, 2, false>(input, first, sink),
                (_, Grade::Coarse) => pass::<M, S, 3, false>(input, first, sink),
                (1, Grade::Refined) => pass::<M, S, 1, true>(input, first, sink),
                (2, Grade::Refined) => pass::<M, S, 2, true>(input, first, sink),
                (_, Grade::Refined) => pass::<M, S, 3, true>(input, first, sink),
            }
        }
        first += taken;
    }
}

/// # Safety
/// As for [`Machine::run`]; groups `first..first + GROUPS` exist.
#[inline(always)]
unsafe fn pass<M: Machine, S: Sink<M::Registers>, const GROUPS: usize, const FINE: bool>(
    input: Input<'_>,
    first: usize,
    sink: &mut S,
) {
    let most = M::tokens(GROUPS, 1 + usize::from(FINE));
    // SAFETY: all tokens that begin a tile exist.
    unsafe {
        sink.begin();
        for token in (0..input.tokens).step_by(most) {
            match most {
                8 => tile::<M, S, 8, GROUPS, FINE>(input, first, token, sink),
                4 => tile::<M, S, 4, GROUPS, FINE>(input, first, token, sink),
                _ => tile::<M, S, 2, GROUPS, FINE>(input, first, token, sink),
            }
        }
        sink.end(first, GROUPS);
    }
}

/// Where tokens end within the tile, the last one stands in for those that lack: no sink minds the same score again.
///
/// # Safety
/// As for [`pass`]; `token` exists.
#[inline(always)]
unsafe fn tile<M: Machine, S: Sink<M::Registers>, const TOKENS: usize, const GROUPS: usize, const FINE: bool>(
    input: Input<'_>,
    first: usize,
    token: usize,
    sink: &mut S,
) {
    let Input { query: Parts { coarse, fine, coarse_zero, fine_zero, stride }, width, .. } = input;
    let (values, last) = (M::LAYOUT.step, input.tokens - 1);
    let tokens: [usize; TOKENS] = std::array::from_fn(|at| (token + at).min(last));
    // SAFETY: step `c` of lane `l` stands at `c * stride + l * values` in the parts that are read; zeros and lanes are counted
    // alike. Lanes that only choose have no fine part, and it is not read.
    unsafe {
        let starts = tokens.map(|token| input.levels.as_ptr().add(token * width));
        let mut sums = [begin::<M::Registers, GROUPS>(coarse_zero, first); TOKENS];
        let mut fine_sums = [begin::<M::Registers, GROUPS>(fine_zero, first); TOKENS];
        let lane = first * M::Registers::LANES * values;
        let steps = width / values;
        for step in 0..steps {
            for at in 0..TOKENS {
                let levels = M::levels(starts[at].add(step * values));
                add::<M, GROUPS>(&mut sums[at], levels, coarse.as_ptr().add(step * stride + lane));
                if FINE {
                    add::<M, GROUPS>(&mut fine_sums[at], levels, fine.as_ptr().add(step * stride + lane));
                }
            }
        }
        if !width.is_multiple_of(values) {
            for at in 0..TOKENS {
                let levels = M::last_levels(starts[at].add(steps * values));
                add::<M, GROUPS>(&mut sums[at], levels, coarse.as_ptr().add(steps * stride + lane));
                if FINE {
                    add::<M, GROUPS>(&mut fine_sums[at], levels, fine.as_ptr().add(steps * stride + lane));
                }
            }
        }
        for one in (0..TOKENS).step_by(M::Registers::TOKENS) {
            let two = one + M::Registers::TOKENS - 1;
            let pair = [tokens[one], tokens[two]];
            let scale = M::Registers::splat(*input.scales.get_unchecked(pair[0]), *input.scales.get_unchecked(pair[1]));
            let mut found = [scale; GROUPS];
            for (group, found) in found.iter_mut().enumerate() {
                let mut scores = M::Registers::scores(sums[one][group], sums[two][group]);
                if FINE {
                    let rest = M::Registers::scores(fine_sums[one][group], fine_sums[two][group]);
                    scores = with_fine::<M::Registers>(scores, rest);
                }
                *found = M::Registers::times(scores, scale);
            }
            sink.take(pair, first, found);
        }
    }
}

/// Sums of no products yet, of the groups of lanes from `first` on.
///
/// # Safety
/// As for [`Registers`]; `zero` holds the lanes.
#[inline(always)]
pub(super) unsafe fn begin<R: Registers, const GROUPS: usize>(zero: &[i32], first: usize) -> [R::Sums; GROUPS] {
    // SAFETY: as the caller says.
    unsafe {
        let zero = zero.as_ptr().add(first * R::LANES);
        let mut sums = [R::start(zero); GROUPS];
        for (group, sums) in sums.iter_mut().enumerate() {
            *sums = R::start(zero.add(group * R::LANES));
        }
        sums
    }
}

/// Adds the products of a token's levels and the values of each group at `query`.
///
/// # Safety
/// As for [`Machine`].
#[inline(always)]
unsafe fn add<M: Machine, const GROUPS: usize>(sums: &mut [Sums<M>; GROUPS], levels: M::Levels, query: *const i8) {
    for (group, sums) in sums.iter_mut().enumerate() {
        // SAFETY: as the caller says.
        *sums = unsafe { M::add(*sums, levels, query.add(group * M::Registers::LANES * M::LAYOUT.step)) };
    }
}

/// The scores of both parts of the query.
///
/// # Safety
/// As for [`Registers`].
#[inline(always)]
pub(super) unsafe fn with_fine<R: Registers>(coarse: R::Scores, fine: R::Scores) -> R::Scores {
    const SHARE: f32 = 1.0 / 128.0;
    // SAFETY: as the caller says.
    unsafe { R::plus(coarse, R::times(fine, R::splat(SHARE, SHARE))) }
}

/// # Safety
/// As for [`Machine`].
#[inline(always)]
pub(super) unsafe fn raise_best<M: Machine>(query: &QueryLanes, grade: Grade, tokens: Tokens<'_>, best: &mut [f32]) {
    let input = Input::new::<M>(query, grade, tokens.levels, tokens.scales);
    // SAFETY: lengths were just checked, and the sink checks its own.
    unsafe {
        match tokens.rows {
            Some(rows) => M::run(input, &mut Best::<_, true>::new(rows, query.lanes(), input.tokens, best)),
            None => M::run(input, &mut Best::<_, false>::new(Rows::default(), query.lanes(), input.tokens, best)),
        }
    }
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
    let input = Input::new::<M>(query, grade, levels, scales);
    // SAFETY: as above.
    unsafe { M::run(input, &mut Fill::new(query.lanes(), input.tokens, rows)) }
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
    let input = Input::new::<M>(query, Grade::Coarse, levels, scales);
    // SAFETY: as above.
    unsafe { M::run(input, &mut Nearest::new(query, half_norms, input.tokens, found)) }
}
