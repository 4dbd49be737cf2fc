//! Training of the whole network, or of low-rank updates of it: pages go through it at every step.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_ingest::page::Document;
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::constant::Constants;
use colqwen_index_train::data::{PageId, TrainingData};
use colqwen_index_train::network::{Network, NetworkOptions, Trained};
use colqwen_index_train::trainer::{Ending, Source};
use colqwen_index_train::watch::{StepRecord, Verdict};
use serde_json::json;

use super::{CacheReport, TrainOptions, TrainOutcome, open_documents, run};
use crate::Error;

/// Tokens that a page has besides its patches, at most: those of the prompt.
const PROMPT: usize = 32;

/// Trains what `trained` names of `model` on `data`, whose pages are in the files under `paths`, and writes everything to `out`:
/// the log, the state, a plot, and at the end `model/`, a whole checkpoint with what was learnt merged, and for low-rank
/// updates also `adapter/`, as peft reads it. `base` is what the adapter names as the weights that it belongs to.
///
/// # Errors
/// A page is not found, a setting lies outside of its range, the model looks at pages in tiles, not one page fits into the
/// memory given, `out` holds a trained model already, there is nothing to resume, or the disk is full.
#[expect(clippy::too_many_arguments, reason = "what a training takes, each of another kind")]
pub fn train_network(
    model: &ColQwen2,
    base: &str,
    data: &TrainingData,
    paths: &[PathBuf],
    out: &Path,
    options: &TrainOptions,
    trained: Trained,
    observe: impl FnMut(&StepRecord, Option<&Verdict>) -> ControlFlow<()>,
) -> Result<TrainOutcome, Error> {
    if model.preprocessor().tiling().is_some() {
        let (what, expected) = ("what is trained of a model that looks at pages in tiles", "its projection");
        return Err(TrainError::Setting { name: what, expected, received: trained.to_string() }.into());
    }
    let saved = run::new_model(out)?;
    let batches = options.batches(data)?;
    let source = PageSource::new(model, data, paths, options.memory / 4)?;
    let network = Network::new(model, trained, NetworkOptions { seed: options.seed, ..NetworkOptions::default() })?;
    let mini_batch = match options.mini_batch {
        Some(given) => given,
        None => {
            let visual = model.page_budget().max_visual_tokens() as usize;
            let merged = network.config().vision.merge_size.pow(2);
            let footprint = network.footprint(visual * merged, visual + PROMPT);
            let pages = options.batch * (1 + options.negatives);
            footprint.mini_batch((options.memory - options.memory / 4) as u64, pages, visual + PROMPT, model.dim())?
        }
    };
    let begins = json!({"network": network.trained().to_string(), "seed": options.seed});
    let (ending, steps) = run::run(
        model,
        &network,
        &source,
        (data, &batches),
        Constants::default(),
        out,
        options,
        mini_batch,
        &begins,
        observe,
    )?;
    let model = match ending {
        Ending::Stopped => None,
        Ending::Complete => {
            let adapter = out.join("adapter");
            if matches!(network.trained(), Trained::Lora(_)) && !adapter.exists() {
                network.save_adapter(model, base, &adapter)?;
            }
            network.save_merged(model, &saved)?;
            Some(saved)
        }
    };
    Ok(TrainOutcome { ending, caches: CacheReport::default(), steps, looks: Vec::new(), model })
}

/// Pages from their files, rendered when a batch wants them.
struct PageSource<'m> {
    model: &'m ColQwen2,
    documents: Vec<Document>,
    /// The document of each page that the data name.
    places: HashMap<PageId, usize>,
    /// Pages that were rendered already, as far as there is room.
    inputs: RefCell<HashMap<PageId, Arc<ModelInput>>>,
    room: Cell<usize>,
}

impl<'m> PageSource<'m> {
    fn new(model: &'m ColQwen2, data: &TrainingData, paths: &[PathBuf], room: usize) -> Result<Self, Error> {
        let (mut documents, mut places) = (Vec::new(), HashMap::new());
        for (document, pages) in open_documents(paths, &data.pages())? {
            places.extend(pages.into_iter().map(|page| (page, documents.len())));
            documents.push(document);
        }
        Ok(Self { model, documents, places, inputs: RefCell::default(), room: Cell::new(room) })
    }

    fn render(&self, page: &PageId) -> Result<ModelInput, Error> {
        let missing = || Error::PageMissing { page: page.clone(), problem: "the data do not name it".to_owned() };
        let document = self.places.get(page).map(|at| &self.documents[*at]).ok_or_else(missing)?;
        let image = document.page(page.page, &self.model.page_budget())?.image;
        Ok(self.model.page_input(&[image])?)
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
        let bytes = input.pixel_values.as_ref().map_or(0, |pixels| pixels.elem_count() * 4);
        if let Some(left) = self.room.get().checked_sub(bytes) {
            self.room.set(left);
            self.inputs.borrow_mut().insert(page.clone(), Arc::clone(&input));
        }
        Ok(input)
    }
}
