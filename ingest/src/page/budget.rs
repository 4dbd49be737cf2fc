//! How many pixels a page may have.

/// The pixels a model accepts for one page.
///
/// A ColQwen2 page token covers `factor` x `factor` pixels, so a budget of 768 tokens is
/// `max_pixels = 768 * 28 * 28`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelBudget {
    /// The most pixels (width x height) of a page.
    pub max_pixels: u32,
    /// The fewest pixels (width x height) of a page.
    pub min_pixels: u32,
    /// Width and height are multiples of this many pixels.
    pub factor: u32,
}

impl Default for PixelBudget {
    /// 768 tokens of 28 x 28 pixels, at least 4 of them: the setting of colqwen2-v1.0.
    fn default() -> Self {
        Self { max_pixels: 768 * 28 * 28, min_pixels: 4 * 28 * 28, factor: 28 }
    }
}

/// The longest side of a page is at most this many times the shortest (the model refuses more).
const MAX_ASPECT: f64 = 200.0;

impl PixelBudget {
    /// The most visual tokens a page can take.
    pub fn max_visual_tokens(&self) -> u32 {
        self.max_pixels / (self.factor * self.factor).max(1)
    }

    /// The largest size in pixels (width, height) within the budget for a page of this shape, in any unit.
    ///
    /// It is what `smart_resize` gives for the page at a resolution above the budget, and `smart_resize` leaves
    /// an image of this size alone, so a page rendered at it is never resampled.
    pub fn fill(&self, width: f64, height: f64) -> (u32, u32) {
        let factor = f64::from(self.factor.max(1));
        let max_pixels = f64::from(self.max_pixels).max(factor * factor);
        let usable = |side: f64| if side.is_finite() && side > 0.0 { side } else { 1.0 };
        let (width, height) = (usable(width), usable(height));
        let aspect = (width / height).clamp(1.0 / MAX_ASPECT, MAX_ASPECT);

        let tile = |side: f64| (side / factor).floor().max(1.0);
        let mut columns = tile((max_pixels * aspect).sqrt());
        let mut rows = tile((max_pixels / aspect).sqrt());
        // Rounding a very narrow side up to one tile can overshoot; the long side gives way.
        let tiles = (max_pixels / (factor * factor)).floor();
        if columns * rows > tiles {
            if columns > rows { columns = (tiles / rows).floor() } else { rows = (tiles / columns).floor() }
        }
        columns = columns.min(rows * MAX_ASPECT);
        rows = rows.min(columns * MAX_ASPECT);
        ((columns * factor) as u32, (rows * factor) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letter_and_a4_fill_the_budget() {
        let budget = PixelBudget::default();
        assert_eq!(budget.fill(612.0, 792.0), (672, 868));
        assert_eq!(budget.fill(1700.0, 2200.0), (672, 868));
        assert_eq!(budget.fill(595.276, 841.89), (644, 896));
        assert_eq!(budget.fill(841.89, 595.276), (896, 644));
    }

    #[test]
    fn odd_shapes_stay_within_the_budget() {
        let budget = PixelBudget::default();
        for (width, height) in [(1.0, 1e6), (1e6, 1.0), (0.0, f64::NAN), (3.0, 1.0), (1.0, 190.0)] {
            let (w, h) = budget.fill(width, height);
            assert!(w >= 28 && h >= 28 && w % 28 == 0 && h % 28 == 0, "{width} x {height} gave {w} x {h}");
            assert!(w * h <= budget.max_pixels && w.max(h) <= 200 * w.min(h), "{width} x {height} gave {w} x {h}");
        }
    }
}
