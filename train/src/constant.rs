//! Token vectors that do not learn, beside those that do.
//!
//! [`Constants`] says what a training takes of them: the pages of every batch, where queries alone learn, so that an index of
//! these pages stays in use; further negatives, such as the stored pages of an index; and a teacher, which is the model that the
//! training began with and keeps it from forgetting what it could do. Vectors come from a [`FixedPages`] or a
//! [`FixedVectors`]; [`Beginning`] makes them of any model under training as it was.

use std::fmt;

use crate::Error;
use crate::data::{Batches, Drawn, PageId};
use crate::encode::{Encode, Place, Side};
use crate::loss::{Distillation, Teacher};
use crate::maxsim::{MaxSim, Packed};
use crate::scores::ScoreGrid;
use crate::trainer::Source;

/// Token vectors of pages that stay as they are.
pub trait FixedPages {
    /// The vectors of `pages`, in order; at least one is asked for.
    ///
    /// # Errors
    /// A page is missing or cannot be read.
    fn pages(&self, pages: &[PageId]) -> Result<Packed, Error>;
}

/// Token vectors of queries and pages that stay as they are.
pub trait FixedVectors: FixedPages {
    /// The vectors of queries by their texts, in order; at least one is asked for.
    ///
    /// # Errors
    /// A query cannot be read.
    fn queries(&self, queries: &[&str]) -> Result<Packed, Error>;
}

/// What a training takes of vectors that do not learn; by default nothing.
#[derive(Clone, Copy, Default)]
pub struct Constants<'a> {
    /// Where the pages of all batches come from, if queries alone learn.
    pub pages: Option<&'a dyn FixedPages>,
    /// Negatives beside those of the data.
    pub negatives: Option<ConstantNegatives<'a>>,
    /// Whose ranking is to be kept.
    pub teacher: Option<Anchor<'a>>,
}

/// Pages that join every batch as negatives. Those of an index are of the model that made it: with pages that learn they
/// grow stale, and a model may learn to tell stored from fresh vectors; they are meant for trainings of queries alone.
#[derive(Clone, Copy)]
pub struct ConstantNegatives<'a> {
    /// The pages to draw from.
    pub among: &'a [PageId],
    /// Their vectors.
    pub vectors: &'a dyn FixedPages,
    /// How many join each batch.
    pub per_step: usize,
}

/// The model that a training began with, as the teacher of the one that learns: the divergence between the two rankings of the
/// pages of each batch is added to the loss.
#[derive(Clone, Copy)]
pub struct Anchor<'a> {
    /// What the divergence counts beside the loss.
    pub weight: f64,
    /// Its temperatures.
    pub distillation: Distillation,
    /// The vectors of the beginning.
    pub vectors: &'a dyn FixedVectors,
}

impl fmt::Debug for Constants<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constants")
            .field("pages", &self.pages.is_some())
            .field("negatives", &self.negatives.map(|negatives| negatives.per_step))
            .field("teacher", &self.teacher.map(|teacher| teacher.weight))
            .finish()
    }
}

impl<'a> Constants<'a> {
    /// A batch with the columns of further negatives, and the vectors of all its pages that do not learn: the last columns.
    pub(crate) fn beside(
        &self,
        batches: &Batches<'_>,
        drawn: Drawn,
        step: u64,
    ) -> Result<(Drawn, Option<Packed>), Error> {
        let mut still = Vec::new();
        if let Some(pages) = self.pages {
            still.push(pages.pages(&drawn.pages)?);
        }
        let mut drawn = drawn;
        if let Some(negatives) = self.negatives {
            let added;
            (drawn, added) = batches.add_pages(drawn, negatives.among, negatives.per_step, step)?;
            if !added.is_empty() {
                still.push(negatives.vectors.pages(&added)?);
            }
        }
        let still = if still.is_empty() { None } else { Some(Packed::cat(&still)?) };
        Ok((drawn, still))
    }

    /// What the teacher thinks of a batch: its own vectors of the pages that learn, and those that stay as they are.
    pub(crate) fn teacher_scores(
        &self,
        maxsim: MaxSim,
        queries: &[&str],
        learning: &[PageId],
        still: Option<&Packed>,
    ) -> Result<Option<ScoreGrid>, Error> {
        let Some(teacher) = self.teacher else { return Ok(None) };
        let queries = teacher.vectors.queries(queries)?;
        let mut pages = Vec::new();
        if !learning.is_empty() {
            pages.push(teacher.vectors.pages(learning)?);
        }
        if let Some(still) = still {
            pages.push(still.items_on(0..still.items(), queries.vectors().device())?);
        }
        Ok(Some(maxsim.score(&queries, &Packed::cat(&pages)?)?.scores))
    }

    /// The teacher with its scores.
    pub(crate) fn teacher<'s>(&self, scores: Option<&'s ScoreGrid>) -> Option<Teacher<'s>> {
        let teacher = self.teacher?;
        scores.map(|scores| Teacher { scores, weight: teacher.weight, distillation: teacher.distillation })
    }
}

/// A model as it is when training begins; one that drops nothing, and no parameter of which is that of the model that learns.
#[derive(Debug)]
pub struct Beginning<'a, E, S> {
    /// The model.
    pub model: E,
    /// Where its items come from.
    pub source: &'a S,
}

impl<E: Encode, S: Source<Item = E::Item>> Beginning<'_, E, S> {
    fn vectors(&self, items: Vec<E::Item>, side: Side) -> Result<Packed, Error> {
        // One at a time, so that no batch is in memory with all that the model makes of it.
        let one =
            |item: &E::Item| self.model.vectors(std::slice::from_ref(item), side, Place { step: 0, first_row: 0 });
        Packed::cat(&items.iter().map(one).collect::<Result<Vec<_>, Error>>()?)
    }
}

impl<E: Encode, S: Source<Item = E::Item>> FixedPages for Beginning<'_, E, S> {
    fn pages(&self, pages: &[PageId]) -> Result<Packed, Error> {
        self.vectors(pages.iter().map(|page| self.source.page(page)).collect::<Result<_, _>>()?, Side::Page)
    }
}

impl<E: Encode, S: Source<Item = E::Item>> FixedVectors for Beginning<'_, E, S> {
    fn queries(&self, queries: &[&str]) -> Result<Packed, Error> {
        self.vectors(queries.iter().map(|query| self.source.query(query)).collect::<Result<_, _>>()?, Side::Query)
    }
}
