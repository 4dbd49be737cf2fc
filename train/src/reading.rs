//! A warm-up for vision towers that learn to read from nothing: which letters lie in which patch.
//!
//! A linear layer on the states of the vision tower answers for every patch and class whether a letter of the class has its
//! centre there; binary cross-entropy, with the rare "yes" weighed up. The layer is thrown away afterwards.

use candle_core::{Device, Tensor};

use crate::Error;

/// The loss of a batch and its gradient.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Mean over patches and classes.
    pub loss: f64,
    /// Harmonic mean of precision and recall of all answers above one half.
    pub f1: f64,
    /// The derivative by each logit, `patches x classes`.
    pub logits: Tensor,
}

impl Reading {
    /// Judges `logits`, `patches x classes`; `present` says row by row what is there, and each "yes" counts `yes_weight` times.
    ///
    /// # Errors
    /// `present` has another size, or the device fails.
    pub fn evaluate(logits: &Tensor, present: &[bool], yes_weight: f32) -> Result<Self, Error> {
        if present.len() != logits.elem_count() {
            return Err(Error::shape("letters of patches", format!("{} answers", logits.elem_count()), present.len()));
        }
        let values: Vec<f32> = logits.detach().to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
        let scale = 1.0 / values.len().max(1) as f32;
        let (mut loss, mut hits, mut said) = (0.0f64, 0usize, 0usize);
        let mut slopes = Vec::with_capacity(values.len());
        for (value, present) in values.iter().zip(present) {
            let chance = 1.0 / (1.0 + (-value).exp());
            // ln(1 + e^-|x|) never overflows.
            let rest = (-value.abs()).exp().ln_1p();
            let (weight, wrong) = if *present { (yes_weight, -value) } else { (1.0, *value) };
            loss += f64::from(weight * (wrong.max(0.0) + rest));
            slopes.push(scale * weight * if *present { chance - 1.0 } else { chance });
            said += usize::from(*value > 0.0);
            hits += usize::from(*value > 0.0 && *present);
        }
        let there = present.iter().filter(|present| **present).count();
        Ok(Self {
            loss: loss * f64::from(scale),
            f1: 2.0 * hits as f64 / (said + there).max(1) as f64,
            logits: Tensor::from_vec(slopes, logits.shape(), &Device::Cpu)?.to_device(logits.device())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_gradient_and_f1() {
        let values = [2.0f32, -1.0, 0.5, -3.0];
        let present = [true, true, false, false];
        let at = |values: &[f32]| {
            let logits = Tensor::from_slice(values, (2, 2), &Device::Cpu).unwrap();
            Reading::evaluate(&logits, &present, 4.0).unwrap()
        };
        let found = at(&values);
        // One of two said is right, one of two present was said.
        assert!((found.f1 - 0.5).abs() < 1e-9);
        let softplus = |x: f64| x.exp().ln_1p();
        let expected = (4.0 * softplus(-2.0) + 4.0 * softplus(1.0) + softplus(0.5) + softplus(-3.0)) / 4.0;
        assert!((found.loss - expected).abs() < 1e-6);
        let gradient: Vec<f32> = found.logits.flatten_all().unwrap().to_vec1().unwrap();
        for (place, slope) in gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut values = values;
                values[place] += by;
                at(&values).loss
            };
            assert!(((moved(1e-2) - moved(-1e-2)) / 2e-2 - f64::from(*slope)).abs() < 1e-3);
        }
        let logits = Tensor::from_slice(&values, (2, 2), &Device::Cpu).unwrap();
        assert!(Reading::evaluate(&logits, &present[..3], 4.0).is_err());
    }
}
