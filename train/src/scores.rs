//! The scores of a batch, and what each of them should become.

use crate::Error;

/// One number per query and page, `queries x pages` row by row: scores, or the gradient of a loss with respect to them.
#[derive(Clone, PartialEq, Debug)]
pub struct ScoreGrid {
    queries: usize,
    pages: usize,
    values: Vec<f32>,
}

impl ScoreGrid {
    /// Wraps `values`, `queries x pages` row by row.
    ///
    /// # Errors
    /// The number of values is not `queries * pages`.
    pub fn new(queries: usize, pages: usize, values: Vec<f32>) -> Result<Self, Error> {
        if Some(values.len()) != queries.checked_mul(pages) {
            return Err(Error::shape("scores", format!("{queries} x {pages} values"), values.len()));
        }
        Ok(Self { queries, pages, values })
    }

    /// A grid of zeros.
    pub fn zeros(queries: usize, pages: usize) -> Self {
        Self { queries, pages, values: vec![0.0; queries * pages] }
    }

    /// Number of queries: rows.
    pub fn queries(&self) -> usize {
        self.queries
    }

    /// Number of pages: columns.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// The pages `pages` of all queries.
    pub(crate) fn columns(&self, pages: std::ops::Range<usize>) -> Self {
        let values = (0..self.queries).flat_map(|query| &self.row(query)[pages.clone()]).copied().collect();
        Self { queries: self.queries, pages: pages.len(), values }
    }

    /// The grids of the same queries on one page after the other.
    pub(crate) fn beside<'a>(queries: usize, grids: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let values = (0..queries).flat_map(|query| grids.clone().flat_map(move |grid| grid.row(query))).copied();
        Self { queries, pages: grids.clone().map(Self::pages).sum(), values: values.collect() }
    }

    /// The scores of one query, one per page.
    ///
    /// # Panics
    /// There is no such query.
    pub fn row(&self, query: usize) -> &[f32] {
        &self.values[query * self.pages..][..self.pages]
    }

    pub(crate) fn row_mut(&mut self, query: usize) -> &mut [f32] {
        &mut self.values[query * self.pages..][..self.pages]
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

/// What a page is to a query of its batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cell {
    /// The page that this step wants on top.
    Positive,
    /// A page of the batch that does not answer the query, as far as is known.
    Negative,
    /// A negative that was mined for this very query.
    Explicit,
    /// Neither: another positive of the query, a copy of one, or another query's mined negative.
    Ignored,
}

/// What every page of a batch is to every query, `queries x pages`.
#[derive(Clone, PartialEq, Debug)]
pub struct Targets {
    pages: usize,
    cells: Vec<Cell>,
    positives: Vec<usize>,
    /// What each query counts; empty where all count alike.
    weights: Vec<f64>,
}

// Weights are numbers.
impl Eq for Targets {}

impl Targets {
    /// Checks and wraps `cells`, row by row, of `pages` columns.
    ///
    /// # Errors
    /// There are no queries, a row has no or several positives, or no query has a negative at all.
    pub fn new(pages: usize, cells: Vec<Cell>) -> Result<Self, Error> {
        if pages == 0 || cells.is_empty() || !cells.len().is_multiple_of(pages) {
            return Err(Error::shape("targets", format!("rows of {pages} cells, at least one"), cells.len()));
        }
        let positive = |(query, row): (usize, &[Cell])| {
            let mut found = (0..pages).filter(|page| row[*page] == Cell::Positive);
            match (found.next(), found.next()) {
                (Some(page), None) => Ok(page),
                (first, _) => Err(Error::Positives { query, received: first.map_or("none", |_| "several") }),
            }
        };
        let positives = cells.chunks_exact(pages).enumerate().map(positive).collect::<Result<_, _>>()?;
        if !cells.iter().any(|cell| matches!(cell, Cell::Negative | Cell::Explicit)) {
            return Err(Error::NoNegatives { queries: cells.len() / pages });
        }
        Ok(Self { pages, cells, positives, weights: Vec::new() })
    }

