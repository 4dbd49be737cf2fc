//! Variable-length attention without padding on an NVIDIA GPU.

use candle_core::{DType, Result, Tensor};

use super::attention::Packing;

/// Whether the kernel can: half precision, heads of a multiple of 8 values, at most 256. Both towers of the real model fit.
pub(crate) fn takes(q: &Tensor) -> bool {
    let head_dim = q.dims().last().copied().unwrap_or(0);
    matches!(q.dtype(), DType::BF16 | DType::F16) && head_dim.is_multiple_of(8) && head_dim <= 256
}

/// As [`super::ops::Ops::attention`], in the bf16 or f16 that the kernel takes.
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, packing: &Packing, causal: bool) -> Result<Tensor> {
    let scale = 1.0 / (q.dim(2)? as f32).sqrt();
    let starts = Tensor::new(packing.starts().as_slice(), q.device())?;
    let longest = packing.longest();
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    candle_flash_attn::flash_attn_varlen(&q, &k, &v, &starts, &starts, longest, longest, scale, causal)
}
