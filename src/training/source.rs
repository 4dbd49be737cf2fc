//! Pages and queries as the whole network takes them, made when a batch wants them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_ingest::page::{Document, PageReader};
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::data::{PageId, TrainingData};
use colqwen_index_train::trainer::Source;

use super::near_duplicates::{Look, near_duplicates};
use super::pages::open_documents;
use super::{LostPages, Pages, Preparation};
use crate::Error;

/// Pages from their files.
pub(super) struct PageSource<'m> {
    model: &'m ColQwen2,
    documents: Vec<Document>,
    /// The document of each page that was found.
    places: HashMap<PageId, usize>,
    looks: Vec<(PageId, Look)>,
    /// Pages that were rendered already, as far as there is room.
    inputs: RefCell<HashMap<PageId, Arc<ModelInput>>>,
    room: Cell<usize>,
}

impl<'m> PageSource<'m> {
    /// Queries, and no pages yet. `room` bytes of rendered pages are kept.
    pub fn new(model: &'m ColQwen2, room: usize) -> Self {
        let (documents, places, looks) = (Vec::new(), HashMap::new(), Vec::new());
        Self { model, documents, places, looks, inputs: RefCell::default(), room: Cell::new(room) }
    }

    /// Finds the pages that the data name and renders each of them once.
    pub fn find(
        &mut self,
        pages: Pages<'_>,
        data: &TrainingData,
        lost: &mut LostPages,
        mut progress: impl FnMut(Preparation<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let documents = open_documents(pages, &data.pages(), lost)?;
        // Whoever breaks off is heard at the first page.
        let _ = progress(Preparation::Planned { pages: documents.iter().map(|(_, pages)| pages.len()).sum() });
        for (document, pages) in documents {
            let mut reader = document.reader();
            for page in pages {
                match self.input(&mut reader, &page) {
                    Ok(input) => {
                        self.looks.push((page.clone(), Look::of(&input, self.model)?));
                        self.keep(&page, &Arc::new(input));
                        self.places.insert(page.clone(), self.documents.len());
                    }
                    Err(error) => lost.lose(&page, error)?,
                }
                if progress(Preparation::Page { doc_id: &page.doc_id }).is_break() {
                    return Err(Error::Interrupted);
                }
            }
            drop(reader);
            self.documents.push(document);
        }
        Ok(())
    }

    /// Pages that look alike, by the number of their kind.
    pub fn copies(&self) -> HashMap<PageId, u64> {
        near_duplicates(&self.looks)
    }

    fn input(&self, reader: &mut PageReader<'_>, page: &PageId) -> Result<ModelInput, Error> {
        let image = reader.page(page.page, &self.model.page_budget())?.image;
        Ok(self.model.page_input(&[image])?)
    }

    fn render(&self, page: &PageId) -> Result<ModelInput, Error> {
        let missing = || Error::PageMissing { page: page.clone(), problem: "the data do not name it".to_owned() };
        let document = self.places.get(page).map(|at| &self.documents[*at]).ok_or_else(missing)?;
        self.input(&mut document.reader(), page)
    }

    fn keep(&self, page: &PageId, input: &Arc<ModelInput>) {
        let bytes = input.pixel_values.as_ref().map_or(0, |pixels| pixels.elem_count() * 4);
        if let Some(left) = self.room.get().checked_sub(bytes) {
            self.room.set(left);
            self.inputs.borrow_mut().insert(page.clone(), Arc::clone(input));
        }
    }
}

impl Source for PageSource<'_> {
    type Item = Arc<ModelInput>;

    fn query(&self, query: &str) -> Result<Self::Item, TrainError> {
        Ok(Arc::new(self.model.query_input(&[query])?))
    }

    fn page(&self, page: &PageId) -> Result<Self::Item, TrainError> {
        if let Some(input) = self.inputs.borrow().get(page) {
            return Ok(Arc::clone(input));
        }
        let input = Arc::new(
            self.render(page).map_err(|error| TrainError::Source { what: page.to_string(), source: error.into() })?,
        );
        self.keep(page, &input);
        Ok(input)
    }
}
