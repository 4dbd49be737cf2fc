//! What becomes of the scores of page tokens with query lanes: the best is kept, all are kept, or the place of the best.

use super::lanes::{QueryLanes, Rows};
use super::tile::Registers;

/// Groups of a pass at most.
pub(super) const PASS_GROUPS: usize = 3;

/// Lanes of a group at most.
const MOST_LANES: usize = 16;

/// Takes scores pass by pass, each pass with all tokens and a few groups of lanes. A token may come again with the same scores.
///
/// # Safety
/// As for [`Registers`]; tokens and lanes are among those that the sink was made for.
pub(super) trait Sink<R: Registers> {
    /// A pass begins.
    unsafe fn begin(&mut self);
    /// The scores of two tokens (one, where [`Registers::TOKENS`] is 1) with the groups of lanes from `first` on.
    unsafe fn take<const GROUPS: usize>(&mut self, tokens: [usize; 2], first: usize, scores: [R::Scores; GROUPS]);
    /// A pass over groups `first..first + groups` has ended.
    unsafe fn end(&mut self, first: usize, groups: usize);
}

/// MaxSim: adds the row of the token's centroid, if there are `ROWS`, and keeps the best.
pub(super) struct Best<'a, R: Registers, const ROWS: bool> {
    rows: Rows<'a>,
    lanes: usize,
    best: &'a mut [f32],
    /// The best of a pass.
    raised: [R::Scores; PASS_GROUPS],
}

/// Scores that anything exceeds.
///
/// # Safety
/// As for [`Registers`].
#[inline(always)]
unsafe fn lowest<R: Registers>() -> [R::Scores; PASS_GROUPS] {
    // SAFETY: as the caller says.
    unsafe { [R::splat(f32::NEG_INFINITY, f32::NEG_INFINITY); PASS_GROUPS] }
}

impl<'a, R: Registers, const ROWS: bool> Best<'a, R, ROWS> {
    /// # Safety
    /// As for [`Registers`].
    #[inline(always)]
    pub unsafe fn new(rows: Rows<'a>, lanes: usize, tokens: usize, best: &'a mut [f32]) -> Self {
        assert!(best.len() >= lanes);
        if ROWS {
            let last = rows.centroids.iter().copied().max().map_or(0, |last| usize::from(last) + 1);
            assert!(rows.table.len() >= last * lanes && rows.centroids.len() >= tokens);
        }
        // SAFETY: as the caller says.
        Self { rows, lanes, best, raised: unsafe { lowest::<R>() } }
    }
}

impl<R: Registers, const ROWS: bool> Sink<R> for Best<'_, R, ROWS> {
    #[inline(always)]
    unsafe fn begin(&mut self) {
        // SAFETY: as the caller says.
        self.raised = unsafe { lowest::<R>() };
    }

    #[inline(always)]
    unsafe fn take<const GROUPS: usize>(&mut self, tokens: [usize; 2], first: usize, scores: [R::Scores; GROUPS]) {
        // SAFETY: rows were checked to hold the centroids of all tokens.
        unsafe {
            if ROWS {
                let [one, two] = tokens.map(|token| {
                    let row = usize::from(*self.rows.centroids.get_unchecked(token)) * self.lanes;
                    self.rows.table.as_ptr().add(row + first * R::LANES)
                });
                for (group, (raised, scores)) in self.raised.iter_mut().zip(scores).enumerate() {
                    let row = R::load(one.add(group * R::LANES), two.add(group * R::LANES));
                    *raised = R::greater(R::plus(scores, row), *raised);
                }
            } else {
                for (raised, scores) in self.raised.iter_mut().zip(scores) {
                    *raised = R::greater(scores, *raised);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn end(&mut self, first: usize, groups: usize) {
        for (group, raised) in self.raised.iter().enumerate().take(groups) {
            let (mut one, mut two) = ([f32::NEG_INFINITY; MOST_LANES], [f32::NEG_INFINITY; MOST_LANES]);
            // SAFETY: both hold a group.
            unsafe { R::store(one.as_mut_ptr(), two.as_mut_ptr(), *raised) };
            let best = &mut self.best[(first + group) * R::LANES..][..R::LANES];
            for scores in [one, two] {
                best.iter_mut().zip(scores).for_each(|(best, score)| *best = if score > *best { score } else { *best });
            }
        }
    }
}

/// Keeps all scores.
pub(super) struct Fill<'a> {
    lanes: usize,
    rows: &'a mut [f32],
}

impl<'a> Fill<'a> {
    pub fn new(lanes: usize, tokens: usize, rows: &'a mut [f32]) -> Self {
        assert!(rows.len() >= tokens * lanes);
        Self { lanes, rows }
    }
}

impl<R: Registers> Sink<R> for Fill<'_> {
    #[inline(always)]
    unsafe fn begin(&mut self) {}

    #[inline(always)]
    unsafe fn take<const GROUPS: usize>(&mut self, tokens: [usize; 2], first: usize, scores: [R::Scores; GROUPS]) {
        // SAFETY: `rows` holds all lanes of all tokens.
        unsafe {
            let rows = self.rows.as_mut_ptr().add(first * R::LANES);
            let [one, two] = tokens.map(|token| rows.add(token * self.lanes));
            for (group, scores) in scores.into_iter().enumerate() {
                R::store(one.add(group * R::LANES), two.add(group * R::LANES), scores);
            }
        }
    }

    #[inline(always)]
    unsafe fn end(&mut self, _first: usize, _groups: usize) {}
}

/// The index of the best token of each lane, half the squared length of the token taken off its score.
pub(super) struct Nearest<'a, R: Registers> {
    half_norms: &'a [f32],
    inverse: &'a [f32],
    found: &'a mut [u32],
    best: [R::Scores; PASS_GROUPS],
    /// The bits of u32.
    places: [R::Scores; PASS_GROUPS],
}

