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
        let (of_queries, of_pages) = match self.similarity {
            Similarity::Max => self.through_best(queries, pages, scored, gradient)?,
            Similarity::SmoothMax { tau } => self.through_all(queries, pages, gradient, tau)?,
        };
        let tensor = |values: Vec<f32>, of: &Packed| {
            Tensor::from_vec(values, (of.tokens(), of.dim()), &Device::Cpu)?.to_device(of.vectors().device())
        };
        Ok(TokenGradients { queries: tensor(of_queries, queries)?, pages: tensor(of_pages, pages)? })
    }

    /// Per query token, the derivative by each of its maxima: that of the query's scores over the query's length.
    fn slopes(&self, queries: &Packed, gradient: &ScoreGrid) -> Vec<Vec<f32>> {
        let of_query = |(query, tokens): (usize, usize)| {
            let divisor = self.divisor(tokens) as f32;
            gradient.row(query).iter().map(|slope| slope / divisor).collect()
        };
        queries.lengths().enumerate().map(of_query).collect()
    }

    /// Only the best token of each page moves.
    fn through_best(
        &self,
        queries: &Packed,
        pages: &Packed,
        scored: &Scored,
        gradient: &ScoreGrid,
    ) -> Result<(Vec<f32>, Vec<f32>), Error> {
        let (dim, columns) = (queries.dim(), pages.items());
        if scored.best.len() != queries.tokens() * columns {
            return Err(Error::shape("best tokens", "those of this batch, scored by the maximum", scored.best.len()));
        }
        let slopes = self.slopes(queries, gradient);
        let query_of: Vec<usize> =
            queries.lengths().enumerate().flat_map(|(query, tokens)| std::iter::repeat_n(query, tokens)).collect();
        let (query_values, page_values) = (queries.values()?, pages.values()?);
        let mut of_queries = vec![0.0; query_values.len()];
        of_queries.par_chunks_exact_mut(dim).enumerate().for_each(|(token, sum)| {
            for (slope, best) in slopes[query_of[token]].iter().zip(&scored.best[token * columns..]) {
                add_scaled(sum, *slope, &page_values[*best as usize * dim..][..dim]);
            }
        });
        let mut of_pages = vec![0.0; page_values.len()];
        let mut rest = of_pages.as_mut_slice();
        let mut own: Vec<(usize, &mut [f32])> = Vec::with_capacity(columns);
        for (page, tokens) in pages.lengths().enumerate() {
            let (first, after) = rest.split_at_mut(tokens * dim);
            own.push((page, first));
            rest = after;
        }
        own.into_par_iter().for_each(|(page, sums)| {
            let first = pages.rows(page..page + 1).start;
            for (token, vector) in query_values.chunks_exact(dim).enumerate() {
                let best = scored.best[token * columns + page] as usize - first;
                add_scaled(&mut sums[best * dim..][..dim], slopes[query_of[token]][page], vector);
            }
        });
        Ok((of_queries, of_pages))
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
