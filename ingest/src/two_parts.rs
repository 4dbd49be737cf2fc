//! A model of two parts: `page/` encodes pages, `query/` encodes queries for them.
//!
//! Training on the query side leaves the vectors of all pages valid. Its result is such a folder: `page/` as it was, and `query/`, a
//! checkpoint or a peft adapter whose `colqwen_index.json` says by `serves_pages_of` whose pages its queries are for.

use std::fs;
use std::path::{Path, PathBuf};

use colqwen_index_field::{Fingerprint, MultiVector, PageVectors, QueryVectors};
use image::RgbImage;
use serde_json::Value;

use crate::colqwen2::HiddenStates;
use crate::colqwen2::{ADAPTER_CONFIG, CONFIG_FILE, ColQwen2, LoadOptions, SETTINGS_FILE};
use crate::encoder::{Backbone, Encoder, EncoderError};
use crate::page::PixelBudget;
use crate::whole_folder;

/// The folder of the part that encodes pages.
pub const PAGE: &str = "page";
/// The folder of the part that encodes queries.
pub const QUERY: &str = "query";

/// Both parts, loaded. As an [`Encoder`] it makes the pages of the one and the queries of the other.
pub struct TwoParts {
    /// Encodes pages.
    pub page: ColQwen2,
    /// Encodes queries for them.
    pub query: ColQwen2,
}

impl TwoParts {
    /// Whether a folder holds a model of two parts, complete or not.
    pub fn is_folder(dir: &Path) -> bool {
        let has_part = [PAGE, QUERY].iter().any(|part| dir.join(part).is_dir());
        has_part && ![CONFIG_FILE, ADAPTER_CONFIG].iter().any(|file| dir.join(file).exists())
    }

    /// Loads both parts. A base that `options` name is that of `page/`.
    ///
    /// # Errors
    /// [`EncoderError::Part`]: a part cannot be loaded, or the queries are not for vectors as `page/` makes them.
    pub fn load(dir: &Path, options: &LoadOptions) -> Result<Self, EncoderError> {
        let part = |part: &'static str| {
            move |source| EncoderError::Part { dir: dir.to_owned(), part, source: Box::new(source) }
        };
        let page = ColQwen2::load(&dir.join(PAGE), options).map_err(part(PAGE))?;
        let query_options = LoadOptions { base: None, ..options.clone() };
        let query = ColQwen2::load(&dir.join(QUERY), &query_options).map_err(part(QUERY))?;
        let (expected, received) = (page.page_fingerprint(), query.serves_pages_of());
        if expected != received {
            return Err(part(QUERY)(EncoderError::OtherPages { expected, received }));
        }
        if page.dim() != query.dim() {
            let (expected, received) = (page.dim().to_string(), query.dim().to_string());
            return Err(part(QUERY)(EncoderError::Input { what: "values per token", expected, received }));
        }
        Ok(Self { page, query })
    }

    /// Writes a model of two parts to the new folder `dir`: `page/` holds the files of `page`, byte for byte, and `query/` those of
    /// the folder `query`, a checkpoint or an adapter, which is marked as serving the pages of `page`. The base of an adapter
    /// is then `page/`, so `page` has to be the model that it was trained on.
    ///
    /// # Errors
    /// `dir` exists, a file cannot be read or written, or `query` is an adapter and `page` has one already: merge the new one
    /// into the weights then.
    pub fn write(page: &ColQwen2, query: &Path, dir: &Path) -> Result<(), EncoderError> {
        let is_adapter = query.join(ADAPTER_CONFIG).exists();
        if is_adapter && page.has_adapter() {
            return Err(EncoderError::Input {
                what: "queries",
                expected: "a whole checkpoint, as the pages' model is an adapter itself".to_owned(),
                received: format!("an adapter in {}", query.display()),
            });
        }
        whole_folder::write(dir, |draft| {
            let (pages, queries) = (draft.join(PAGE), draft.join(QUERY));
            page.copy_files(&pages)?;
            copy_folder(query, &queries)?;
            let (settings, of_base) = (queries.join(SETTINGS_FILE), pages.join(SETTINGS_FILE));
            // An adapter without settings has those of its base, and is to keep them beside the new one.
            if is_adapter && !settings.exists() && of_base.exists() {
                fs::copy(&of_base, &settings).map_err(EncoderError::io(&of_base))?;
            }
            set(&settings, "serves_pages_of", page.page_fingerprint().to_string())?;
            match is_adapter {
                true => set(&queries.join(ADAPTER_CONFIG), "base_model_name_or_path", format!("../{PAGE}")),
                false => Ok(()),
            }
        })
    }
}

/// Sets one text of a JSON object in a file, which is made if need be.
pub(crate) fn set(path: &Path, name: &str, text: String) -> Result<(), EncoderError> {
    let mut object = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(EncoderError::json(path))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => serde_json::json!({}),
        Err(error) => return Err(EncoderError::io(path)(error)),
    };
    if let Value::Object(fields) = &mut object {
        fields.insert(name.to_owned(), text.into());
    }
    fs::write(path, format!("{object:#}\n")).map_err(EncoderError::io(path))
}

/// Copies the files of a folder, without folders in it.
fn copy_folder(from: &Path, to: &Path) -> Result<(), EncoderError> {
    fs::create_dir_all(to).map_err(EncoderError::io(to))?;
    for entry in fs::read_dir(from).map_err(EncoderError::io(from))? {
        let entry = entry.map_err(EncoderError::io(from))?;
        let path: PathBuf = entry.path();
        if path.is_file() {
            fs::copy(&path, to.join(entry.file_name())).map_err(EncoderError::io(&path))?;
        }
    }
    Ok(())
}

impl Encoder for TwoParts {
    fn dim(&self) -> usize {
        self.page.dim()
    }

    fn page_fingerprint(&self) -> Fingerprint {
        self.page.page_fingerprint()
    }

    fn query_fingerprint(&self) -> Fingerprint {
        self.query.query_fingerprint()
    }

    fn serves_pages_of(&self) -> Fingerprint {
        self.query.serves_pages_of()
    }

    fn query_format(&self) -> &str {
        self.query.query_format()
    }

    fn page_budget(&self) -> PixelBudget {
        self.page.page_budget()
    }

    fn pages_at_once(&self) -> usize {
        self.page.pages_at_once()
    }

    fn is_trained(&self) -> bool {
        self.page.is_trained() && self.query.is_trained()
    }

    fn encode_pages(&self, pages: &[RgbImage]) -> Result<Vec<PageVectors>, EncoderError> {
        self.page.encode_pages(pages)
    }

    fn backbone(&self) -> Option<Backbone> {
        self.page.backbone()
    }

    fn encode_pages_with_states(
        &self,
        pages: &[RgbImage],
    ) -> Result<Vec<(PageVectors, Option<HiddenStates>)>, EncoderError> {
        self.page.encode_pages_with_states(pages)
    }

    fn project(&self, states: &HiddenStates) -> Result<MultiVector, EncoderError> {
        self.page.project(states)
    }

    fn encode_queries(&self, queries: &[&str]) -> Result<Vec<QueryVectors>, EncoderError> {
        self.query.encode_queries(queries)
    }
}
