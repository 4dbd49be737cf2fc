//! Which model a command uses.

use colqwen_index::ingest::builtin;
use colqwen_index::ingest::encoder::Encoder;
use colqwen_index::model::Model;
use colqwen_index::{Error, PageIndex};

/// What to say when the weights were never trained.
pub const UNTRAINED: &str = "note: the weights of this model were never trained, so it finds nothing by itself; \
    hybrid search then ranks by the text of the pages.";

/// The model to search an index with: the given one, or the one it records.
pub fn for_search(index: &PageIndex, given: Option<&str>) -> anyhow::Result<Box<dyn Encoder>> {
    let name = match (given, index.model()) {
        (Some(name), _) => name,
        (None, Some(recorded)) => &recorded.name,
        (None, None) => {
            return Err(Error::NoModel { index: index.folder().to_owned(), origin: index.origin()? }.into());
        }
    };
    let model = Model::load(name, "cpu")?;
    index.check_model(model.encoder.serves_pages_of())?;
    Ok(model.encoder)
}

/// The name of the model to make pages with: the given one, the one an index records, or `builtin`.
pub fn name_for_pages(index: Option<&PageIndex>, given: Option<String>) -> String {
    let recorded = index.and_then(PageIndex::model).map(|model| model.name.clone());
    given.or(recorded).unwrap_or_else(|| builtin::NAME.to_owned())
}
