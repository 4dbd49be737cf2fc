//! The score grid of a batch, `queries x pages`, and how its gradient reaches the token vectors.
//!
//! `s(q, d) = sum over query tokens i of max over page tokens j of q_i . d_j` (Khattab & Zaharia, ColBERT, SIGIR 2020),
//! divided by the number of query tokens unless asked otherwise. The similarities are never held all at once: a block of
//! queries meets a block of pages, and what stays is one score per query and page and, for the gradient, the best page
//! token per query token and page (4 bytes). So memory is the block's similarities plus `4 x query tokens x pages` bytes:
//! 21 MB for 512 queries of 20 tokens on 512 pages, where all similarities of 768-token pages would take 16 GB.
//!
//! The gradient is written out instead of left to candle, whose `max` gives every one of several equal maxima the whole
//! gradient. Here the first one gets it.

mod backward;
mod packed;

pub use backward::TokenGradients;
pub use packed::Packed;

use std::ops::Range;

use candle_core::Device;
use rayon::prelude::*;

use crate::Error;
use crate::scores::ScoreGrid;

/// How the similarities of a query token with all tokens of a page become one number.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Similarity {
    /// The largest.
    Max,
    /// `tau * ln(sum(exp(x / tau)))`, which lets every page token learn; colpali-engine's `tau` is 0.1.
    SmoothMax {
        /// Smoothness; towards 0 this is [`Similarity::Max`].
        tau: f32,
    },
}

/// Late-interaction scores of all queries and pages of a batch.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MaxSim {
    /// What is summed over query tokens.
    pub similarity: Similarity,
    /// Whether the sum is divided by the number of query tokens, so that short and long queries weigh the same.
    pub per_token: bool,
    /// About how many similarities are held at once, 4 bytes each, twice that in the gradient of
    /// [`Similarity::SmoothMax`]. A block is never smaller than one query and one page.
    pub block: usize,
}

impl Default for MaxSim {
    /// The largest similarity, divided by the number of query tokens, in blocks of 16 MiB.
    fn default() -> Self {
        Self { similarity: Similarity::Max, per_token: true, block: 4 << 20 }
    }
}

/// Scores, and what their gradient needs.
#[derive(Clone, Debug)]
pub struct Scored {
    /// `queries x pages`.
    pub scores: ScoreGrid,
    /// For [`Similarity::Max`], per query token and page, `query tokens x pages`: the row of the best page token.
    best: Vec<u32>,
}

impl MaxSim {
    /// The scores of `queries` on `pages`.
    ///
    /// # Errors
    /// They differ in dim, a setting lies outside of its range, or the device fails.
    pub fn score(&self, queries: &Packed, pages: &Packed) -> Result<Scored, Error> {
        self.check(queries, pages)?;
        let columns = pages.items();
        let mut scores = ScoreGrid::zeros(queries.items(), columns);
        let keep_best = self.similarity == Similarity::Max;
        let mut best = vec![0; if keep_best { queries.tokens() * columns } else { 0 }];
        for block in self.blocks(queries, pages) {
            let similarities = block.similarities(queries, pages)?;
            let rows: Vec<(Vec<f32>, Vec<u32>)> =
                block.queries.clone().into_par_iter().map(|query| self.row(&block, &similarities, query)).collect();
            for (query, (sums, tokens)) in block.queries.clone().zip(rows) {
                scores.row_mut(query)[block.pages.clone()].copy_from_slice(&sums);
                if keep_best {
                    for (row, tokens) in queries.rows(query..query + 1).zip(tokens.chunks_exact(block.pages.len())) {
                        best[row * columns..][block.pages.clone()].copy_from_slice(tokens);
                    }
                }
            }
        }
        Ok(Scored { scores, best })
    }

    /// The scores of one query in a block, and the best page token per query token and page.
    fn row(&self, block: &Block, similarities: &[f32], query: usize) -> (Vec<f32>, Vec<u32>) {
        let mut sums = vec![0.0f64; block.pages.len()];
        let mut best = Vec::new();
        let tokens = block.query_tokens[query - block.queries.start].clone();
        for token in tokens.clone() {
            for (sum, page) in sums.iter_mut().zip(&block.page_tokens) {
                let of_page = &similarities[token * block.width()..][page.clone()];
                let (value, at) = self.similarity.reduce(of_page);
                *sum += f64::from(value);
                best.push((block.first_page_token + page.start + at) as u32);
            }
        }
        let divisor = self.divisor(tokens.len());
        (sums.into_iter().map(|sum| (sum / divisor) as f32).collect(), best)
    }

