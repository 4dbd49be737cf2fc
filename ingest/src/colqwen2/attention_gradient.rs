//! Attention with a gradient in memory that is linear in the tokens: scores are computed again on the way back, a block of
//! rows at a time, and never held as a whole (Dao, Fu, Ermon, Rudra & Re, "FlashAttention", NeurIPS 2022).

use std::ops::Range;

use candle_core::{D, DType, Device, Result, Tensor};
use rayon::prelude::*;

use super::attention::{Packing, by_head};
use super::derivative::{Slopes3, with_derivative3};
use super::elementwise::ScaledSoftmax;
use super::ops::has_kernels;

/// Scores of one block, of all heads that are computed together.
const BLOCK_SCORES: usize = 128 * 1024;
/// The same on a GPU, which is slow at many small products: 64 MiB in f32.
const GPU_BLOCK_SCORES: usize = 16 * 1024 * 1024;

/// As [`super::ops::Ops::attention`].
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, packing: &Packing, causal: bool) -> Result<Tensor> {
    let (own_q, own_k, own_v) = (q.detach(), k.detach(), v.detach());
    let result = if has_kernels(q) {
        by_head(&own_q, &own_k, &own_v, packing, causal)?
    } else {
        by_blocks(&own_q, &own_k, &own_v, packing, causal)?
    };
    let packing = packing.clone();
    with_derivative3(q, k, v, result, move |[q, k, v], result, slope| {
        backward([q, k, v, result, &slope.contiguous()?], &packing, causal)
    })
}

/// Attention by the blocks of the way back, for devices that have no kernel for it.
pub(crate) fn by_blocks(q: &Tensor, k: &Tensor, v: &Tensor, packing: &Packing, causal: bool) -> Result<Tensor> {
    let heads = q.dim(1)?;
    let outputs = packing.spans().map(|(start, length)| {
        let part = |x: &Tensor| head_first(x, start, length, 0..heads, heads / x.dim(1)?);
        let (q, k, v) = (part(q)?, part(k)?, part(v)?);
        let outputs = Block::all(heads, length, causal, q.device()).map(|block| {
            let weights = block.weights(&q, &k)?;
            weights.matmul(&v.narrow(1, 0, block.seen)?)
        });
        let outputs = outputs.collect::<Result<Vec<_>>>()?;
        let output = if outputs.is_empty() { q.zeros_like()? } else { Tensor::cat(&outputs, 1)? };
        output.transpose(0, 1)?.contiguous()
    });
    Tensor::cat(&outputs.collect::<Result<Vec<_>>>()?, 0)
}

/// The gradients of `q`, `k` and `v`. `parts`: these three, the result and its gradient, all tokens x heads x head_dim.
fn backward(parts: [&Tensor; 5], packing: &Packing, causal: bool) -> Result<Slopes3> {
    let [q, k, _, _, _] = parts;
    let (heads, kv_heads) = (q.dim(1)?, k.dim(1)?);
    let group = heads / kv_heads;
    // On the CPU each head is a task of its own, on a GPU all are one product.
    let together = if q.device().is_cpu() { 1 } else { heads };
    let mut sums: [Vec<Tensor>; 3] = Default::default();
    for (start, length) in packing.spans() {
        let runs: Vec<Range<usize>> = (0..heads).step_by(together).map(|first| first..first + together).collect();
        let of_run = |run: &Range<usize>| {
            let part = |x: &Tensor| head_first(x, start, length, run.clone(), heads / x.dim(1)?);
            heads_backward(parts.map(part), causal)
        };
        let slopes: Vec<[Tensor; 3]> = if together == 1 {
            runs.par_iter().map(of_run).collect::<Result<_>>()?
        } else {
            runs.iter().map(of_run).collect::<Result<_>>()?
        };
        for (at, (sum, group)) in sums.iter_mut().zip([1, group, group]).enumerate() {
            let heads_first: Vec<&Tensor> = slopes.iter().map(|slopes| &slopes[at]).collect();
            let all = Tensor::cat(&heads_first, 0)?;
            // A kv head serves a group of heads, each of which moves it.
            let all = match group {
                1 => all,
                _ => all.reshape((heads / group, group, length, all.dim(2)?))?.sum(1)?,
            };
            sum.push(all.transpose(0, 1)?.contiguous()?);
        }
    }
    let [of_q, of_k, of_v] = sums.map(|sum| Tensor::cat(&sum, 0));
    Ok((Some(of_q?), Some(of_k?), Some(of_v?)))
}

