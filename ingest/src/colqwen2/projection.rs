//! From the language model's states to token vectors of length 1.

use candle_core::{D, DType, Result, Tensor};

use super::weights::{Linear, WeightSource};
use crate::encoder::EncoderError;

/// Values per token vector where nothing says how many: ColPali's, and since then everybody's.
pub(super) const DIM: usize = 128;

/// The linear projection that makes a ColQwen2 out of a Qwen2-VL.
pub(crate) struct Projection {
    linear: Linear,
    dim: usize,
}

impl Projection {
    pub(crate) fn load(source: &dyn WeightSource, width: usize, dim: usize) -> std::result::Result<Self, EncoderError> {
        Ok(Self { linear: Linear::load(source, "custom_text_proj", width, dim, true)?, dim })
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// `x`: tokens x hidden_size. Returns tokens x dim in f32, each row of length 1.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.linear.forward(x)?.to_dtype(DType::F32)?;
        let length = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        x.broadcast_div(&length)
    }
}
