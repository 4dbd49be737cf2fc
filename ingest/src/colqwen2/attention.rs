//! Attention over packed sequences: no padding, each sequence attends to itself alone.

use candle_core::{D, Result, Storage, Tensor, bail};
use rayon::prelude::*;

use super::elementwise::{ScaledSoftmax, f32_slice};

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

    /// Start and length of each sequence.
    pub fn spans(&self) -> impl Iterator<Item = (usize, usize)> {
        let mut at = 0;
        self.lengths.iter().map(move |length| {
            at += length;
            (at - length, *length)
        })
    }
}

/// Attention for inference on CPU: one head and one block of rows at a time, so that the scores stay in the cache,
/// spread over the cores.
pub(crate) fn by_head(q: &Tensor, k: &Tensor, v: &Tensor, packing: &Packing, causal: bool) -> Result<Tensor> {
    let ((tokens, heads, dim), kv_heads) = (q.dims3()?, k.dim(1)?);
    let scale = 1.0 / (dim as f32).sqrt();
    let all: Vec<(usize, usize, usize)> =
        packing.spans().flat_map(|(start, length)| (0..heads).map(move |head| (start, length, head))).collect();
    let attend = |&(start, length, head): &(usize, usize, usize)| {
        // Views only: a matrix product takes rows that lie apart.
        let head_of = |x: &Tensor, head: usize| x.narrow(0, start, length)?.narrow(1, head, 1)?.squeeze(1);
        let kv_head = head / (heads / kv_heads);
        one_head(&head_of(q, head)?, &head_of(k, kv_head)?, &head_of(v, kv_head)?, scale, causal)
    };
    let outputs: Vec<Tensor> = all.par_iter().map(attend).collect::<Result<_>>()?;
    let mut values = vec![0.0; tokens * heads * dim];
    for ((start, _, head), output) in all.iter().zip(&outputs) {
        let (storage, layout) = output.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else { bail!("attention by heads is for the CPU") };
        let rows = f32_slice("attention", storage, layout)?.chunks_exact(dim);
        for (row, attended) in rows.enumerate() {
            let at = ((start + row) * heads + head) * dim;
            values[at..at + dim].copy_from_slice(attended);
        }
    }
    Tensor::from_vec(values, (tokens, heads, dim), q.device())
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

    #[test]
    fn starts_and_spans() {
        let packing = Packing::new(vec![3, 0, 4]);
        assert_eq!(packing.starts(), [0, 3, 3, 7]);
        assert_eq!(packing.spans().collect::<Vec<_>>(), [(0, 3), (3, 0), (3, 4)]);
        assert_eq!((packing.total(), packing.longest()), (7, 4));
    }
}
