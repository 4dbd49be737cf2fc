//! Learning a teacher's ranking: the divergence between its distribution over a few pages and the model's.

use super::{Evaluated, check_finite, check_temperature, log_sum_exp};
use crate::Error;
use crate::scores::ScoreGrid;

/// `KL(softmax(teacher / T_teacher) || softmax(score / T))` over the pages that the teacher scored, mean over queries.
///
/// ColBERTv2 (Santhanam et al. 2022) and pylate use temperature 1 with scores that are not divided by the number of
/// query tokens; divided scores want a temperature like that of the contrastive losses.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Distillation {
    /// What the model's scores are divided by.
    pub temperature: f64,
    /// What the teacher's scores are divided by.
    pub teacher_temperature: f64,
}

impl Default for Distillation {
    fn default() -> Self {
        Self { temperature: 1.0, teacher_temperature: 1.0 }
    }
}

impl Distillation {
    /// The loss and its gradient. `teacher` gives each query's pages, by column, with the teacher's score.
    ///
    /// # Errors
    /// A query has fewer than two pages, a page is no column of the grid or appears twice, a score is not finite, or a
    /// temperature is not above 0.
    pub fn evaluate(&self, scores: &ScoreGrid, teacher: &[Vec<(usize, f32)>]) -> Result<Evaluated, Error> {
        check_temperature("loss temperature", self.temperature)?;
        check_temperature("temperature of the teacher", self.teacher_temperature)?;
        check_finite(scores)?;
        check_teacher(scores, teacher)?;
        let mut sum = Evaluated::nothing(scores);
        for (query, scored) in teacher.iter().enumerate() {
            let row = scores.row(query);
            let own: Vec<f64> = scored.iter().map(|(page, _)| f64::from(row[*page]) / self.temperature).collect();
            let theirs: Vec<f64> =
                scored.iter().map(|(_, score)| f64::from(*score) / self.teacher_temperature).collect();
            let (own_total, their_total) = (log_sum_exp(&own), log_sum_exp(&theirs));
            let uniform = -(scored.len() as f64).ln();
            let gradient = sum.gradient.row_mut(query);
            for ((own, theirs), (page, _)) in own.iter().zip(&theirs).zip(scored) {
                let (log_own, log_theirs) = (own - own_total, theirs - their_total);
                sum.value += log_theirs.exp() * (log_theirs - log_own);
                sum.no_learning += log_theirs.exp() * (log_theirs - uniform);
                gradient[*page] = ((log_own.exp() - log_theirs.exp()) / self.temperature) as f32;
            }
        }
        Ok(sum.times(1.0 / teacher.len() as f64))
    }
}

/// A teacher of every page of a batch, beside a contrastive loss: an anchor against forgetting where the teacher is the model
/// that the training began with.
#[derive(Clone, Copy, Debug)]
pub struct Teacher<'a> {
    /// Its scores, `queries x pages`.
    pub scores: &'a ScoreGrid,
    /// What the divergence counts in the sum with the loss.
    pub weight: f64,
    /// The temperatures.
    pub distillation: Distillation,
}

impl Teacher<'_> {
    /// The weighted divergence and its gradient.
    ///
    /// # Errors
    /// As [`Distillation::evaluate`], or the weight is not a number from 0.
    pub fn evaluate(&self, scores: &ScoreGrid) -> Result<Evaluated, Error> {
        if !(self.weight.is_finite() && self.weight >= 0.0) {
            return Err(Error::setting("weight of the distillation", "a number from 0", self.weight));
        }
        let row = |query: usize| self.scores.row(query).iter().copied().enumerate().collect();
        let teacher: Vec<Vec<(usize, f32)>> = (0..self.scores.queries()).map(row).collect();
        if self.scores.pages() != scores.pages() {
            let expected = format!("{}, as the batch", scores.pages());
            return Err(Error::shape("pages with a teacher's score", expected, self.scores.pages()));
        }
        Ok(self.distillation.evaluate(scores, &teacher)?.times(self.weight))
    }
}

fn check_teacher(scores: &ScoreGrid, teacher: &[Vec<(usize, f32)>]) -> Result<(), Error> {
    if teacher.is_empty() || teacher.len() != scores.queries() {
        return Err(Error::shape("the teacher's rows", format!("{}, one per query", scores.queries()), teacher.len()));
    }
    for (query, scored) in teacher.iter().enumerate() {
        if scored.len() < 2 {
            let received = format!("{} for query {query}", scored.len());
            return Err(Error::shape("pages with a teacher's score", "at least two per query", received));
        }
        let mut pages: Vec<usize> = scored.iter().map(|(page, _)| *page).collect();
        pages.sort_unstable();
        let repeated = pages.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        if let Some(page) = repeated.or(pages.last().copied().filter(|page| *page >= scores.pages())) {
            let expected = format!("different pages below {}", scores.pages());
            return Err(Error::shape("pages with a teacher's score", expected, format!("{page} for query {query}")));
        }
        if let Some((page, score)) = scored.iter().find(|(_, score)| !score.is_finite()) {
            return Err(Error::shape("the teacher's scores", "finite numbers", format!("{score} for page {page}")));
        }
    }
    Ok(())
}