/// Of one sequence, all heads x tokens x head_dim. With weights `P`, slopes `O'` of the output `O` and
/// `P' = O' V^T`, the scores' gradient is `P (P' - sum of O' O over a row)`.
fn heads_backward(parts: [Result<Tensor>; 5], causal: bool) -> Result<[Tensor; 3]> {
    let [q, k, v, output, slope] = parts;
    let (q, k, v, output, slope) = (q?, k?, v?, output?, slope?);
    let (heads, tokens, _) = q.dims3()?;
    let (mut of_q, mut of_k, mut of_v) = (Vec::new(), k.zeros_like()?, v.zeros_like()?);
    let balance = (&slope * &output)?.to_dtype(DType::F32)?.sum_keepdim(D::Minus1)?;
    for block in Block::all(heads, tokens, causal, q.device()) {
        let weights = block.weights(&q, &k)?;
        let (seen_k, seen_v) = (k.narrow(1, 0, block.seen)?, v.narrow(1, 0, block.seen)?);
        let (rows_q, rows_slope) = (block.rows_of(&q)?, block.rows_of(&slope)?);
        let by_weight = rows_slope.matmul(&seen_v.t()?)?.to_dtype(DType::F32)?;
        let by_score = by_weight.broadcast_sub(&block.rows_of(&balance)?)?.mul(&weights.to_dtype(DType::F32)?)?;
        let by_score = (by_score * scale(&q)?)?.to_dtype(q.dtype())?;
        of_q.push(by_score.matmul(&seen_k)?);
        let hidden = tokens - block.seen;
        of_k = (of_k + by_score.t()?.matmul(&rows_q)?.pad_with_zeros(1, 0, hidden)?)?;
        of_v = (of_v + weights.t()?.matmul(&rows_slope)?.pad_with_zeros(1, 0, hidden)?)?;
    }
    let of_q = if of_q.is_empty() { q.zeros_like()? } else { Tensor::cat(&of_q, 1)? };
    Ok([of_q, of_k, of_v])
}

/// Tokens `start..start + length` of `heads`, heads x length x head_dim, where `x` has one head for `group` of them.
fn head_first(x: &Tensor, start: usize, length: usize, heads: Range<usize>, group: usize) -> Result<Tensor> {
    let x = x.narrow(0, start, length)?.transpose(0, 1)?;
    if group == 1 {
        return x.narrow(0, heads.start, heads.len())?.contiguous();
    }
    let of: Vec<u32> = heads.map(|head| (head / group) as u32).collect();
    x.contiguous()?.index_select(&Tensor::new(of, x.device())?, 0)
}

fn scale(q: &Tensor) -> Result<f64> {
    Ok(1.0 / (q.dim(D::Minus1)? as f64).sqrt())
}

/// Some rows of a sequence's scores.
struct Block {
    first: usize,
    rows: usize,
    /// Keys that any of the rows sees.
    seen: usize,
    causal: bool,
}

impl Block {
    fn all(heads: usize, tokens: usize, causal: bool, device: &Device) -> impl Iterator<Item = Self> + use<> {
        let scores = if device.is_cpu() { BLOCK_SCORES } else { GPU_BLOCK_SCORES };
        let most = (scores / (tokens * heads).max(1)).clamp(16, 1024);
        (0..tokens).step_by(most).map(move |first| {
            let rows = most.min(tokens - first);
            // Later keys are hidden from the whole block.
            Self { first, rows, seen: if causal { first + rows } else { tokens }, causal }
        })
    }

    fn rows_of(&self, x: &Tensor) -> Result<Tensor> {
        x.narrow(1, self.first, self.rows)
    }

    /// Heads x rows x seen keys, each row with sum 1.
    fn weights(&self, q: &Tensor, k: &Tensor) -> Result<Tensor> {
        let scores = self.rows_of(q)?.matmul(&k.narrow(1, 0, self.seen)?.t()?)?;
        if has_kernels(q) && q.dim(0)? == 1 {
            let softmax = ScaledSoftmax { scale: scale(q)? as f32, first_row: self.causal.then_some(self.first) };
            scores.inplace_op1(&softmax)?;
            return Ok(scores);
        }
        let scores = (scores.to_dtype(DType::F32)? * scale(q)?)?;
        let scores = if self.causal { scores.broadcast_add(&self.mask(q.device())?)? } else { scores };
        candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(q.dtype())
    }

