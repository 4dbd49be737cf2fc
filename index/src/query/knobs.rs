//! What lies beneath the one knob: constants of the pruned search, for experts and their benchmarks.

/// How the pruned search goes about what an [`Effort`](super::Effort) allows it to lose.
///
/// The defaults were chosen with `benches/end_to_end` on its three shapes; they depend on neither the size nor the kind of an
/// index. Values that make no sense (not finite, negative) are taken for 0.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct Knobs {
    /// Centroids that each query token looks up, as a multiple of the square root of all; at least one. The same at each
    /// effort, so that more effort goes on where less has stopped. Half of the default loses a hundredth of the hits of large
    /// indexes.
    pub probes: f32,
    /// What a centroid may score less than a page's best one for its tokens to enter the page's coarse score, in standard
    /// deviations of what the page's largest residual adds to a score. At 1 made-up pages are found as well, but a hundredth of
    /// the hits is lost among pages of a model, whose residuals are no noise (`benches/real_pages`: .967 of exact's hits at the
    /// default effort, .986 at 2, .989 at 3 in half as much time again).
    pub reach: f32,
    /// What of the allowed loss may stem from pages known by inverted lists only, by centroids only, and by coarse codes only;
    /// taken relative to their sum.
    pub loss_shares: [f32; 3],
}

impl Default for Knobs {
    fn default() -> Self {
        Self { probes: 0.4, reach: 2.0, loss_shares: [0.3, 0.4, 0.3] }
    }
}

impl Knobs {
    /// With values that make no sense replaced.
    pub(super) fn sane(self) -> Self {
        let sane = |value: f32| if value.is_finite() { value.max(0.0) } else { 0.0 };
        let sum: f64 = self.loss_shares.into_iter().map(|value| f64::from(sane(value))).sum();
        let share = |value: f32| if sum > 0.0 { (f64::from(sane(value)) / sum) as f32 } else { 1.0 / 3.0 };
        Self { probes: sane(self.probes), reach: sane(self.reach), loss_shares: self.loss_shares.map(share) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_values_are_replaced() {
        let knobs = Knobs { probes: f32::NAN, reach: -1.0, loss_shares: [2.0, f32::INFINITY, 2.0] }.sane();
        assert_eq!(knobs, Knobs { probes: 0.0, reach: 0.0, loss_shares: [0.5, 0.0, 0.5] });
        assert_eq!(Knobs { loss_shares: [0.0; 3], ..Knobs::default() }.sane().loss_shares, [1.0 / 3.0; 3]);
    }
}
