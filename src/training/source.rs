//! Pages and queries as the whole network takes them, made when a batch wants them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_ingest::colqwen2::model::{Image, ModelInput};
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_ingest::page::{Document, PageReader};
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::data::{PageId, TrainingData};
use colqwen_index_train::trainer::Source;

use super::near_duplicates::{Look, near_duplicates};
use super::pages::open_documents;
use super::vision::{VisionCache, VisionWriter};
use super::{CacheReport, LostPages, Pages, Preparation};
use crate::Error;

/// Pages from their files.
pub(super) struct PageSource<'m> {
    model: &'m ColQwen2,
    documents: Vec<Document>,
    /// The document of each page that was found.
    places: HashMap<PageId, usize>,
    looks: Vec<(PageId, Look)>,
    /// What the vision tower leaves of all pages, where it does not learn.
    vision: Option<VisionCache>,
    /// Inputs that were made already, as far as there is room; with a cache of the vision tower all, without their images.
    inputs: RefCell<HashMap<PageId, Arc<ModelInput>>>,
    room: Cell<usize>,
}

/// A page on its way to the cache.
type Seen = (PageId, ModelInput);

impl<'m> PageSource<'m> {
    /// Queries, and no pages yet. `room` bytes of rendered pages are kept.
    pub fn new(model: &'m ColQwen2, room: usize) -> Self {
        let (documents, places, looks, vision) = (Vec::new(), HashMap::new(), Vec::new(), None);
        Self { model, documents, places, looks, vision, inputs: RefCell::default(), room: Cell::new(room) }
    }

    /// Finds the pages that the data name and renders each of them once. Those that `vision` lacks go through the vision tower.
    pub fn find(
        &mut self,
        pages: Pages<'_>,
        data: &TrainingData,
        mut vision: Option<VisionWriter>,
        lost: &mut LostPages,
        mut progress: impl FnMut(Preparation<'_>) -> ControlFlow<()>,
    ) -> Result<CacheReport, Error> {
        let documents = open_documents(pages, &data.pages(), lost)?;
        // Whoever breaks off is heard at the first page.
        let _ = progress(Preparation::Planned { pages: documents.iter().map(|(_, pages)| pages.len()).sum() });
        let mut flow = ControlFlow::Continue(());
        for (document, pages) in documents {
            let hash = document.content_hash();
            let mut reader = document.reader();
            for pages in pages.chunks(self.model.pages_at_once()) {
                let mut seen: Vec<Seen> = Vec::with_capacity(pages.len());
                for page in pages {
                    match self.look(&mut reader, page) {
                        Ok(input) => {
                            self.places.insert(page.clone(), self.documents.len());
                            seen.push((page.clone(), input));
                        }
                        Err(error) => lost.lose(page, error)?,
                    }
                    let told = progress(Preparation::Page { doc_id: &page.doc_id });
                    flow = if flow.is_break() { flow } else { told };
                }
                self.take(seen, vision.as_mut(), &hash)?;
                if flow.is_break() {
                    break;
                }
            }
            drop(reader);
            self.documents.push(document);
            if flow.is_break() {
                break;
            }
        }
        let mut report = CacheReport::default();
        if let Some(vision) = vision {
            let (cache, counted) = vision.finish()?;
            (self.vision, report) = (Some(cache), counted);
        }
        if flow.is_break() { Err(Error::Interrupted) } else { Ok(report) }
    }

    /// Keeps inputs that were just made.
    fn take(&self, seen: Vec<Seen>, vision: Option<&mut VisionWriter>, hash: &[u8; 32]) -> Result<(), Error> {
        let Some(vision) = vision else {
            for (page, input) in seen {
                self.keep(&page, &Arc::new(input));
            }
            return Ok(());
        };
        let (mut missing, mut inputs) = (Vec::new(), Vec::new());
        for (page, input) in &seen {
            if !vision.keep(page, hash)? {
                missing.push(page.clone());
                inputs.push(input.clone());
            }
        }
        for (page, states) in missing.iter().zip(self.model.merged_pages(&inputs)?) {
            vision.write(page, hash, states)?;
        }
        let mut all = self.inputs.borrow_mut();
        all.extend(seen.into_iter().map(|(page, input)| (page, Arc::new(ModelInput { image: None, ..input }))));
        Ok(())
    }

    /// Pages that look alike, by the number of their kind.
    pub fn copies(&self) -> HashMap<PageId, u64> {
        near_duplicates(&self.looks)
    }

    fn look(&mut self, reader: &mut PageReader<'_>, page: &PageId) -> Result<ModelInput, Error> {
        let image = reader.page(page.page, &self.model.page_budget())?.image;
        let input = self.model.page_input(std::slice::from_ref(&image))?;
        self.looks.push((page.clone(), Look::of(&image, self.model)?));
        Ok(input)
    }

    fn render(&self, page: &PageId) -> Result<ModelInput, Error> {
        let missing = || Error::PageMissing { page: page.clone(), problem: "the data do not name it".to_owned() };
        let document = self.places.get(page).map(|at| &self.documents[*at]).ok_or_else(missing)?;
        let image = document.reader().page(page.page, &self.model.page_budget())?.image;
        Ok(self.model.page_input(&[image])?)
    }

    fn keep(&self, page: &PageId, input: &Arc<ModelInput>) {
        let bytes = input.image.as_ref().map_or(0, |image| image.tensor().elem_count() * 4);
        if let Some(left) = self.room.get().checked_sub(bytes) {
            self.room.set(left);
            self.inputs.borrow_mut().insert(page.clone(), Arc::clone(input));
        }
    }

    /// The input of a page whose merged patches are in the cache.
    fn merged(&self, vision: &VisionCache, page: &PageId) -> Result<ModelInput, TrainError> {
        let states = vision.page(page)?;
        let values = states.values().to_vec();
        let merged = Tensor::from_vec(values, (states.tokens(), states.width()), &Device::Cpu)?;
        let input = self.inputs.borrow().get(page).cloned();
        let input = input.ok_or_else(|| TrainError::Missing {
            what: page.to_string(),
            place: "the pages that were found".to_owned(),
            hint: "",
        })?;
        Ok(ModelInput { image: Some(Image::Merged(merged)), ..(*input).clone() })
    }
}

impl Source for PageSource<'_> {
    type Item = Arc<ModelInput>;

    fn query(&self, query: &str) -> Result<Self::Item, TrainError> {
        Ok(Arc::new(self.model.query_input(&[query])?))
    }

    fn page(&self, page: &PageId) -> Result<Self::Item, TrainError> {
        if let Some(vision) = &self.vision {
            return Ok(Arc::new(self.merged(vision, page)?));
        }
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
