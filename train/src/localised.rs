//! Contrast between cells: which of all cells of all pages shows what a query token names.
//!
//! `loss = mean over query tokens of ln(sum over all cells exp(s / T)) - ln(sum over its cells exp(s / T))`, where `s` is the
//! dot product of the token with a cell and "its cells" are those that are known to show it. Where the place of every word is
//! known, as on pages that were rendered, this teaches a model to read far sooner than MaxSim does, which first has to find
//! out by itself which cell is meant. Like a supervised contrastive loss (Khosla et al., NeurIPS 2020, with the sum inside
//! the logarithm) over cells.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::Error;

/// The loss of a batch and its gradient.
#[derive(Clone, Debug)]
pub struct Localised {
    /// Mean over the query tokens that have a cell.
    pub loss: f64,
    /// The loss if all similarities were equal: nothing learnt.
    pub no_learning: f64,
    /// Share of these query tokens whose best cell is one of theirs.
    pub accuracy: f64,
    /// The derivative by each query token, `query tokens x dim`.
    pub tokens: Tensor,
    /// The derivative by each cell, `cells x dim`.
    pub cells: Tensor,
}

/// What one query token contributes.
struct Row {
    loss: f64,
    no_learning: f64,
    right: bool,
}

impl Localised {
    /// The loss of `tokens`, `query tokens x dim`, on `cells`, `cells x dim`. `shown` names the cells that show each token,
    /// none for tokens to leave out; `uncertain` says of each cell whether it is left out, because it shows a part of a word.
    ///
    /// # Errors
    /// The parts do not belong together, the temperature is not above 0, or the device fails.
    pub fn evaluate(
        tokens: &Tensor,
        cells: &Tensor,
        shown: &[Vec<u32>],
        uncertain: &[bool],
        temperature: f32,
    ) -> Result<Self, Error> {
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(Error::setting("temperature of cells", "a number above 0", temperature));
        }
        let (rows, columns) = (tokens.dim(0)?, cells.dim(0)?);
        if shown.len() != rows || uncertain.len() != columns {
            let received = format!("{} and {}", shown.len(), uncertain.len());
            return Err(Error::shape("what cells show", format!("{rows} tokens and {columns} cells"), received));
        }
        if let Some(cell) = shown.iter().flatten().find(|cell| **cell as usize >= columns) {
            return Err(Error::shape("cell that shows a token", format!("below {columns}"), cell));
        }
        let (tokens, cells) = (tokens.detach(), cells.detach());
        let mut scores: Vec<f32> = tokens.matmul(&cells.t()?)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
        let counted = shown.iter().filter(|cells| !cells.is_empty()).count().max(1) as f32;
        let scale = 1.0 / (temperature * counted);
        // The scores of each token become the derivative by them.
        let sums: Vec<Option<Row>> = scores
            .par_chunks_exact_mut(columns.max(1))
            .zip(shown)
            .map(|(row, own)| derive(row, own, uncertain, temperature, scale))
            .collect();
        let slopes = Tensor::from_vec(scores, (rows, columns), &Device::Cpu)?.to_device(tokens.device())?;
        let mean = |of: fn(&Row) -> f64| sums.iter().flatten().map(of).sum::<f64>() / f64::from(counted);
        Ok(Self {
            loss: mean(|row| row.loss),
            no_learning: mean(|row| row.no_learning),
            accuracy: mean(|row| f64::from(u8::from(row.right))),
            tokens: slopes.matmul(&cells)?,
            cells: slopes.t()?.matmul(&tokens)?,
        })
    }
}

/// Turns one token's scores into its derivative; `None` for a token without cells.
fn derive(row: &mut [f32], own: &[u32], uncertain: &[bool], temperature: f32, scale: f32) -> Option<Row> {
    let own: Vec<usize> = own.iter().map(|cell| *cell as usize).filter(|cell| !uncertain[*cell]).collect();
    if own.is_empty() {
        row.fill(0.0);
        return None;
    }
    let certain = || row.iter().zip(uncertain).enumerate().filter(|(_, (_, uncertain))| !**uncertain);
    let (best, most) = certain()
        .fold((0, f32::NEG_INFINITY), |best, (at, (score, _))| if *score > best.1 { (at, *score) } else { best });
    let count = certain().count();
    let own_most = own.iter().map(|cell| row[*cell]).fold(f32::NEG_INFINITY, f32::max);
    let own_sum: f32 = own.iter().map(|cell| ((row[*cell] - own_most) / temperature).exp()).sum();
    let own_scores: Vec<(usize, f32)> = own.iter().map(|cell| (*cell, row[*cell])).collect();
    let mut sum = 0.0;
    for (score, uncertain) in row.iter_mut().zip(uncertain) {
        *score = if *uncertain { 0.0 } else { ((*score - most) / temperature).exp() };
        sum += *score;
    }
    row.iter_mut().for_each(|score| *score *= scale / sum);
    for (cell, score) in own_scores {
        row[cell] -= scale * ((score - own_most) / temperature).exp() / own_sum;
    }
    let above = f64::from(most - own_most) / f64::from(temperature);
    Some(Row {
        loss: above + f64::from(sum).ln() - f64::from(own_sum).ln(),
        no_learning: (count as f64 / own.len() as f64).ln(),
        right: own.contains(&best),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    fn random(rows: usize, seed: u64) -> Tensor {
        let mut stream = Stream::new(seed, Purpose::Weights, &[]);
        let values: Vec<f32> = (0..rows * 6).map(|_| stream.normal() as f32 * 0.5).collect();
        Tensor::from_vec(values, (rows, 6), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let (tokens, cells) = (random(4, 1), random(9, 2));
        let shown = [vec![0, 3], vec![], vec![8], vec![3, 2]];
        let mut uncertain = [false; 9];
        uncertain[2] = true;
        let at = |tokens: &Tensor, cells: &Tensor| Localised::evaluate(tokens, cells, &shown, &uncertain, 0.3).unwrap();
        let found = at(&tokens, &cells);
        let check = |tensor: &Tensor, gradient: &Tensor, loss: &dyn Fn(&Tensor) -> f64| {
            let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
            let gradient: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
            for place in 0..values.len() {
                let moved = |by: f32| {
                    let mut values = values.clone();
                    values[place] += by;
                    loss(&Tensor::from_vec(values, tensor.shape(), &Device::Cpu).unwrap())
                };
                let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                assert!((slope - f64::from(gradient[place])).abs() < 2e-3, "{place}: {slope} {}", gradient[place]);
            }
        };
        check(&tokens, &found.tokens, &|moved| at(moved, &cells).loss);
        check(&cells, &found.cells, &|moved| at(&tokens, moved).loss);
    }

    #[test]
    fn equal_cells_have_taught_nothing() {
        let cells = Tensor::ones((8, 6), candle_core::DType::F32, &Device::Cpu).unwrap();
        let found = Localised::evaluate(&random(1, 3), &cells, &[vec![1, 5]], &[false; 8], 0.1).unwrap();
        assert!((found.loss - 4f64.ln()).abs() < 1e-5 && (found.no_learning - 4f64.ln()).abs() < 1e-9);
        let refused =
            |shown: &[Vec<u32>], t| Localised::evaluate(&random(1, 3), &cells, shown, &[false; 8], t).is_err();
        assert!(refused(&[vec![8]], 0.1) && refused(&[], 0.1) && refused(&[vec![1]], 0.0));
    }
}
