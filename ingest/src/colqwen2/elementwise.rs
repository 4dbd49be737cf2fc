//! Activations and softmax for inference on CPU, fused and spread over the cores; candle's own run on one core and
//! take the exponential of one number at a time.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Error, InplaceOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Elements that one task works on: large enough to hide the cost of a task, small enough for the cache.
const CHUNK: usize = 16 * 1024;

/// `e^x` in f32, within 2e-7 of the true value in proportion, written so that the compiler turns loops over it into
/// vector code. Below -87 it is 0, above 88 it stays at e^88.
///
/// Cephes' `expf`: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial for e^r, and n added to the exponent bits.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // 1.5 * 2^23: adding it rounds to a whole number, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    // ln 2 in two parts, the first exact in few bits.
    let rest = clamped - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    let mut power = 1.987_569_1e-4f32;
    power = power * rest + 1.398_199_9e-3;
    power = power * rest + 8.333_452e-3;
    power = power * rest + 4.166_579_6e-2;
    power = power * rest + 1.666_666_5e-1;
    power = power * rest + 5e-1;
    let power = power * rest * rest + rest + 1.0;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32).wrapping_add(127) << 23;
    let value = power * f32::from_bits(exponent as u32);
    if x < -87.0 { 0.0 } else { value }
}

fn f32_slice<'a>(name: &'static str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(values) = storage else {
        return Err(Error::Msg(format!("{name}: expected f32, received {:?}", storage_type(storage))));
    };
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| Error::Msg(format!("{name}: expected contiguous values, received {layout:?}")))?;
    Ok(&values[start..end])
}

fn storage_type(storage: &CpuStorage) -> candle_core::DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

struct QuickGelu;

/// `x * sigmoid(1.702 x)`.
pub(crate) fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&QuickGelu)
}

impl CustomOp1 for QuickGelu {
    fn name(&self) -> &'static str {
        "quick_gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = f32_slice(self.name(), storage, layout)?;
        let mut output = vec![0.0; input.len()];
        output.par_chunks_mut(CHUNK).zip(input.par_chunks(CHUNK)).for_each(|(output, input)| {
            for (out, x) in output.iter_mut().zip(input) {
                *out = x / (1.0 + exp(-1.702 * x));
            }
        });
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }
}

struct SwiGlu;

/// `silu(gate) * up`.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.contiguous()?.apply_op2_no_bwd(&up.contiguous()?, &SwiGlu)
}

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (f32_slice(self.name(), s1, l1)?, f32_slice(self.name(), s2, l2)?);
        if gate.len() != up.len() {
            return Err(Error::Msg(format!("swiglu: {} gates, {} values", gate.len(), up.len())));
        }
        let mut output = vec![0.0; gate.len()];
        let chunks = output.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK));
        chunks.for_each(|((output, gate), up)| {
            for ((out, gate), up) in output.iter_mut().zip(gate).zip(up) {
                *out = gate / (1.0 + exp(-gate)) * up;
            }
        });
        Ok((CpuStorage::F32(output), l1.shape().clone()))
    }
}

/// Softmax of `scale * x` over the last dimension of a matrix, in place. With `first_row`, row `i` of the block is row
/// `first_row + i` of a causal attention, and what lies to the right of it becomes 0.
pub(crate) struct ScaledSoftmax {
    pub(crate) scale: f32,
    pub(crate) first_row: Option<usize>,
}

impl InplaceOp1 for ScaledSoftmax {
    fn name(&self) -> &'static str {
        "scaled_softmax"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let columns = layout.dims().last().copied().unwrap_or(0);
        let (start, end) = layout
            .contiguous_offsets()
            .ok_or_else(|| Error::Msg(format!("scaled_softmax: expected contiguous values, received {layout:?}")))?;
        let CpuStorage::F32(values) = storage else {
            return Err(Error::Msg(format!("scaled_softmax: expected f32, received {:?}", storage_type(storage))));
        };
        if columns == 0 {
            return Ok(());
        }
        for (row, scores) in values[start..end].chunks_exact_mut(columns).enumerate() {
            let seen = self.first_row.map_or(columns, |first| (first + row + 1).min(columns));
            let (scores, hidden) = scores.split_at_mut(seen);
            softmax_row(scores, self.scale);
            hidden.fill(0.0);
        }
        Ok(())
    }
}

fn softmax_row(scores: &mut [f32], scale: f32) {
    const LANES: usize = 16;
    // Several running values, because the compiler may not reorder one.
    let mut most = [f32::NEG_INFINITY; LANES];
    let mut chunks = scores.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (most, score) in most.iter_mut().zip(chunk) {
            *most = if *score > *most { *score } else { *most };
        }
    }
    let most = chunks.remainder().iter().chain(&most).copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0f32; LANES];
    let mut chunks = scores.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (sum, score) in sums.iter_mut().zip(chunk) {
            *score = exp((*score - most) * scale);
            *sum += *score;
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for score in chunks.into_remainder() {
        *score = exp((*score - most) * scale);
        sum += *score;
    }
    let inverse = 1.0 / sum;
    scores.iter_mut().for_each(|score| *score *= inverse);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_accurate() {
        let worst = (-8700..8800).map(|step| step as f32 * 0.01).fold(0.0f64, |worst, x| {
            let true_value = f64::from(x).exp();
            worst.max((f64::from(exp(x)) - true_value).abs() / true_value)
        });
        assert!(worst < 2e-7, "{worst}");
        assert_eq!((exp(-1000.0), exp(f32::NEG_INFINITY), exp(0.0)), (0.0, 0.0, 1.0));
        assert!(exp(1000.0).is_finite());
    }
}
