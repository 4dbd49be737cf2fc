//! The learning rate of each step.

use serde::{Deserialize, Serialize};

use crate::Error;

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Not at all.
    Constant,
    /// In a straight line to 0.
    #[default]
    Linear,
    /// Along half a cosine to 0 (Loshchilov & Hutter, ICLR 2017).
    Cosine,
}

/// Learning rates: a straight rise to `peak` over `warmup` steps, then a fall until step `total`.
///
/// The formulae are those of transformers' `get_linear_schedule_with_warmup` and `get_cosine_schedule_with_warmup`, half a
/// step later: those waste their first step at a rate of 0.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Schedule {
    /// The highest learning rate.
    pub peak: f64,
    /// Steps of the rise.
    pub warmup: u64,
    /// All steps.
    pub total: u64,
    /// The fall.
    pub decay: Decay,
}

impl Schedule {
    /// Checks the numbers.
    ///
    /// # Errors
    /// The peak is not above 0, there are no steps, or the warm-up takes them all.
    pub fn check(&self) -> Result<(), Error> {
        if !(self.peak > 0.0 && self.peak.is_finite()) {
            return Err(Error::setting("learning rate", "a number above 0", self.peak));
        }
        if self.warmup >= self.total {
            let received = format!("{} of {} steps", self.warmup, self.total);
            return Err(Error::setting("warm-up", "fewer steps than the training has", received));
        }
        Ok(())
    }

    /// The learning rate of step `step`, from 0: in the middle of the step's share of rise or fall, and so never 0.
    pub fn rate(&self, step: u64) -> f64 {
        let at = step as f64 + 0.5;
        let (warmup, total) = (self.warmup as f64, self.total as f64);
        if at < warmup {
            return self.peak * at / warmup;
        }
        let done = ((at - warmup) / (total - warmup)).min(1.0);
        self.peak
            * match self.decay {
                Decay::Constant => 1.0,
                Decay::Linear => 1.0 - done,
                Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_and_fall_as_they_should() {
        let schedule = |decay| Schedule { peak: 2.0, warmup: 4, total: 14, decay };
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} != {expected}");
        for decay in [Decay::Constant, Decay::Linear, Decay::Cosine] {
            (0..4).for_each(|step| close(schedule(decay).rate(step), (step as f64 + 0.5) * 0.5));
        }
        close(schedule(Decay::Constant).rate(13), 2.0);
        close(schedule(Decay::Linear).rate(4), 1.9);
        close(schedule(Decay::Linear).rate(13), 0.1);
        close(schedule(Decay::Cosine).rate(4) + schedule(Decay::Cosine).rate(13), 2.0);
        close(schedule(Decay::Linear).rate(100), 0.0);
        close(Schedule { warmup: 0, ..schedule(Decay::Linear) }.rate(0), 2.0 * (1.0 - 0.5 / 14.0));
        assert!(
            Schedule { warmup: 14, ..schedule(Decay::Linear) }.check().unwrap_err().to_string().contains("14 of 14")
        );
        assert!(Schedule { peak: 0.0, ..schedule(Decay::Linear) }.check().is_err());
        assert!(schedule(Decay::Cosine).check().is_ok());
    }
}
