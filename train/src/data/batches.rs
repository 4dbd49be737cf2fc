//! Which queries meet in which batch, and which pages they bring: a function of the seed, the epoch and the place in it,
//! so that a resumed run goes on exactly where it stopped.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{PageId, Question, TrainingData};
use crate::Error;
use crate::random::{Purpose, Stream};
use crate::scores::{Cell, Targets};

/// How batches are put together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchOptions {
    /// Queries per batch, at least 2: what the loss sees as in-batch negatives.
    pub size: usize,
    /// Mined negatives drawn per query.
    pub negatives: usize,
    /// Whether a negative mined for one query is an in-batch negative of the others, or nothing to them.
    pub share_negatives: bool,
    /// What order and draws depend on.
    pub seed: u64,
}

/// One batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Drawn {
    /// Rows of the training data.
    pub queries: Vec<usize>,
    /// The pages of all of them, each once.
    pub pages: Vec<PageId>,
    /// What every page is to every query.
    pub targets: Targets,
}

/// The batches of all epochs.
#[derive(Debug)]
pub struct Batches<'a> {
    questions: &'a [Question],
    /// Rows of queries that have a positive, by group.
    groups: Vec<Vec<usize>>,
    copies: HashMap<PageId, u64>,
    options: BatchOptions,
}

impl<'a> Batches<'a> {
    /// Batches of the queries that have a positive.
    ///
    /// # Errors
    /// Fewer than two queries have one, or the size is below 2.
    pub fn new(data: &'a TrainingData, options: BatchOptions) -> Result<Self, Error> {
        if options.size < 2 {
            return Err(Error::setting("batch", "a number from 2", options.size));
        }
        let mut groups: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
        for (row, question) in data.questions.iter().enumerate() {
            if !question.positives.is_empty() {
                groups.entry(question.group.as_deref()).or_default().push(row);
            }
        }
        let groups: Vec<Vec<usize>> = groups.into_values().collect();
        let usable: usize = groups.iter().map(Vec::len).sum();
        if usable < 2 {
            let received = format!("{usable} of {}", data.questions.len());
            return Err(Error::shape("queries with a positive page", "at least 2", received));
        }
        Ok(Self { questions: &data.questions, groups, copies: HashMap::new(), options })
    }

    /// Tells which pages look alike: those of one number are never negatives of each other's queries.
    pub fn with_copies(mut self, copies: HashMap<PageId, u64>) -> Self {
        self.copies = copies;
        self
    }

    /// Queries that take part.
    pub fn queries(&self) -> usize {
        self.groups.iter().map(Vec::len).sum()
    }

    /// Batches in each epoch.
    pub fn per_epoch(&self) -> usize {
        let size = self.options.size;
        let whole: usize = self.groups.iter().map(|group| group.len() / size).sum();
        let rest: usize = self.groups.iter().map(|group| group.len() % size).sum();
        // A last query by itself joins the batch before it.
        whole + if rest % size == 1 && whole + rest > 1 { rest / size } else { rest.div_ceil(size) }
    }

    /// The rows of each batch of an epoch, every query once. Batches hold one group each; what is left of the groups meets
    /// in mixed ones.
    pub fn epoch(&self, epoch: u64) -> Vec<Vec<usize>> {
        let mut stream = Stream::new(self.options.seed, Purpose::Order, &[epoch]);
        let size = self.options.size;
        let (mut batches, mut rest) = (Vec::with_capacity(self.per_epoch()), Vec::new());
        for group in &self.groups {
            let mut rows = group.clone();
            stream.shuffle(&mut rows);
            let whole = rows.chunks_exact(size);
            rest.extend_from_slice(whole.remainder());
            batches.extend(whole.map(<[usize]>::to_vec));
        }
        stream.shuffle(&mut rest);
        for rows in rest.chunks(size) {
            match batches.last_mut() {
                Some(last) if rows.len() == 1 => last.extend_from_slice(rows),
                _ => batches.push(rows.to_vec()),
            }
        }
        stream.shuffle(&mut batches);
        batches
    }

