//! How much a cheap score says about a dear one, learnt within each query from the pages that have both.

use std::sync::LazyLock;

/// The line `dear = offset + slope * cheap` and the spread of what it leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prediction {
    offset: f64,
    slope: f64,
    spread: f64,
}

/// Pages that have a cheap score and a dear one, and what they teach.
#[derive(Default)]
pub(super) struct Lesson {
    points: Vec<(f64, f64)>,
    prediction: Option<Prediction>,
    /// How many points the prediction is from.
    learnt: usize,
}

impl Lesson {
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Adds a page: its cheap score, its dear score, where both are numbers that something can be learnt from.
    pub fn push(&mut self, cheap: f32, dear: f32) {
        if cheap.is_finite() && dear.is_finite() {
            self.points.push((f64::from(cheap), f64::from(dear)));
        }
    }

    /// The prediction from all pages so far.
    pub fn prediction(&mut self) -> Option<Prediction> {
        if self.learnt < self.points.len() {
            (self.prediction, self.learnt) = (Prediction::fit(&self.points), self.points.len());
        }
        self.prediction
    }
}

/// Points that a slope of 1 counts as much as: a few pages of nearly equal score cannot tell a slope.
const PRIOR_POINTS: f64 = 8.0;
/// Deviations beyond which a page is no longer taken for one of the others: the page that a query was made for.
const OUTLIER: f64 = 3.0;

impl Prediction {
    /// The least-squares line through (cheap, dear), once more without outliers. `None` with fewer than 4 points.
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let all = Self::through(points.iter().copied())?;
        let near = |point: &(f64, f64)| (point.1 - all.at(point.0)).abs() <= OUTLIER * all.spread;
        Some(Self::through(points.iter().copied().filter(near)).unwrap_or(all))
    }

    fn through(points: impl Iterator<Item = (f64, f64)> + Clone) -> Option<Self> {
        let count = points.clone().count() as f64;
        if count < 4.0 {
            return None;
        }
        let (x, y) = points.clone().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
        let (mut xx, mut xy) = (0.0, 0.0);
        for point in points.clone() {
            xx += (point.0 - x).powi(2);
            xy += (point.0 - x) * (point.1 - y);
        }
        let prior = xx / count * PRIOR_POINTS;
        let slope = if xx > 0.0 { ((xy + prior) / (xx + prior)).max(0.0) } else { 1.0 };
        let offset = y - slope * x;
        let left: f64 = points.map(|point| (point.1 - offset - slope * point.0).powi(2)).sum();
        Some(Self { offset, slope, spread: (left / (count - 2.0)).sqrt().max(1e-9) })
    }

    fn at(&self, cheap: f64) -> f64 {
        self.offset + self.slope * cheap
    }

    /// From this cheap score through this prediction's dear one to the next one's.
    pub fn then(&self, next: &Self) -> Self {
        Self {
            offset: next.at(self.offset),
            slope: self.slope * next.slope,
            spread: (self.spread * next.slope).hypot(next.spread),
        }
    }

    /// How likely a page with this cheap score exceeds `limit` by the dear one.
    pub fn exceeds(&self, cheap: f64, limit: f64) -> f64 {
        tail((limit - self.at(cheap)) / self.spread)
    }
}

/// Steps of the table of tails per deviation.
const TAIL_STEPS: f64 = 128.0;
/// Deviations that it reaches: beyond, nothing is left.
const TAIL_REACH: f64 = 6.0;

/// The chance that a normal value exceeds `z`, to about 1e-5, which is far below what the predictions are worth.
fn tail(z: f64) -> f64 {
    static TAILS: LazyLock<Vec<f64>> = LazyLock::new(|| {
        let steps = (2.0 * TAIL_REACH * TAIL_STEPS) as u32;
        (0..=steps).map(|step| normal_tail(f64::from(step) / TAIL_STEPS - TAIL_REACH)).collect()
    });
    let at = (z + TAIL_REACH) * TAIL_STEPS;
    if at <= 0.0 {
        return 1.0;
    }
    // Also where it is infinite: the cast saturates.
    let next = (at as usize).saturating_add(1);
    let Some(after) = TAILS.get(next) else { return 0.0 };
    let before = TAILS[next - 1];
    before + (at - (next - 1) as f64) * (after - before)
}

/// The chance that a normal value exceeds `z` (Abramowitz & Stegun 7.1.26, error below 1.5e-7).
fn normal_tail(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let poly =
        t * (0.254_829_592 + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let tail = 0.5 * poly * (-x * x).exp();
    if z >= 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_those_of_the_normal_distribution() {
        for (z, tail) in [(0.0, 0.5), (1.0, 0.158_655), (-1.0, 0.841_345), (3.0, 0.001_350)] {
            assert!((normal_tail(z) - tail).abs() < 1e-6 && (super::tail(z) - tail).abs() < 1e-5, "{z}");
        }
        assert!(super::tail(-9.0) == 1.0 && super::tail(9.0) == 0.0);
        assert!(super::tail(f64::NEG_INFINITY) == 1.0 && super::tail(f64::INFINITY) == 0.0);
    }

    #[test]
    fn predictions_follow_the_points() {
        let noise = |at: usize| (at * 7919 % 101) as f64 / 50.5 - 1.0;
        let points: Vec<(f64, f64)> = (0..200).map(|at| (at as f64, 5.0 + 2.0 * at as f64 + noise(at))).collect();
        let found = Prediction::fit(&points).unwrap();
        assert!((found.slope - 2.0).abs() < 0.1 && found.exceeds(100.0, 150.0) > 0.99);
        assert!(found.exceeds(100.0, 300.0) < 0.01);
        let twice = found.then(&found);
        assert!((twice.slope - found.slope * found.slope).abs() < 1e-9 && twice.spread > found.spread);
    }

    #[test]
    fn a_few_equal_points_are_no_line() {
        assert!(Prediction::fit(&[(1.0, 2.0); 3]).is_none());
        let flat = Prediction::fit(&[(1.0, 2.0); 9]).unwrap();
        assert!(flat.exceeds(5.0, 4.0) > 0.9);
    }
}