impl<'a, R: Registers> Nearest<'a, R> {
    /// # Safety
    /// As for [`Registers`].
    #[inline(always)]
    pub unsafe fn new(query: &'a QueryLanes, half_norms: &'a [f32], tokens: usize, found: &'a mut [u32]) -> Self {
        assert!(half_norms.len() >= tokens && found.len() >= query.lanes());
        // SAFETY: as the caller says.
        let best = unsafe { lowest::<R>() };
        Self { half_norms, inverse: query.inverse_scales(), found, best, places: best }
    }
}

impl<R: Registers> Sink<R> for Nearest<'_, R> {
    #[inline(always)]
    unsafe fn begin(&mut self) {
        // SAFETY: as the caller says.
        self.best = unsafe { lowest::<R>() };
    }

    #[inline(always)]
    unsafe fn take<const GROUPS: usize>(&mut self, tokens: [usize; 2], first: usize, scores: [R::Scores; GROUPS]) {
        // SAFETY: lanes and half norms are there for all tokens.
        unsafe {
            let [one, two] = tokens.map(|token| -self.half_norms.get_unchecked(token));
            let far = R::splat(one, two);
            let [one, two] = tokens.map(|token| f32::from_bits(token as u32));
            let places = R::splat(one, two);
            for (group, scores) in scores.into_iter().enumerate() {
                let inverse = self.inverse.as_ptr().add((first + group) * R::LANES);
                let scores = R::plus(scores, R::times(far, R::load(inverse, inverse)));
                let before = self.best[group];
                self.places[group] = R::choose(scores, before, places, self.places[group]);
                self.best[group] = R::greater(scores, before);
            }
        }
    }

    #[inline(always)]
    unsafe fn end(&mut self, first: usize, groups: usize) {
        for group in 0..groups {
            let mut scores = [[f32::NEG_INFINITY; MOST_LANES]; 2];
            let mut places = [[0.0f32; MOST_LANES]; 2];
            let ([one, two], [one_place, two_place]) = (&mut scores, &mut places);
            // SAFETY: all hold a group.
            unsafe {
                R::store(one.as_mut_ptr(), two.as_mut_ptr(), self.best[group]);
                R::store(one_place.as_mut_ptr(), two_place.as_mut_ptr(), self.places[group]);
            }
            let found = &mut self.found[(first + group) * R::LANES..][..R::LANES];
            for (lane, found) in found.iter_mut().enumerate() {
                let [one, two] = scores.map(|scores| scores[lane]);
                let [one_place, two_place] = places.map(|places| places[lane].to_bits());
                if one > f32::NEG_INFINITY || two > f32::NEG_INFINITY {
                    *found = if two > one || (two == one && two_place < one_place) { two_place } else { one_place };
                }
            }
        }
    }
}
