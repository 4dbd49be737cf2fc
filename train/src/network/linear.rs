//! Linear layers whose weight is frozen, with or without a low-rank update that learns.

use candle_core::{Result, Tensor};
use colqwen_index_ingest::colqwen2::derivative::with_derivative;
use colqwen_index_ingest::colqwen2::weights::LinearMap;

use crate::dropout::Mask;

/// `x w^T + b` that hands the gradient on to `x` alone: candle would compute and keep that of every frozen weight, too.
#[derive(Debug)]
pub(super) struct FrozenLinear {
    /// outputs x inputs.
    pub(super) weight: Tensor,
    /// outputs.
    pub(super) bias: Option<Tensor>,
}

impl LinearMap for FrozenLinear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let product = x.detach().matmul(&self.weight.t()?)?;
        let product = match &self.bias {
            Some(bias) => product.broadcast_add(bias)?,
            None => product,
        };
        let weight = self.weight.clone();
        with_derivative(x, product, move |_, slope| slope.matmul(&weight))
    }
}

/// A frozen layer with `scale b a dropout(x)` added.
#[derive(Debug)]
pub(super) struct LowRankLinear {
    pub(super) frozen: FrozenLinear,
    /// rank x inputs.
    pub(super) a: Tensor,
    /// outputs x rank.
    pub(super) b: Tensor,
    pub(super) scale: f64,
    pub(super) dropout: Mask,
}

impl LinearMap for LowRankLinear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let kept = self.dropout.apply(x)?;
        let update = kept.matmul(&self.a.t()?)?.matmul(&self.b.t()?)?;
        self.frozen.forward(x)? + (update * self.scale)?
    }
}