    /// Lets the terms of each query count so many times in the mean that a loss is.
    ///
    /// # Errors
    /// There is not one weight per query, or one is not a number above 0.
    pub fn with_weights(mut self, weights: Vec<f64>) -> Result<Self, Error> {
        if weights.len() != self.queries() {
            return Err(Error::shape("weights", format!("{}, one per query", self.queries()), weights.len()));
        }
        if let Some(received) = weights.iter().find(|weight| !(weight.is_finite() && **weight > 0.0)) {
            return Err(Error::setting("weight of a query", "a number above 0", received));
        }
        self.weights = weights;
        Ok(self)
    }

    /// What a query counts: 1 unless it was said.
    pub(crate) fn weight(&self, query: usize) -> f64 {
        self.weights.get(query).copied().unwrap_or(1.0)
    }

    /// Query `i` wants page `i`, and every other page is a negative.
    ///
    /// # Errors
    /// Fewer than two queries: there would be no negative.
    pub fn diagonal(queries: usize) -> Result<Self, Error> {
        let cell = |at: usize| if at.is_multiple_of(queries + 1) { Cell::Positive } else { Cell::Negative };
        Self::new(queries, (0..queries * queries).map(cell).collect())
    }

    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.positives.len()
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// The cells of one query.
    ///
    /// # Panics
    /// There is no such query.
    pub fn row(&self, query: usize) -> &[Cell] {
        &self.cells[query * self.pages..][..self.pages]
    }

    /// The column of a query's positive.
    ///
    /// # Panics
    /// There is no such query.
    pub fn positive(&self, query: usize) -> usize {
        self.positives[query]
    }

    /// The pages of one kind in a query's row.
    pub(crate) fn of(&self, query: usize, kind: Cell) -> impl Iterator<Item = usize> + '_ {
        self.row(query).iter().enumerate().filter(move |(_, cell)| **cell == kind).map(|(page, _)| page)
    }

    /// The same with some cells ignored. Positives stay.
    pub(crate) fn without(&self, ignored: &[usize]) -> Self {
        let mut cells = self.cells.clone();
        ignored.iter().for_each(|at| cells[*at] = Cell::Ignored);
        Self { cells, ..self.clone() }
    }

    /// The same with explicit negatives as ordinary ones.
    pub(crate) fn with_explicit_as_negatives(&self) -> Self {
        let plain = |cell: &Cell| if *cell == Cell::Explicit { Cell::Negative } else { *cell };
        Self { cells: self.cells.iter().map(plain).collect(), ..self.clone() }
    }

    pub(crate) fn check(&self, scores: &ScoreGrid) -> Result<(), Error> {
        if (scores.queries(), scores.pages()) == (self.queries(), self.pages) {
            return Ok(());
        }
        let expected = format!("{} x {}, as the targets", self.queries(), self.pages);
        Err(Error::shape("scores", expected, format!("{} x {}", scores.queries(), scores.pages())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Cell::{Explicit, Ignored, Negative, Positive};

    #[test]
    fn targets_need_one_positive_each_and_a_negative() {
        let targets = Targets::new(3, vec![Ignored, Positive, Explicit, Positive, Negative, Ignored]).unwrap();
        assert_eq!((targets.queries(), targets.positive(0), targets.positive(1)), (2, 1, 0));
        assert_eq!(targets.with_explicit_as_negatives().row(0), [Ignored, Positive, Negative]);
        assert!(
            Targets::new(2, vec![Positive, Negative, Negative, Negative]).unwrap_err().to_string().contains("none")
        );
        assert!(Targets::new(2, vec![Positive, Positive]).unwrap_err().to_string().contains("several"));
        assert!(Targets::new(2, vec![Positive, Ignored]).unwrap_err().to_string().contains("negative"));
        assert!(Targets::new(2, vec![Positive]).is_err() && Targets::new(0, vec![]).is_err());
        assert!(Targets::diagonal(1).is_err());
        assert_eq!(Targets::diagonal(2).unwrap().row(1), [Negative, Positive]);
    }

    #[test]
    fn grids_hold_what_their_shape_says() {
        assert!(ScoreGrid::new(2, 3, vec![0.0; 5]).unwrap_err().to_string().contains("2 x 3"));
        let grid = ScoreGrid::new(2, 2, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(grid.row(1), [3.0, 4.0]);
        assert!(Targets::diagonal(3).unwrap().check(&grid).unwrap_err().to_string().contains("3 x 3"));
    }
}