    fn mask(&self, device: &Device) -> Result<Tensor> {
        let hides = |row: usize, column: usize| if column > self.first + row { f32::NEG_INFINITY } else { 0.0 };
        let mask: Vec<f32> =
            (0..self.rows).flat_map(|row| (0..self.seen).map(move |column| hides(row, column))).collect();
        Tensor::from_vec(mask, (self.rows, self.seen), device)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;

    /// Attention with all scores at once, by candle's own operations.
    fn plain(q: &Tensor, k: &Tensor, v: &Tensor, packing: &Packing, causal: bool) -> Tensor {
        let heads = q.dim(1).unwrap();
        let outputs = packing.spans().map(|(start, length)| {
            let part = |x: &Tensor| head_first(x, start, length, 0..heads, heads / x.dim(1).unwrap()).unwrap();
            let (q, k, v) = (part(q), part(k), part(v));
            let scores = (q.matmul(&k.t().unwrap()).unwrap() * scale(&q).unwrap()).unwrap();
            let whole = Block { first: 0, rows: length, seen: length, causal };
            let mask = if causal { whole.mask(&Device::Cpu).unwrap() } else { scores.zeros_like().unwrap() };
            let weights = candle_nn::ops::softmax(&scores.broadcast_add(&mask).unwrap(), D::Minus1).unwrap();
            weights.matmul(&v).unwrap().transpose(0, 1).unwrap()
        });
        Tensor::cat(&outputs.collect::<Vec<_>>(), 0).unwrap()
    }

    fn random(shape: (usize, usize, usize), seed: u64) -> Var {
        let mut state = seed;
        let values: Vec<f32> = (0..shape.0 * shape.1 * shape.2)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 33) as f32 / (1u64 << 30) as f32) - 1.0
            })
            .collect();
        Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
    }

    fn largest(x: &Tensor) -> f32 {
        x.abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn values_and_gradients_are_those_of_plain_attention() {
        // The first sequence takes several blocks.
        let packing = Packing::new(vec![700, 1, 33]);
        let (q, k, v) = (random((734, 4, 8), 1), random((734, 2, 8), 2), random((734, 2, 8), 3));
        let slopes = random((734, 4, 8), 4);
        for causal in [false, true] {
            let expected = plain(&q, &k, &v, &packing, causal);
            let found = attention(&q, &k, &v, &packing, causal).unwrap();
            let blocks = by_blocks(&q, &k, &v, &packing, causal).unwrap();
            assert!(largest(&(&found - &expected).unwrap()) < 1e-5);
            assert!(largest(&(&blocks - &expected).unwrap()) < 1e-5);
            let gradients = |output: &Tensor| {
                let store = (output * slopes.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
                [&q, &k, &v].map(|var| store.get(var.as_tensor()).unwrap().clone())
            };
            let slope = slopes.as_detached_tensor();
            let parts = [&q.detach(), &k.detach(), &v.detach(), &found.detach(), &slope];
            let (of_q, of_k, of_v) = backward(parts, &packing, causal).unwrap();
            let direct = [of_q.unwrap(), of_k.unwrap(), of_v.unwrap()];
            for ((expected, found), direct) in gradients(&expected).iter().zip(gradients(&found)).zip(direct) {
                assert!(largest(&(expected - &found).unwrap()) < 1e-5 * largest(expected).max(1.0));
                assert_eq!(largest(&(direct - found).unwrap()), 0.0);
            }
        }
    }

    #[test]
    fn what_does_not_learn_has_no_gradient() {
        let packing = Packing::new(vec![5]);
        let (q, k) = (random((5, 2, 4), 1), random((5, 2, 4), 2));
        let v = k.detach();
        let store = attention(&q, &v, &v, &packing, true).unwrap().sum_all().unwrap().backward().unwrap();
        assert!(store.get(q.as_tensor()).is_some() && store.get(&v).is_none());
    }
}
