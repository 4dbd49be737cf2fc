//! Token vectors of several queries or pages in one tensor.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use colqwen_index_field::MultiVector;

use crate::Error;

/// Items of different lengths one after the other, without padding, so that nothing needs a mask: `tokens x dim` in f32.
#[derive(Clone, Debug)]
pub struct Packed {
    vectors: Tensor,
    starts: Vec<usize>,
}

impl Packed {
    /// Wraps `vectors`, `tokens x dim`, of items that have `lengths` tokens each.
    ///
    /// # Errors
    /// The lengths do not add up to the tokens, an item has no token, or `vectors` is no f32 matrix or an empty one.
    pub fn new(vectors: Tensor, lengths: &[usize]) -> Result<Self, Error> {
        if vectors.rank() != 2 || vectors.elem_count() == 0 || vectors.dtype() != DType::F32 {
            let received = format!("{:?} of {:?}", vectors.dims(), vectors.dtype());
            return Err(Error::shape("token vectors", "a matrix tokens x dim of f32, not empty", received));
        }
        if let Some(item) = lengths.iter().position(|length| *length == 0) {
            return Err(Error::shape("tokens of an item", "at least 1", format!("0 for item {item}")));
        }
        let mut starts = vec![0];
        let mut total = 0;
        for length in lengths {
            total += length;
            starts.push(total);
        }
        if total != vectors.dim(0)? {
            return Err(Error::shape(
                "token vectors",
                format!("{total} tokens, the sum of all lengths"),
                vectors.dim(0)?,
            ));
        }
        Ok(Self { vectors: vectors.contiguous()?, starts })
    }

    /// Multi-vectors as they are stored, on the CPU.
    ///
    /// # Errors
    /// There are none, or they differ in dim.
    pub fn from_multi_vectors(items: &[&MultiVector]) -> Result<Self, Error> {
        let dim = items.first().map_or(0, |item| item.dim());
        if let Some(other) = items.iter().find(|item| item.dim() != dim) {
            return Err(Error::shape("multi-vectors", format!("dim {dim}, as the first"), other.dim()));
        }
        let values: Vec<f32> = items.iter().flat_map(|item| item.values()).copied().collect();
        let lengths: Vec<usize> = items.iter().map(|item| item.tokens()).collect();
        let tokens: usize = lengths.iter().sum();
        if tokens == 0 {
            return Err(Error::shape("multi-vectors", "at least one", 0));
        }
        Self::new(Tensor::from_vec(values, (tokens, dim), &Device::Cpu)?, &lengths)
    }

    /// Items of several batches, one batch after the other.
    ///
    /// # Errors
    /// The batches differ in dim or device, or there are none.
    pub fn cat(batches: &[Self]) -> Result<Self, Error> {
        let vectors: Vec<&Tensor> = batches.iter().map(|batch| &batch.vectors).collect();
        if vectors.is_empty() {
            return Err(Error::shape("batches to put together", "at least one", 0));
        }
        let lengths: Vec<usize> = batches.iter().flat_map(Self::lengths).collect();
        Self::new(Tensor::cat(&vectors, 0)?, &lengths)
    }

    /// The same without the graph that made it.
    pub fn detach(&self) -> Self {
        Self { vectors: self.vectors.detach(), starts: self.starts.clone() }
    }

    /// Items `items` alone, on `device`.
    ///
    /// # Errors
    /// There is none of them, or the device fails.
    pub(crate) fn items_on(&self, items: Range<usize>, device: &Device) -> Result<Self, Error> {
        let lengths: Vec<usize> = self.lengths().skip(items.start).take(items.len()).collect();
        Self::new(self.narrow(items)?.to_device(device)?, &lengths)
    }

    /// `tokens x dim`.
    pub fn vectors(&self) -> &Tensor {
        &self.vectors
    }

    /// Number of queries or pages.
    pub fn items(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of tokens of all items.
    pub fn tokens(&self) -> usize {
        self.starts.last().copied().unwrap_or_default()
    }

    /// Values per token.
    pub fn dim(&self) -> usize {
        self.vectors.dims().last().copied().unwrap_or_default()
    }

    /// Tokens of each item.
    pub fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.starts.windows(2).map(|pair| pair[1] - pair[0])
    }

    /// The rows of items `items`.
    pub(crate) fn rows(&self, items: Range<usize>) -> Range<usize> {
        self.starts[items.start]..self.starts[items.end]
    }

    /// The vectors of items `items`, `tokens x dim`.
    pub(crate) fn narrow(&self, items: Range<usize>) -> candle_core::Result<Tensor> {
        let rows = self.rows(items);
        self.vectors.narrow(0, rows.start, rows.len())
    }

    /// All values on the CPU.
    pub(crate) fn values(&self) -> candle_core::Result<Vec<f32>> {
        self.vectors.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()
    }

    /// Runs of items that have at most `tokens` tokens together, or one item that has more.
    pub(crate) fn runs(&self, tokens: usize) -> Vec<Range<usize>> {
        let mut runs = Vec::new();
        let mut first = 0;
        for item in 0..self.items() {
            if item > first && self.starts[item + 1] - self.starts[first] > tokens {
                runs.push(first..item);
                first = item;
            }
        }
        runs.push(first..self.items());
        runs
    }
}
