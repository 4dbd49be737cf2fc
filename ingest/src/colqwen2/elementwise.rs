//! Activations, biases and softmax for inference on CPU: in place, spread over the cores, and with the widest vectors that
//! the processor has; candle's own run on one core, take the exponential of one number at a time, and fill new memory.

use candle_core::{CpuStorage, Error, InplaceOp1, InplaceOp2, Layout, Result, Tensor};
use pulp::NullaryFnOnce;
use rayon::prelude::*;

/// Elements that one task works on: large enough to hide the cost of a task, small enough for the cache.
const CHUNK: usize = 16 * 1024;

/// Runs a loop compiled for the widest vectors that this processor has; the arithmetic stays the same.
#[inline(always)]
fn wide<Work: NullaryFnOnce>(work: Work) -> Work::Output {
    #[cfg(target_arch = "x86_64")]
    {
        use pulp::x86::{V3, V4};
        if let Some(avx512) = V4::try_new() {
            return avx512.vectorize(work);
        }
        if let Some(avx2) = V3::try_new() {
            return avx2.vectorize(work);
        }
    }
    work.call()
}

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

pub(super) fn f32_slice<'a>(name: &'static str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
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

fn f32_slice_mut<'a>(name: &'static str, storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| Error::Msg(format!("{name}: expected contiguous values, received {layout:?}")))?;
    let number = storage_type(storage);
    let CpuStorage::F32(values) = storage else {
        return Err(Error::Msg(format!("{name}: expected f32, received {number:?}")));
    };
    Ok(&mut values[start..end])
}

struct QuickGelu;

/// `x * sigmoid(1.702 x)`, in the memory of `x`.
pub(crate) fn quick_gelu(x: &Tensor) -> Result<()> {
    x.inplace_op1(&QuickGelu)
}

impl InplaceOp1 for QuickGelu {
    fn name(&self) -> &'static str {
        "quick_gelu"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let values = f32_slice_mut("quick_gelu", storage, layout)?;
        values.par_chunks_mut(CHUNK).for_each(|values| {
            wide(|| {
                for x in values.iter_mut() {
                    *x /= 1.0 + exp(-1.702 * *x);
                }
            });
        });
        Ok(())
    }
}

struct SwiGlu;

/// `silu(gate) * up`, in the memory of `gate`.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<()> {
    gate.inplace_op2(&up.contiguous()?, &SwiGlu)
}

impl InplaceOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let (gate, up) = (f32_slice_mut("swiglu", s1, l1)?, f32_slice("swiglu", s2, l2)?);
        if gate.len() != up.len() {
            return Err(Error::Msg(format!("swiglu: {} gates, {} values", gate.len(), up.len())));
        }
        gate.par_chunks_mut(CHUNK).zip(up.par_chunks(CHUNK)).for_each(|(gate, up)| {
            wide(|| {
                for (gate, up) in gate.iter_mut().zip(up) {
                    *gate = *gate / (1.0 + exp(-*gate)) * up;
                }
            });
        });
        Ok(())
    }
}

struct AddRow;

/// Adds `row` to every row of the matrix `x`, in the memory of `x`.
pub(super) fn add_row(x: &Tensor, row: &Tensor) -> Result<()> {
    x.inplace_op2(row, &AddRow)
}

impl InplaceOp2 for AddRow {
    fn name(&self) -> &'static str {
        "add_row"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let (values, row) = (f32_slice_mut("add_row", s1, l1)?, f32_slice("add_row", s2, l2)?);
        if l1.dims().last() != Some(&row.len()) {
            return Err(Error::Msg(format!("add_row: {} values for rows of {:?}", row.len(), l1.dims())));
        }
        let rows = (CHUNK / row.len().max(1)).max(1) * row.len().max(1);
        values.par_chunks_mut(rows).for_each(|values| {
            wide(|| {
                for values in values.chunks_exact_mut(row.len()) {
                    values.iter_mut().zip(row).for_each(|(value, bias)| *value += bias);
                }
            });
        });
        Ok(())
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
        let values = f32_slice_mut("scaled_softmax", storage, layout)?;
        if columns == 0 {
            return Ok(());
        }
        wide(SoftmaxRows { values, columns, scale: self.scale, first_row: self.first_row });
        Ok(())
    }
}

/// The rows of a [`ScaledSoftmax`]. A closure of this size would be called, not inlined, and so not be compiled for wide vectors.
struct SoftmaxRows<'a> {
    values: &'a mut [f32],
    columns: usize,
    scale: f32,
    first_row: Option<usize>,
}

impl NullaryFnOnce for SoftmaxRows<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (row, scores) in self.values.chunks_exact_mut(self.columns).enumerate() {
            let seen = self.first_row.map_or(self.columns, |first| (first + row + 1).min(self.columns));
            let (scores, hidden) = scores.split_at_mut(seen);
            softmax_row(scores, self.scale);
            hidden.fill(0.0);
        }
    }
}

#[inline(always)]
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