    fn divisor(&self, query_tokens: usize) -> f64 {
        if self.per_token { query_tokens as f64 } else { 1.0 }
    }

    fn check(&self, queries: &Packed, pages: &Packed) -> Result<(), Error> {
        if queries.dim() != pages.dim() {
            return Err(Error::shape(
                "values per page token",
                format!("{}, as the queries", queries.dim()),
                pages.dim(),
            ));
        }
        if u32::try_from(pages.tokens()).is_err() {
            return Err(Error::shape("page tokens of a batch", "less than 2^32", pages.tokens()));
        }
        self.similarity.check()
    }

    /// The grid cut into blocks of queries and pages whose similarities are few enough.
    fn blocks(&self, queries: &Packed, pages: &Packed) -> Vec<Block> {
        // Blocks about as high as queries have tokens in all, or square, whichever is lower.
        let side = (self.block as f64).sqrt() as usize;
        let height = queries.tokens().min(side).max(1);
        let page_runs = pages.runs(self.block / height);
        let query_runs = queries.runs(height);
        let pairs = query_runs.iter().flat_map(|query| page_runs.iter().map(move |page| (query.clone(), page.clone())));
        pairs.map(|(query, page)| Block::new(queries, pages, query, page)).collect()
    }
}

impl Similarity {
    /// Checks the setting, as [`MaxSim::score`] does.
    ///
    /// # Errors
    /// The smoothness is not above 0.
    pub fn check(self) -> Result<(), Error> {
        match self {
            Self::SmoothMax { tau } if !(tau.is_finite() && tau > 0.0) => {
                Err(Error::setting("tau of the smooth maximum", "a number above 0", tau))
            }
            _ => Ok(()),
        }
    }

    /// One page's similarities with a query token as one number, and the place of the largest, the first of equals.
    fn reduce(self, similarities: &[f32]) -> (f32, usize) {
        let larger = |best: usize, at: usize| if similarities[at] > similarities[best] { at } else { best };
        let best = (1..similarities.len()).fold(0, larger);
        let most = similarities[best];
        match self {
            Self::Max => (most, best),
            Self::SmoothMax { tau } => {
                let sum: f32 = similarities.iter().map(|value| ((value - most) / tau).exp()).sum();
                (most + tau * sum.ln(), best)
            }
        }
    }
}

/// Some queries against some pages.
struct Block {
    queries: Range<usize>,
    pages: Range<usize>,
    /// The rows of each query within the block.
    query_tokens: Vec<Range<usize>>,
    /// The columns of each page within the block.
    page_tokens: Vec<Range<usize>>,
    first_page_token: usize,
}

impl Block {
    fn new(all_queries: &Packed, all_pages: &Packed, queries: Range<usize>, pages: Range<usize>) -> Self {
        let within = |all: &Packed, items: &Range<usize>| {
            let first = all.rows(items.clone()).start;
            let relative = |rows: Range<usize>| rows.start - first..rows.end - first;
            (first, items.clone().map(|item| relative(all.rows(item..item + 1))).collect::<Vec<_>>())
        };
        let (_, query_tokens) = within(all_queries, &queries);
        let (first_page_token, page_tokens) = within(all_pages, &pages);
        Self { queries, pages, query_tokens, page_tokens, first_page_token }
    }

    /// Page tokens of the block.
    fn width(&self) -> usize {
        self.page_tokens.last().map_or(0, |tokens| tokens.end)
    }

    /// `query tokens x page tokens` of the block, row by row.
    fn similarities(&self, queries: &Packed, pages: &Packed) -> Result<Vec<f32>, Error> {
        let queries = queries.narrow(self.queries.clone())?.detach();
        let pages = pages.narrow(self.pages.clone())?.detach();
        Ok(queries.matmul(&pages.t()?)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?)
    }
}

#[cfg(test)]
mod tests;
