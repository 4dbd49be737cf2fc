//! The gradient of a large batch, exactly, in the memory of a small one.
//!
//! In-batch negatives make every score depend on the whole batch, so that mini-batches cannot simply be added up: plain
//! accumulation sees few negatives however long it accumulates. GradCache (Gao, Zhang, Han & Callan, "Scaling deep
//! contrastive learning batch size under memory limited setup", RepL4NLP 2021) takes two passes: the first encodes all
//! mini-batches; the loss and its gradient by each score follow from the scores of all queries on all pages; the second encodes
//! again, one mini-batch at a time, and leads its part of that gradient to the weights.
//!
//! GradCache keeps all token vectors between the passes. Late interaction has hundreds per page, more than all else of a large
//! batch; here those of the queries stay, and of the pages only their scores and which token was best. A best page token moves
//! towards its query tokens, so its slope needs no page vectors; the slopes of query tokens need them, and take them from the second
//! pass. So the pages of a batch take the memory of a mini-batch of them, however many they are.

use std::ops::Range;
use std::thread;

use crate::Error;
use crate::encode::{Encode, Place, Side};
use crate::gradients::Gradients;
use crate::loss::{Evaluated, Loss, Teacher};
use crate::maxsim::{MaxSim, Packed, Scored, Similarity};
use crate::scores::{ScoreGrid, Targets};
use crate::watch::PageSpread;
use candle_core::{Device, Tensor};

/// candle's backward pass recurses over the graph: 2 MiB end after 3,000 to 10,000 operations. Memory is taken only as it
/// is used.
const STACK: usize = 1 << 30;

/// Queries and pages of one step.
#[derive(Debug)]
pub struct Batch<'a, Item> {
    /// The queries.
    pub queries: &'a [Item],
    /// The pages: positives and negatives of all queries, each once.
    pub pages: &'a [Item],
    /// Token vectors of further pages that do not learn, after the columns of `pages`: negatives, or all pages where queries
    /// alone learn.
    pub constant_pages: Option<&'a Packed>,
    /// Whose ranking the model shall keep to, if anybody's.
    pub teacher: Option<Teacher<'a>>,
    /// What every page is to every query, the constant ones included.
    pub targets: &'a Targets,
}

// Not derived: that would ask the items to be copied.
impl<Item> Clone for Batch<'_, Item> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Item> Copy for Batch<'_, Item> {}

/// The outcome of a step, before the optimiser.
#[derive(Debug)]
pub struct Learnt {
    /// The loss.
    pub evaluated: Evaluated,
    /// The scores it was computed from, `queries x pages`, the constant pages last.
    pub scores: ScoreGrid,
    /// How far the token vectors of the pages are apart, those of the constant ones included.
    pub spread: PageSpread,
    /// The derivative of the loss by each parameter.
    pub gradients: Gradients,
}

/// What stays of a mini-batch of pages between the passes.
struct ScoredPages {
    /// Its places among the pages of the batch.
    rows: Range<usize>,
    /// Tokens of each page.
    lengths: Vec<usize>,
    scored: Scored,
}

impl ScoredPages {
    fn new(maxsim: &MaxSim, queries: &Packed, pages: &Packed, rows: Range<usize>) -> Result<Self, Error> {
        Ok(Self { rows, lengths: pages.lengths().collect(), scored: maxsim.score(queries, pages)? })
    }

    /// The slopes of the pages, whose vectors these are; those of the queries are added to `of_queries`.
    fn backward(
        &self,
        maxsim: &MaxSim,
        queries: &Packed,
        pages: &Packed,
        gradient: &ScoreGrid,
        of_queries: &mut [f32],
    ) -> Result<Packed, Error> {
        let by_token = maxsim.backward(queries, pages, &self.scored, gradient)?;
        let own: Vec<f32> = by_token.queries.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
        of_queries.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
        Packed::new(by_token.pages, &self.lengths)
    }
}

/// How a batch is scored, judged and cut.
#[derive(Clone, Copy, Debug)]
pub struct GradCache {
    /// How scores are made.
    pub maxsim: MaxSim,
    /// What they should be.
    pub loss: Loss,
    /// Queries or pages that are encoded with a graph at once: this sets the memory a step needs.
    pub mini_batch: usize,
}

impl GradCache {
    /// The loss of a batch and its exact gradient by all parameters.
    ///
    /// # Errors
    /// Batch and targets do not belong together, the model refuses an item, or the device fails.
    pub fn learn<E: Encode>(&self, model: &E, batch: Batch<'_, E::Item>, step: u64) -> Result<Learnt, Error> {
        if self.mini_batch == 0 {
            return Err(Error::setting("mini-batch", "a number from 1", 0));
        }
        on_large_stack(|| self.two_passes(model, batch, step))
    }

