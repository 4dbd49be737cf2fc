//! The derivative of a loss by every parameter, summed over mini-batches.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};

use crate::Error;
use crate::encode::Parameter;

/// One gradient per parameter, in their order; `None` where the loss does not depend on the parameter.
#[derive(Clone, Debug)]
pub struct Gradients(Vec<Option<Tensor>>);

impl Gradients {
    /// No gradient for any of `parameters` parameters.
    pub fn none(parameters: usize) -> Self {
        Self(vec![None; parameters])
    }

    /// Adds what `store` holds for `parameters`.
    ///
    /// # Errors
    /// The device fails.
    pub fn add(&mut self, parameters: &[Parameter], store: &GradStore) -> Result<(), Error> {
        for (sum, parameter) in self.0.iter_mut().zip(parameters) {
            let Some(more) = store.get(parameter.var.as_tensor()) else { continue };
            // Detached, or each sum would keep the graph of all mini-batches before it.
            *sum = Some(match sum.take() {
                Some(sum) => (sum + more)?.detach(),
                None => more.detach(),
            });
        }
        Ok(())
    }

    /// Adds the gradients of another device, moved to `device`.
    ///
    /// # Errors
    /// They are of other parameters, or a device fails.
    pub fn add_all(&mut self, other: &Self, device: &Device) -> Result<(), Error> {
        if self.0.len() != other.0.len() {
            return Err(Error::shape("gradients", format!("{}, one per parameter", self.0.len()), other.0.len()));
        }
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            let Some(more) = more else { continue };
            let more = more.to_device(device)?;
            *sum = Some(match sum.take() {
                Some(sum) => (sum + more)?.detach(),
                None => more,
            });
        }
        Ok(())
    }

    /// The gradient of each parameter.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&Tensor>> {
        self.0.iter().map(Option::as_ref)
    }

    /// The Euclidean length of all gradients as one vector.
    ///
    /// # Errors
    /// The device fails.
    pub fn norm(&self) -> Result<f64, Error> {
        let mut sum = 0.0;
        for gradient in self.0.iter().flatten() {
            sum += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        Ok(sum.sqrt())
    }

    /// Shortens all gradients together so that their norm is at most `limit` (Pascanu et al. 2013); returns the norm
    /// before.
    ///
    /// # Errors
    /// The norm is not a number, which would spoil every weight, or the device fails.
    pub fn clip(&mut self, limit: f64) -> Result<f64, Error> {
        let norm = self.norm()?;
        if !norm.is_finite() {
            return Err(Error::shape("gradient", "finite numbers", format!("a norm of {norm}")));
        }
        if norm > limit {
            for gradient in self.0.iter_mut().flatten() {
                *gradient = (&*gradient * (limit / (norm + 1e-6)))?;
            }
        }
        Ok(norm)
    }
}
