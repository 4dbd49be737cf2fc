//! Attention over packed sequences: no padding, each sequence attends to itself alone.

use candle_core::{D, DType, Result, Tensor};
use rayon::prelude::*;

use super::elementwise::ScaledSoftmax;
use super::ops::Ops;

/// Lengths of the sequences that lie one after the other in a packed tensor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packing {
    lengths: Vec<usize>,
}

impl Packing {
    /// Sequences of these lengths, in tokens.
    pub fn new(lengths: Vec<usize>) -> Self {
        Self { lengths }
    }

    /// Tokens of all sequences together.
    pub fn total(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Tokens of the longest sequence.
    #[cfg(any(test, feature = "flash-attn"))]
    pub fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    /// Where each sequence starts, and at the end the total.
    #[cfg(any(test, feature = "flash-attn"))]
    pub fn starts(&self) -> Vec<u32> {
        let mut at = 0;
        std::iter::once(0).chain(self.lengths.iter().map(|length| (at += *length as u32, at).1)).collect()
    }

    /// Start, number and length of neighbouring sequences of one length, which together have at most `most` pairs of tokens
    /// unless one alone has more.
    fn equal_runs(&self, most: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let mut at = 0;
        let together = move |length: usize| (most / (length * length)).max(1);
        let runs = self.lengths.chunk_by(|one, two| one == two).filter(|run| run[0] > 0);
        runs.flat_map(move |run| run.chunks(together(run[0]))).map(move |run| {
            at += run.len() * run[0];
            (at - run.len() * run[0], run.len(), run[0])
        })
    }

    /// Start and length of each sequence.
    pub fn spans(&self) -> impl Iterator<Item = (usize, usize)> {
        let mut at = 0;
        self.lengths.iter().map(move |length| {
            at += length;
            (at - length, *length)
        })
    }
}

/// Scores that are held at once where several sequences share a matrix product: 256 MiB.
const MOST_SCORES: usize = 1 << 26;

/// Attention written out: differentiable with [`Ops::Differentiable`], and for any device.
pub(crate) fn plain(q: &Tensor, k: &Tensor, v: &Tensor, packing: &Packing, causal: bool, ops: Ops) -> Result<Tensor> {
    let heads = q.dim(1)?;
    let outputs = packing.equal_runs(MOST_SCORES / heads).map(|(start, sequences, length)| {
        let part = |x: &Tensor| x.narrow(0, start, sequences * length);
        equally_long(&part(q)?, &part(k)?, &part(v)?, sequences, causal, ops)
    });
    Tensor::cat(&outputs.collect::<Result<Vec<_>>>()?, 0)
}

/// Attention of `sequences` sequences of one length, all at once.
fn equally_long(q: &Tensor, k: &Tensor, v: &Tensor, sequences: usize, causal: bool, ops: Ops) -> Result<Tensor> {
    let (total, heads, dim) = q.dims3()?;
    let (tokens, times, scale) = (total / sequences, heads / k.dim(1)?, 1.0 / (dim as f64).sqrt());
    // sequences * heads x tokens x head_dim
    let head_first = |x: &Tensor, times: usize| {
        let heads = x.dim(1)?;
        let x = x.reshape((sequences, tokens, heads, dim))?.transpose(1, 2)?;
        let x = if times == 1 { x } else { x.unsqueeze(2)?.expand((sequences, heads, times, tokens, dim))? };
        x.contiguous()?.reshape((sequences * heads * times, tokens, dim))
    };
    let (q, k, v) = (head_first(q, 1)?, head_first(k, times)?, head_first(v, times)?);
    let scores = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? * scale)?;
    // The softmax needs more than bf16's eight bits.
    let scores = scores.to_dtype(DType::F32)?;
    let scores = if causal { scores.broadcast_add(&causal_mask(tokens, scores.device())?)? } else { scores };
    let weights = ops.softmax(&scores)?.to_dtype(v.dtype())?;
    weights
        .matmul(&v)?
        .reshape((sequences, heads, tokens, dim))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((total, heads, dim))
}

