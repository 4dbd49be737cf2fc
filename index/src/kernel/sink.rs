//! What becomes of the scores of a tile: the best is kept, all are kept, or the index of the best.

use super::lanes::Tokens;
use super::tile::Registers;

/// Takes scores, one register of lanes of neighbouring tokens at a time.
pub(super) trait Sink {
    /// Scores of tokens from `token` on with the lanes from `lane` on.
    ///
    /// # Safety
    /// As for [`Registers`].
    unsafe fn take<R: Registers, const TOKENS: usize>(
        &mut self,
        token: usize,
        lane: usize,
        scores: [R::Scores; TOKENS],
    );
}

/// MaxSim: adds the row of the token's centroid and keeps the best.
pub(super) struct Best<'a> {
    pub tokens: Tokens<'a>,
    pub lanes: usize,
    pub best: &'a mut [f32],
}

impl Sink for Best<'_> {
    #[inline(always)]
    unsafe fn take<R: Registers, const TOKENS: usize>(
        &mut self,
        token: usize,
        lane: usize,
        scores: [R::Scores; TOKENS],
    ) {
        // SAFETY: `best` holds all lanes; rows were checked to hold the centroids of all tokens.
        unsafe {
            let place = self.best.as_mut_ptr().add(lane);
            let mut best = R::load(place);
            for (at, mut scores) in scores.into_iter().enumerate() {
                if let Some(rows) = self.tokens.rows {
                    let centroid = usize::from(*rows.centroids.get_unchecked(token + at));
                    scores = R::plus(scores, R::load(rows.table.as_ptr().add(centroid * self.lanes + lane)));
                }
                best = R::greater(scores, best);
            }
            R::store(place, best);
        }
    }
}

/// Keeps all scores.
pub(super) struct Fill<'a> {
    pub lanes: usize,
    pub rows: &'a mut [f32],
}

impl Sink for Fill<'_> {
    #[inline(always)]
    unsafe fn take<R: Registers, const TOKENS: usize>(
        &mut self,
        token: usize,
        lane: usize,
        scores: [R::Scores; TOKENS],
    ) {
        for (at, scores) in scores.into_iter().enumerate() {
            // SAFETY: `rows` holds all lanes of all tokens.
            unsafe { R::store(self.rows.as_mut_ptr().add((token + at) * self.lanes + lane), scores) }
        }
    }
}

/// The index of the best token of each lane.
pub(super) struct Nearest<'a> {
    pub half_norms: &'a [f32],
    pub inverse: &'a [f32],
    pub best: &'a mut [f32],
    pub found: &'a mut [u32],
}

/// Lanes of the widest registers.
const MOST_LANES: usize = 16;

impl Sink for Nearest<'_> {
    #[inline(always)]
    unsafe fn take<R: Registers, const TOKENS: usize>(
        &mut self,
        token: usize,
        lane: usize,
        scores: [R::Scores; TOKENS],
    ) {
        let (mut values, mut old) = ([0.0f32; MOST_LANES], [0.0f32; MOST_LANES]);
        // SAFETY: all slices hold all lanes, `half_norms` all tokens.
        unsafe {
            let place = self.best.as_mut_ptr().add(lane);
            let inverse = R::load(self.inverse.as_ptr().add(lane));
            for (at, scores) in scores.into_iter().enumerate() {
                let far = R::times(R::splat(-*self.half_norms.get_unchecked(token + at)), inverse);
                let scores = R::plus(scores, far);
                let before = R::load(place);
                R::store(values.as_mut_ptr(), scores);
                R::store(old.as_mut_ptr(), before);
                R::store(place, R::greater(scores, before));
                for index in 0..R::LANES {
                    let found = self.found.get_unchecked_mut(lane + index);
                    *found = if values[index] > old[index] { (token + at) as u32 } else { *found };
                }
            }
        }
    }
}
