//! The gradient of a large batch, exactly, in the memory of a small one.
//!
//! In-batch negatives make every score depend on the whole batch, so that mini-batches cannot simply be added up: plain
//! accumulation sees few negatives however long it accumulates. GradCache (Gao, Zhang, Han & Callan, "Scaling deep
//! contrastive learning batch size under memory limited setup", RepL4NLP 2021) takes two passes: the first encodes all
//! mini-batches and keeps their token vectors alone; loss and its gradient by each token vector follow from these; the
//! second encodes again, one mini-batch at a time, and leads its part of that gradient to the weights.

use std::ops::Range;
use std::thread;

use crate::Error;
use crate::encode::{Encode, Place, Side};
use crate::gradients::Gradients;
use crate::loss::{Evaluated, Loss, Teacher};
use crate::maxsim::{MaxSim, Packed, Scored};
use crate::scores::Targets;
use candle_core::Tensor;

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
    /// The scores it was computed from.
    pub scored: Scored,
    /// Token vectors of the queries.
    pub queries: Packed,
    /// Token vectors of the pages, the constant ones included.
    pub pages: Packed,
    /// The derivative of the loss by each parameter.
    pub gradients: Gradients,
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
        let mut pages = Vec::new();
        if !batch.pages.is_empty() {
            pages.push(self.vectors(model, batch.pages, Side::Page, step)?);
        }
        if let Some(constant) = batch.constant_pages {
            pages.push(constant.detach().items_on(0..constant.items(), queries.vectors().device())?);
        }
        let pages = Packed::cat(&pages)?;
        let scored = self.maxsim.score(&queries, &pages)?;
        let mut evaluated = self.loss.evaluate(&scored.scores, batch.targets)?;
        if let Some(teacher) = batch.teacher {
            evaluated = evaluated.plus(&teacher.evaluate(&scored.scores)?);
        }
        let by_token = self.maxsim.backward(&queries, &pages, &scored, &evaluated.gradient)?;

        let mut gradients = Gradients::none(model.parameters().len());
        let mut lead = |items: &[E::Item], side, of: &Packed, by_token: Tensor| {
            let lengths: Vec<usize> = of.lengths().collect();
            let by_token = Packed::new(by_token, &lengths)?;
            for rows in self.mini_batches(items.len()) {
                let place = Place { step, first_row: rows.start as u64 };
                let slopes = by_token.items_on(rows.clone(), by_token.vectors().device())?;
                model.lead(&items[rows], side, place, &slopes, &mut gradients)?;
            }
            Ok::<_, Error>(())
        };
        lead(batch.queries, Side::Query, &queries, by_token.queries)?;
        lead(batch.pages, Side::Page, &pages, by_token.pages)?;
        Ok(Learnt { evaluated, scored, queries, pages, gradients })
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
