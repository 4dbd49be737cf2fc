//! How likely counts are if nothing but chance made them.

/// The probability that a Poisson variable of mean `mean` is at least `count`. For a sum of independent yes-or-no events
/// with these expectations it is an upper bound wherever `count` lies above the mean by one or more (Hoeffding 1956).
pub(super) fn poisson_at_least(mean: f64, count: u64) -> f64 {
    if count == 0 || mean <= 0.0 {
        return if count == 0 { 1.0 } else { 0.0 };
    }
    let term = |k: u64| (k as f64 * mean.ln() - mean - ln_gamma(k as f64 + 1.0)).exp();
    if (count as f64) <= mean {
        return (1.0 - (0..count).map(term).sum::<f64>()).clamp(0.0, 1.0);
    }
    // Above the mean terms fall, so the rest is small once one is.
    let mut sum = 0.0;
    for term in (count..).map(term) {
        sum += term;
        if term <= sum * 1e-16 {
            break;
        }
    }
    sum.min(1.0)
}

/// The probability that of `trials` events, each of probability `share`, at least `count` happen.
pub(super) fn binomial_at_least(trials: u64, share: f64, count: u64) -> f64 {
    if count == 0 || share >= 1.0 {
        return 1.0;
    }
    if count > trials || share <= 0.0 {
        return 0.0;
    }
    let choose = |k: f64| ln_gamma(trials as f64 + 1.0) - ln_gamma(k + 1.0) - ln_gamma(trials as f64 - k + 1.0);
    let term = |k: u64| (choose(k as f64) + k as f64 * share.ln() + (trials - k) as f64 * (1.0 - share).ln()).exp();
    (count..=trials).map(term).sum::<f64>().min(1.0)
}

/// The probability that a standard normal variable is above `z`, to 7 digits of it (Numerical Recipes, erfc by a Chebyshev
/// fit with a relative error below 1.2e-7 everywhere, so far tails are as good).
pub(super) fn normal_above(z: f64) -> f64 {
    const FIT: [f64; 10] = [
        -1.26551223,
        1.00002368,
        0.37409196,
        0.09678418,
        -0.18628806,
        0.27886807,
        -1.13520398,
        1.48851587,
        -0.82215223,
        0.17087277,
    ];
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x);
    let fit = FIT.iter().rev().fold(0.0, |sum, coefficient| sum * t + coefficient);
    let tail = 0.5 * t * (fit - x * x).exp();
    if z < 0.0 { 1.0 - tail } else { tail }
}

/// The logarithm of the gamma function for numbers above 0 (Lanczos 1964, g = 7, 9 terms).
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        let pi = std::f64::consts::PI;
        return (pi / (pi * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let sum = TERMS.iter().zip(1..).fold(0.999_999_999_999_809_9, |sum, (term, at)| sum + term / (x + f64::from(at)));
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_those_of_tables() {
        let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
        // 1 - e^-2 (1 + 2), and far out.
        close(poisson_at_least(2.0, 2), 1.0 - 3.0 * (-2f64).exp());
        close(poisson_at_least(1.0, 10), 1.1142547833872e-7);
        // The median of a whole mean is the mean.
        assert!(poisson_at_least(1000.0, 1000) > 0.5 && poisson_at_least(1000.0, 1001) < 0.5);
        assert!(poisson_at_least(3.0, 0) == 1.0 && poisson_at_least(0.0, 1) < 1e-200);
        close(binomial_at_least(10, 0.5, 9), 11.0 / 1024.0);
        close(binomial_at_least(4, 0.2, 4), 0.0016);
        assert_eq!((binomial_at_least(4, 0.2, 5), binomial_at_least(4, 1.0, 4)), (0.0, 1.0));
        close(normal_above(1.959963985), 0.025);
        close(normal_above(6.0), 9.865876e-10);
        close(normal_above(-1.0), 0.841344746);
    }
}