    fn two_passes<E: Encode>(&self, model: &E, batch: Batch<'_, E::Item>, step: u64) -> Result<Learnt, Error> {
        let queries = self.vectors(model, batch.queries, Side::Query, step)?;
        let (mut blocks, mut spread) = (Vec::new(), PageSpread::new(queries.dim()));
        let place = |rows: &Range<usize>| Place { step, first_row: rows.start as u64 };
        for rows in self.mini_batches(batch.pages.len()) {
            let pages = model.vectors(&batch.pages[rows.clone()], Side::Page, place(&rows))?;
            spread.add(&pages)?;
            blocks.push(ScoredPages::new(&self.maxsim, &queries, &pages, rows)?);
        }
        let constant = match batch.constant_pages {
            Some(pages) => {
                let pages = pages.detach().items_on(0..pages.items(), queries.vectors().device())?;
                spread.add(&pages)?;
                let rows = batch.pages.len()..batch.pages.len() + pages.items();
                Some((ScoredPages::new(&self.maxsim, &queries, &pages, rows)?, pages))
            }
            None => None,
        };
        let grids = blocks.iter().chain(constant.as_ref().map(|(block, _)| block)).map(|block| &block.scored.scores);
        let scores = ScoreGrid::beside(queries.items(), grids);
        let mut evaluated = self.loss.evaluate(&scores, batch.targets)?;
        if let Some(teacher) = batch.teacher {
            evaluated = evaluated.plus(&teacher.evaluate(&scores)?);
        }

        let mut gradients = Gradients::none(model.parameters().len());
        let mut of_queries = vec![0.0; queries.tokens() * queries.dim()];
        for block in blocks {
            let (items, place) = (&batch.pages[block.rows.clone()], place(&block.rows));
            let gradient = evaluated.gradient.columns(block.rows.clone());
            match self.maxsim.similarity {
                Similarity::Max => {
                    let slopes = self.maxsim.page_slopes(&queries, &block.lengths, &block.scored, &gradient)?;
                    let slopes = Packed::new(slopes, &block.lengths)?;
                    let pages = model.lead(items, Side::Page, place, &slopes, &mut gradients)?;
                    self.maxsim.add_query_slopes(&queries, &pages, &block.scored, &gradient, &mut of_queries)?;
                }
                Similarity::SmoothMax { .. } => {
                    // Every token's slope depends on the pages' vectors, so these are made once more.
                    let pages = model.vectors(items, Side::Page, place)?;
                    let slopes = block.backward(&self.maxsim, &queries, &pages, &gradient, &mut of_queries)?;
                    model.lead(items, Side::Page, place, &slopes, &mut gradients)?;
                }
            }
        }
        if let Some((block, pages)) = &constant {
            let gradient = evaluated.gradient.columns(block.rows.clone());
            block.backward(&self.maxsim, &queries, pages, &gradient, &mut of_queries)?;
        }
        let lengths: Vec<usize> = queries.lengths().collect();
        let shape = (queries.tokens(), queries.dim());
        let of_queries = Tensor::from_vec(of_queries, shape, &Device::Cpu)?.to_device(queries.vectors().device())?;
        let of_queries = Packed::new(of_queries, &lengths)?;
        for rows in self.mini_batches(batch.queries.len()) {
            let slopes = of_queries.items_on(rows.clone(), of_queries.vectors().device())?;
            model.lead(&batch.queries[rows.clone()], Side::Query, place(&rows), &slopes, &mut gradients)?;
        }
        Ok(Learnt { evaluated, scores, spread, gradients })
    }

    /// The first pass: token vectors without their graphs.
    fn vectors<E: Encode>(&self, model: &E, items: &[E::Item], side: Side, step: u64) -> Result<Packed, Error> {
        let encode = |rows: Range<usize>| {
            let place = Place { step, first_row: rows.start as u64 };
            model.vectors(&items[rows], side, place)
        };
        Packed::cat(&self.mini_batches(items.len()).map(encode).collect::<Result<Vec<_>, Error>>()?)
    }

    fn mini_batches(&self, items: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let size = self.mini_batch;
        (0..items).step_by(size).map(move |first| first..items.min(first + size))
    }
}

/// Runs `work` where deep graphs can be walked and dropped.
pub(crate) fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let thread = spawn_on_large_stack(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Starts `work` on a thread of its own with such a stack.
pub(crate) fn spawn_on_large_stack<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<thread::ScopedJoinHandle<'scope, T>, Error> {
    let thread = thread::Builder::new().name("training".to_owned()).stack_size(STACK);
    thread.spawn_scoped(scope, work).map_err(|source| Error::Thread { source })
}
