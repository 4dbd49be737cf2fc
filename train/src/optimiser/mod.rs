//! What a gradient does to the weights: AdamW, and the learning rate of each step.
//!
//! candle-nn has an AdamW, too, but its moments cannot be read back, so that a run that is resumed would start them anew.

mod schedule;

pub use schedule::{Decay, Schedule};

use candle_core::{DType, Tensor};

use crate::Error;
use crate::encode::Parameter;
use crate::gradients::Gradients;

/// Settings of [`AdamW`].
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct AdamWOptions {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// What keeps the division finite.
    pub epsilon: f64,
    /// Share of a weight, times the learning rate, that is lost each step. Biases and norms (parameters of one
    /// dimension) are spared.
    pub weight_decay: f64,
}

impl Default for AdamWOptions {
    /// PyTorch's defaults.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 }
    }
}

/// Mean and mean square of a parameter's gradient.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Of the gradient.
    pub first: Tensor,
    /// Of its square.
    pub second: Tensor,
}

/// Adam with weight decay apart from the gradient (Loshchilov & Hutter, ICLR 2019).
#[derive(Clone, Debug)]
pub struct AdamW {
    options: AdamWOptions,
    steps: u64,
    moments: Vec<Moments>,
}

impl AdamW {
    /// A fresh optimiser of `parameters`.
    ///
    /// # Errors
    /// A parameter is not f32: rounded to less, small steps would be lost. Or a setting lies outside of its range.
    pub fn new(parameters: &[Parameter], options: AdamWOptions) -> Result<Self, Error> {
        let zeros = |parameter: &Parameter| {
            let zeros = parameter.var.zeros_like()?.detach();
            Ok(Moments { first: zeros.copy()?, second: zeros })
        };
        let moments = parameters.iter().map(zeros).collect::<Result<_, Error>>()?;
        Self::resume(parameters, options, 0, moments)
    }

    /// An optimiser as it was after `steps` steps.
    ///
    /// # Errors
    /// The moments are not of these parameters, or as [`AdamW::new`].
    pub fn resume(
        parameters: &[Parameter],
        options: AdamWOptions,
        steps: u64,
        moments: Vec<Moments>,
    ) -> Result<Self, Error> {
        for beta in [options.beta1, options.beta2] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::setting("beta of AdamW", "a number from 0 up to, not including, 1", beta));
            }
        }
        if !(options.epsilon > 0.0 && options.weight_decay >= 0.0) {
            let received = format!("{} and {}", options.epsilon, options.weight_decay);
            return Err(Error::setting("epsilon and weight decay", "above 0, and not below 0", received));
        }
        if moments.len() != parameters.len() {
            return Err(Error::shape("moments", format!("{}, one per parameter", parameters.len()), moments.len()));
        }
        for (parameter, moments) in parameters.iter().zip(&moments) {
            for tensor in [parameter.var.as_tensor(), &moments.first, &moments.second] {
                if tensor.dtype() != DType::F32 || tensor.shape() != parameter.var.shape() {
                    let expected = format!("{:?} of f32 for {}", parameter.var.dims(), parameter.name);
                    let received = format!("{:?} of {:?}", tensor.dims(), tensor.dtype());
                    return Err(Error::shape("parameter and moments", expected, received));
                }
            }
        }
        Ok(Self { options, steps, moments })
    }

    /// Moves each parameter that has a gradient.
    ///
    /// # Errors
    /// The gradients are not of these parameters, or the device fails.
    pub fn step(&mut self, parameters: &[Parameter], gradients: &Gradients, rate: f64) -> Result<(), Error> {
        if gradients.iter().len() != parameters.len() || self.moments.len() != parameters.len() {
            let expected = format!("{}, one per parameter", self.moments.len());
            return Err(Error::shape("gradients", expected, gradients.iter().len()));
        }
        self.steps += 1;
        let AdamWOptions { beta1, beta2, epsilon, weight_decay } = self.options;
        // As f64, whose powers lose nothing that matters; after 2^31 steps both are 1.
        let correction = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        let (first_correction, second_correction) = (correction(beta1), correction(beta2));
        for ((parameter, moments), gradient) in parameters.iter().zip(&mut self.moments).zip(gradients.iter()) {
            let Some(gradient) = gradient else { continue };
            moments.first = ((&moments.first * beta1)? + (gradient * (1.0 - beta1))?)?.detach();
            moments.second = ((&moments.second * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?.detach();
            let scale = ((&moments.second / second_correction)?.sqrt()? + epsilon)?;
            let change = ((&moments.first / first_correction)? / scale)?;
            let decay = if parameter.var.rank() > 1 { weight_decay } else { 0.0 };
            let kept = (parameter.var.as_tensor() * (1.0 - rate * decay))?;
            parameter.var.set(&(kept - (change * rate)?)?.detach())?;
        }
        Ok(())
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The settings.
    pub fn options(&self) -> AdamWOptions {
        self.options
    }

    /// What has to be kept for [`AdamW::resume`], one per parameter.
    pub fn moments(&self) -> &[Moments] {
        &self.moments
    }
}
