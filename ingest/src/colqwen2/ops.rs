//! The one place that chooses between fused operations (fast, no gradient), differentiable ones, and those of a GPU.

use candle_core::{DType, Result, Tensor};
use candle_nn::ops as fused;

use super::attention::{self, Packing};
use super::{attention_gradient, differentiable, elementwise};

/// Which implementation of each operation the model runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ops {
    /// The fastest for inference. candle gives these operations no gradient, without saying so.
    #[default]
    Fused,
    /// The same with a gradient, for training.
    Differentiable,
}

impl Ops {
    /// Root-mean-square norm of the last dimension, times `weight`.
    pub(crate) fn rms_norm(self, x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
        match self {
            Self::Fused => fused::rms_norm(&x.contiguous()?, weight, eps as f32),
            Self::Differentiable => differentiable::rms_norm(x, weight, eps),
        }
    }

    /// Layer norm of the last dimension, times `weight`, plus `bias`.
    pub(crate) fn layer_norm(self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
        match self {
            Self::Fused => fused::layer_norm(&x.contiguous()?, weight, bias, eps as f32),
            Self::Differentiable => differentiable::layer_norm(x, weight, bias, eps),
        }
    }

    /// Rotary embedding by halves. `x`: tokens x heads x head_dim; `cos`, `sin`: tokens x head_dim/2.
    pub(crate) fn rope(self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        match self {
            Self::Fused => candle_nn::rotary_emb::rope_thd(&x.unsqueeze(0)?.contiguous()?, cos, sin)?.squeeze(0),
            Self::Differentiable => differentiable::rope(x, cos, sin),
        }
    }

    /// `x * sigmoid(1.702 x)`, the vision tower's activation. `x` is fresh from a matrix product: its memory may be used.
    pub(crate) fn quick_gelu(self, x: Tensor) -> Result<Tensor> {
        match self {
            Self::Differentiable => differentiable::quick_gelu(&x),
            Self::Fused if has_kernels(&x) => elementwise::quick_gelu(&x).map(|()| x),
            Self::Fused => &x * fused::sigmoid(&(&x * 1.702)?)?,
        }
    }

    /// `silu(gate) * up`, the language model's activation. `gate` is fresh from a matrix product: its memory may be used.
    pub(crate) fn swiglu(self, gate: Tensor, up: &Tensor) -> Result<Tensor> {
        match self {
            Self::Differentiable => differentiable::swiglu(&gate, up),
            Self::Fused if has_kernels(&gate) => elementwise::swiglu(&gate, up).map(|()| gate),
            Self::Fused => gate.silu()? * up,
        }
    }

    /// Softmax attention within each sequence of the packing. `q`: tokens x heads x head_dim; `k`, `v`: tokens x
    /// kv_heads x head_dim, where each kv head serves `heads / kv_heads` neighbouring heads. Returns tokens x heads x
    /// head_dim.
    pub(crate) fn attention(
        self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        packing: &Packing,
        causal: bool,
    ) -> Result<Tensor> {
        match self {
            Self::Differentiable => attention_gradient::attention(q, k, v, packing, causal),
            Self::Fused if has_kernels(q) => attention::by_head(q, k, v, packing, causal),
            #[cfg(feature = "flash-attn")]
            Self::Fused if q.device().is_cuda() && super::flash::takes(q) => {
                super::flash::attention(q, k, v, packing, causal)
            }
            Self::Fused => attention_gradient::by_blocks(q, k, v, packing, causal),
        }
    }
}

/// Whether this crate's own kernels take `x`: they compute in f32 on the CPU.
pub(super) fn has_kernels(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}
