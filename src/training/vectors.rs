//! Token vectors that do not learn: those that an index stores, and those that a model gave before it was trained.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Tensor};
use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_ingest::colqwen2::ops::Ops;
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::constant::{FixedPages, FixedVectors};
use colqwen_index_train::data::PageId;
use colqwen_index_train::maxsim::Packed;
use colqwen_index_train::trainer::Source;
use tantivy::{DocAddress, Searcher};

use super::LostPages;
use super::source::PageSource;
use crate::{Error, PageIndex};

/// The stored pages of an index.
pub(super) struct StoredPages<'a> {
    index: &'a PageIndex,
    searcher: Searcher,
    places: BTreeMap<PageId, DocAddress>,
}

impl<'a> StoredPages<'a> {
    /// Refuses an index of another model's pages: they mean nothing to `model`.
    pub fn new(index: &'a PageIndex, model: &ColQwen2) -> Result<Self, Error> {
        use colqwen_index_ingest::encoder::Encoder;
        index.check_model(model.serves_pages_of())?;
        let searcher = index.searcher();
        let places = index.places(&searcher)?;
        let places = places.into_iter().map(|((doc_id, page), at)| (PageId::new(doc_id, page), at)).collect();
        Ok(Self { index, searcher, places })
    }

    /// All pages, in order of their ids.
    pub fn ids(&self) -> Vec<PageId> {
        self.places.keys().cloned().collect()
    }

    /// Takes note of the pages that the index lacks.
    pub fn check(&self, wanted: &[&PageId], lost: &mut LostPages) -> Result<(), Error> {
        let missing = wanted.iter().filter(|page| !self.places.contains_key(**page));
        let problem = format!("the index {:?} does not hold it", self.index.folder());
        missing.into_iter().try_for_each(|page| lost.lose(page, &problem))
    }

    fn vectors(&self, page: &PageId) -> Result<colqwen_index_field::MultiVector, TrainError> {
        let missing = || TrainError::Missing {
            what: page.to_string(),
            place: format!("the index {:?}", self.index.folder()),
            hint: "",
        };
        let failed = |error: Error| TrainError::Source { what: page.to_string(), source: Box::new(error) };
        let at = self.places.get(page).ok_or_else(missing)?;
        let stored = self.index.page_vectors(&self.searcher, *at).map_err(failed)?;
        Ok(stored.ok_or_else(missing)?.vectors)
    }
}

impl FixedPages for StoredPages<'_> {
    fn pages(&self, pages: &[PageId]) -> Result<Packed, TrainError> {
        let vectors = pages.iter().map(|page| self.vectors(page)).collect::<Result<Vec<_>, _>>()?;
        Packed::from_multi_vectors(&vectors.iter().collect::<Vec<_>>())
    }
}

/// The vectors of the model that a training begins with. Each is computed when it is first asked for and kept in half
/// precision: 200 KB for a page of 768 tokens of 128 values.
pub(super) struct FirstVectors<'a> {
    model: &'a ColQwen2,
    source: &'a PageSource<'a>,
    /// By page, and by the text of queries; `tokens x dim`, f16.
    pages: RefCell<HashMap<PageId, Tensor>>,
    queries: RefCell<HashMap<String, Tensor>>,
}

impl<'a> FirstVectors<'a> {
    pub fn new(model: &'a ColQwen2, source: &'a PageSource<'a>) -> Self {
        Self { model, source, pages: RefCell::default(), queries: RefCell::default() }
    }

    fn compute(&self, input: &ModelInput) -> Result<Tensor, TrainError> {
        Ok(self.model.model().forward(input, Ops::Fused)?.to_dtype(DType::F16)?)
    }
}

fn put_together(tensors: &[Tensor]) -> Result<Packed, TrainError> {
    let lengths: Vec<usize> = tensors.iter().map(|tensor| tensor.dims()[0]).collect();
    Packed::new(Tensor::cat(tensors, 0)?.to_dtype(DType::F32)?, &lengths)
}

impl FixedPages for FirstVectors<'_> {
    fn pages(&self, pages: &[PageId]) -> Result<Packed, TrainError> {
        let vectors = pages.iter().map(|page| {
            if let Some(known) = self.pages.borrow().get(page) {
                return Ok(known.clone());
            }
            let computed = self.compute(&*self.source.page(page)?)?;
            self.pages.borrow_mut().insert(page.clone(), computed.clone());
            Ok(computed)
        });
        put_together(&vectors.collect::<Result<Vec<_>, TrainError>>()?)
    }
}

impl FixedVectors for FirstVectors<'_> {
    fn queries(&self, queries: &[&str]) -> Result<Packed, TrainError> {
        let vectors = queries.iter().map(|query| {
            if let Some(known) = self.queries.borrow().get(*query) {
                return Ok(known.clone());
            }
            let computed = self.compute(&*self.source.query(query)?)?;
            self.queries.borrow_mut().insert((*query).to_owned(), computed.clone());
            Ok(computed)
        });
        put_together(&vectors.collect::<Result<Vec<_>, TrainError>>()?)
    }
}
