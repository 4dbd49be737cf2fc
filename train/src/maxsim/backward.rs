//! From the gradient of the scores to the gradient of the token vectors.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::{Block, MaxSim, Packed, Scored, Similarity};
use crate::Error;
use crate::scores::ScoreGrid;

/// The derivative of a loss by every token vector of a batch, on the device of the vectors.
#[derive(Clone, Debug)]
pub struct TokenGradients {
    /// `query tokens x dim`.
    pub queries: Tensor,
    /// `page tokens x dim`.
    pub pages: Tensor,
}

impl MaxSim {
    /// The gradient of the token vectors that [`MaxSim::score`] made `scored` of, given that of the scores.
    ///
    /// # Errors
    /// `scored` or `gradient` are of another batch, or the device fails.
    pub fn backward(
        &self,
        queries: &Packed,
        pages: &Packed,
        scored: &Scored,
        gradient: &ScoreGrid,
    ) -> Result<TokenGradients, Error> {
        self.check(queries, pages)?;
        for grid in [gradient, &scored.scores] {
            if (grid.queries(), grid.pages()) != (queries.items(), pages.items()) {
                let expected = format!("{} x {}, as the batch", queries.items(), pages.items());
                return Err(Error::shape("scores", expected, format!("{} x {}", grid.queries(), grid.pages())));
            }
        }
        match self.similarity {
            Similarity::Max => {
                let mut of_queries = vec![0.0; queries.tokens() * queries.dim()];
                self.add_query_slopes(queries, pages, scored, gradient, &mut of_queries)?;
                let lengths: Vec<usize> = pages.lengths().collect();
                let of_pages = self.page_slopes(queries, &lengths, scored, gradient)?;
                Ok(TokenGradients { queries: tensor_of(of_queries, queries)?, pages: of_pages })
            }
            Similarity::SmoothMax { tau } => {
                let (of_queries, of_pages) = self.through_all(queries, pages, gradient, tau)?;
                Ok(TokenGradients { queries: tensor_of(of_queries, queries)?, pages: tensor_of(of_pages, pages)? })
            }
        }
    }

    /// Per query token, the derivative by each of its maxima: that of the query's scores over the query's length.
    fn slopes(&self, queries: &Packed, gradient: &ScoreGrid) -> Vec<Vec<f32>> {
        let of_query = |(query, tokens): (usize, usize)| {
            let divisor = self.divisor(tokens) as f32;
            gradient.row(query).iter().map(|slope| slope / divisor).collect()
        };
        queries.lengths().enumerate().map(of_query).collect()
    }

    /// For [`Similarity::Max`], the gradient of page tokens, of which only the best of each page move: towards the query tokens,
    /// so that the pages' own vectors are not needed, only how many tokens each has. `page tokens x dim`, where the queries are.
    pub(crate) fn page_slopes(
        &self,
        queries: &Packed,
        lengths: &[usize],
        scored: &Scored,
        gradient: &ScoreGrid,
    ) -> Result<Tensor, Error> {
        let (dim, columns) = (queries.dim(), lengths.len());
        scored.check_best(queries, columns)?;
        let slopes = self.slopes(queries, gradient);
        let (query_of, query_values) = (query_of(queries), queries.values()?);
        let tokens: usize = lengths.iter().sum();
        let mut of_pages = vec![0.0; tokens * dim];
        let mut rest = of_pages.as_mut_slice();
        let mut first = 0;
        let mut own: Vec<(usize, usize, &mut [f32])> = Vec::with_capacity(columns);
        for (page, tokens) in lengths.iter().enumerate() {
            let (sums, after) = rest.split_at_mut(tokens * dim);
            own.push((page, first, sums));
            rest = after;
            first += tokens;
        }
        own.into_par_iter().for_each(|(page, first, sums)| {
            for (token, vector) in query_values.chunks_exact(dim).enumerate() {
                let best = scored.best[token * columns + page] as usize - first;
                add_scaled(&mut sums[best * dim..][..dim], slopes[query_of[token]][page], vector);
            }
        });
        Ok(Tensor::from_vec(of_pages, (tokens, dim), &Device::Cpu)?.to_device(queries.vectors().device())?)
    }