    /// Draws the pages for the queries of a batch.
    ///
    /// # Errors
    /// No query has a negative among them: all want the same page.
    pub fn draw(&self, epoch: u64, queries: Vec<usize>) -> Result<Drawn, Error> {
        let draws: Vec<(usize, Vec<usize>)> = queries.iter().map(|row| self.choose(epoch, *row)).collect();
        let positive = |at: usize| &self.questions[queries[at]].positives[draws[at].0].page;
        let mined = |at: usize, which: usize| &self.questions[queries[at]].negatives[which].page;
        let mut seen: HashSet<&PageId> = HashSet::new();
        let mut pages: Vec<&PageId> = (0..queries.len()).map(positive).filter(|page| seen.insert(*page)).collect();
        let wanted = pages.len();
        for (at, (_, negatives)) in draws.iter().enumerate() {
            pages.extend(negatives.iter().map(|which| mined(at, *which)).filter(|page| seen.insert(*page)));
        }
        let mut cells = Vec::with_capacity(queries.len() * pages.len());
        for (at, row) in queries.iter().enumerate() {
            let question = &self.questions[*row];
            for (column, page) in pages.iter().enumerate() {
                let own = || draws[at].1.iter().any(|which| self.alike(mined(at, *which), page));
                cells.push(match () {
                    () if *page == positive(at) => Cell::Positive,
                    () if question.positives.iter().any(|positive| self.alike(&positive.page, page)) => Cell::Ignored,
                    () if own() => Cell::Explicit,
                    () if column < wanted || self.options.share_negatives => Cell::Negative,
                    () => Cell::Ignored,
                });
            }
        }
        let targets = Targets::new(pages.len(), cells)?;
        Ok(Drawn { queries, pages: pages.into_iter().cloned().collect(), targets })
    }

    /// Adds columns to a batch: `count` of the pages `among`, drawn for `step`, that are no pages of the batch. They are
    /// negatives of every query that they do not answer. Fewer where there are not as many. Returns the pages added.
    ///
    /// # Errors
    /// None that a batch as drawn could meet.
    pub fn add_pages(
        &self,
        drawn: Drawn,
        among: &[PageId],
        count: usize,
        step: u64,
    ) -> Result<(Drawn, Vec<PageId>), Error> {
        let mut stream = Stream::new(self.options.seed, Purpose::Constant, &[step]);
        let count = count.min(among.len());
        let mut known: HashSet<&PageId> = drawn.pages.iter().collect();
        let mut added: Vec<&PageId> = Vec::with_capacity(count);
        // Draws that hit a page of the batch are lost; a collection hardly larger than the batch gives fewer.
        for _ in 0..count.saturating_mul(4) {
            if added.len() >= count {
                break;
            }
            let page = &among[((stream.unit() * among.len() as f64) as usize).min(among.len() - 1)];
            if known.insert(page) {
                added.push(page);
            }
        }
        let mut cells = Vec::with_capacity(drawn.queries.len() * (drawn.pages.len() + added.len()));
        for (at, row) in drawn.queries.iter().enumerate() {
            cells.extend_from_slice(drawn.targets.row(at));
            let positives = &self.questions[*row].positives;
            cells.extend(added.iter().map(|page| {
                let answers = positives.iter().any(|positive| self.alike(&positive.page, page));
                if answers { Cell::Ignored } else { Cell::Negative }
            }));
        }
        let targets = Targets::new(drawn.pages.len() + added.len(), cells)?;
        Ok((Drawn { targets, ..drawn }, added.into_iter().cloned().collect()))
    }

    /// The positive of a query in an epoch, by weight, and its mined negatives.
    fn choose(&self, epoch: u64, row: usize) -> (usize, Vec<usize>) {
        let question = &self.questions[row];
        let mut stream = Stream::new(self.options.seed, Purpose::Choice, &[epoch, row as u64]);
        let total: f64 = question.positives.iter().map(|positive| f64::from(positive.weight)).sum();
        let mut left = stream.unit() * total;
        let reached = |positive: &super::PositivePage| {
            left -= f64::from(positive.weight);
            left < 0.0
        };
        // Rounding may leave a crumb behind the last one.
        let positive = question.positives.iter().position(reached).unwrap_or(question.positives.len() - 1);
        let mut negatives: Vec<usize> = (0..question.negatives.len()).collect();
        stream.shuffle(&mut negatives);
        negatives.truncate(self.options.negatives);
        (positive, negatives)
    }

    fn alike(&self, one: &PageId, other: &PageId) -> bool {
        one == other
            || matches!((self.copies.get(one), self.copies.get(other)), (Some(one), Some(other)) if one == other)
    }
}

#[cfg(test)]
mod tests;