fn causal_mask(tokens: usize, device: &candle_core::Device) -> Result<Tensor> {
    let mask: Vec<f32> = (0..tokens)
        .flat_map(|row| (0..tokens).map(move |column| if column > row { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    Tensor::from_vec(mask, (tokens, tokens), device)
}

/// Attention for inference on CPU: one head and one block of rows at a time, so that the scores stay in the cache,
/// spread over the cores.
pub(crate) fn by_head(q: &Tensor, k: &Tensor, v: &Tensor, packing: &Packing, causal: bool) -> Result<Tensor> {
    let (heads, kv_heads, scale) = (q.dim(1)?, k.dim(1)?, 1.0 / (q.dim(2)? as f32).sqrt());
    let outputs = packing.spans().map(|(start, length)| {
        let head_of =
            |x: &Tensor, head: usize| x.narrow(0, start, length)?.narrow(1, head, 1)?.squeeze(1)?.contiguous();
        let outputs: Vec<Tensor> = (0..heads)
            .into_par_iter()
            .map(|head| {
                let kv_head = head / (heads / kv_heads);
                one_head(&head_of(q, head)?, &head_of(k, kv_head)?, &head_of(v, kv_head)?, scale, causal)
            })
            .collect::<Result<_>>()?;
        Tensor::stack(&outputs, 1)
    });
    Tensor::cat(&outputs.collect::<Result<Vec<_>>>()?, 0)
}

/// Scores of one block of rows: half a mebibyte, within the second-level cache.
const BLOCK_SCORES: usize = 128 * 1024;

/// `q`, `k`, `v`: tokens x head_dim of one head.
fn one_head(q: &Tensor, k: &Tensor, v: &Tensor, scale: f32, causal: bool) -> Result<Tensor> {
    let tokens = q.dim(0)?;
    let rows = (BLOCK_SCORES / tokens.max(1)).clamp(16, 256);
    let keys = k.t()?;
    let blocks = (0..tokens).step_by(rows).map(|first| {
        let rows = rows.min(tokens - first);
        // Later keys are hidden from the whole block.
        let seen = if causal { first + rows } else { tokens };
        let scores = q.narrow(0, first, rows)?.matmul(&keys.narrow(1, 0, seen)?)?;
        scores.inplace_op1(&ScaledSoftmax { scale, first_row: causal.then_some(first) })?;
        scores.matmul(&v.narrow(0, 0, seen)?)
    });
    Tensor::cat(&blocks.collect::<Result<Vec<_>>>()?, D::Minus2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn random(shape: (usize, usize, usize), seed: u64) -> Tensor {
        let mut state = seed;
        let values: Vec<f32> = (0..shape.0 * shape.1 * shape.2)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 33) as f32 / (1u64 << 30) as f32) - 1.0
            })
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn head_by_head_equals_attention_written_out() {
        let packing = Packing::new(vec![700, 1, 33, 33, 33]);
        let (q, k, v) = (random((800, 4, 8), 1), random((800, 2, 8), 2), random((800, 2, 8), 3));
        for causal in [false, true] {
            let one = by_head(&q, &k, &v, &packing, causal).unwrap();
            for ops in [Ops::Fused, Ops::Differentiable] {
                let two = plain(&q, &k, &v, &packing, causal, ops).unwrap();
                let difference = (&one - &two).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(difference < 1e-5, "{difference}");
            }
        }
    }

    #[test]
    fn starts_and_spans() {
        let packing = Packing::new(vec![3, 0, 4]);
        assert_eq!(packing.starts(), [0, 3, 3, 7]);
        assert_eq!(packing.spans().collect::<Vec<_>>(), [(0, 3), (3, 0), (3, 4)]);
        assert_eq!((packing.total(), packing.longest()), (7, 4));
    }
}
