//! Variable-length attention without padding on an NVIDIA GPU.

use candle_core::{Result, Tensor};

use super::attention::Packing;

/// As [`super::ops::Ops::attention`], in the bf16 or f16 that the kernel takes.
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, packing: &Packing, causal: bool) -> Result<Tensor> {
    let scale = 1.0 / (q.dim(2)? as f32).sqrt();
    let starts = Tensor::new(packing.starts().as_slice(), q.device())?;
    let longest = packing.longest();
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    candle_flash_attn::flash_attn_varlen(&q, &k, &v, &starts, &starts, longest, longest, scale, causal)
}