    /// For [`Similarity::Max`], adds to `sums`, `query tokens x dim`, the gradient of query tokens by these pages.
    pub(crate) fn add_query_slopes(
        &self,
        queries: &Packed,
        pages: &Packed,
        scored: &Scored,
        gradient: &ScoreGrid,
        sums: &mut [f32],
    ) -> Result<(), Error> {
        let (dim, columns) = (queries.dim(), pages.items());
        scored.check_best(queries, columns)?;
        let slopes = self.slopes(queries, gradient);
        let (query_of, page_values) = (query_of(queries), pages.values()?);
        sums.par_chunks_exact_mut(dim).enumerate().for_each(|(token, sum)| {
            for (slope, best) in slopes[query_of[token]].iter().zip(&scored.best[token * columns..]) {
                add_scaled(sum, *slope, &page_values[*best as usize * dim..][..dim]);
            }
        });
        Ok(())
    }

    /// Every token moves by its share of the softmax. The similarities are computed again, block by block.
    fn through_all(
        &self,
        queries: &Packed,
        pages: &Packed,
        gradient: &ScoreGrid,
        tau: f32,
    ) -> Result<(Vec<f32>, Vec<f32>), Error> {
        let dim = queries.dim();
        let slopes = self.slopes(queries, gradient);
        let (mut of_queries, mut of_pages) = (vec![0.0; queries.tokens() * dim], vec![0.0; pages.tokens() * dim]);
        for block in self.blocks(queries, pages) {
            let mut weights = block.similarities(queries, pages)?;
            weigh(&block, &mut weights, &slopes, tau);
            let height = weights.len() / block.width();
            let device = queries.vectors().device();
            let weights = Tensor::from_vec(weights, (height, block.width()), &Device::Cpu)?.to_device(device)?;
            let add = |sums: &mut [f32], of: &Packed, items, product: Tensor| -> Result<(), Error> {
                let values: Vec<f32> = product.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
                add_scaled(&mut sums[of.rows(items).start * dim..][..values.len()], 1.0, &values);
                Ok(())
            };
            let page_vectors = pages.narrow(block.pages.clone())?.detach();
            add(&mut of_queries, queries, block.queries.clone(), weights.matmul(&page_vectors)?)?;
            let query_vectors = queries.narrow(block.queries.clone())?.detach();
            add(&mut of_pages, pages, block.pages.clone(), weights.t()?.matmul(&query_vectors)?)?;
        }
        Ok((of_queries, of_pages))
    }
}

impl Scored {
    fn check_best(&self, queries: &Packed, pages: usize) -> Result<(), Error> {
        if self.best.len() == queries.tokens() * pages {
            return Ok(());
        }
        Err(Error::shape("best tokens", "those of this batch, scored by the maximum", self.best.len()))
    }
}

/// The query of each query token.
fn query_of(queries: &Packed) -> Vec<usize> {
    queries.lengths().enumerate().flat_map(|(query, tokens)| std::iter::repeat_n(query, tokens)).collect()
}

fn tensor_of(values: Vec<f32>, of: &Packed) -> candle_core::Result<Tensor> {
    Tensor::from_vec(values, (of.tokens(), of.dim()), &Device::Cpu)?.to_device(of.vectors().device())
}

/// Turns a block's similarities into the derivative by each of them.
fn weigh(block: &Block, similarities: &mut [f32], slopes: &[Vec<f32>], tau: f32) {
    let width = block.width();
    let queries = block.queries.clone().zip(&block.query_tokens);
    let query_of: Vec<usize> = queries.flat_map(|(query, tokens)| std::iter::repeat_n(query, tokens.len())).collect();
    similarities.par_chunks_exact_mut(width).zip(query_of).for_each(|(row, query)| {
        for (page, tokens) in block.pages.clone().zip(&block.page_tokens) {
            let of_page = &mut row[tokens.clone()];
            let most = of_page.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            of_page.iter_mut().for_each(|value| *value = ((*value - most) / tau).exp());
            let scale = slopes[query][page] / of_page.iter().sum::<f32>();
            of_page.iter_mut().for_each(|value| *value *= scale);
        }
    });
}

/// `sum += factor * values`.
fn add_scaled(sum: &mut [f32], factor: f32, values: &[f32]) {
    if factor != 0.0 {
        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
    }
}
