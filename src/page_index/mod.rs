//! A folder that holds pages of documents: vectors, text and where they come from.
//!
//! ```text
//! DIR/current                    which generation is in use, and which model made its pages
//! DIR/generations/000001/        the tantivy index, and what `current` says while it is in use
//! DIR/embeddings/00000001.parquet  the token embeddings as they were encoded, part by part
//! DIR/generations/000002/embeddings/  those of a later generation, of another model
//! DIR/hidden/00000001.parquet      what the vectors were made of, where it is kept, for training the projection
//! ```
//! An application with a tantivy index of its own uses [`LateInteraction`] and needs none of this.

mod export;
pub(crate) mod fields;
mod generations;
mod import;
mod inspect;
mod lease;
mod next_generation;
mod optimize;
mod pointer;
mod search;
#[cfg(feature = "encode")]
mod sources;
mod stored;
mod writer;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use colqwen_index_field::{LateInteraction, LateInteractionOptions, Origin, Precision};
use colqwen_index_ingest::embeddings::FurtherColumn;
use colqwen_index_ingest::pooling::PoolFactor;
use tantivy::index::IndexSettings;
use tantivy::{Index, IndexReader, Searcher};

use crate::Error;

pub use colqwen_index_field::Effort;
pub use fields::PageFields;
#[cfg(feature = "train")]
pub(crate) use generations::names_in;
pub use generations::{GenerationInfo, KeepGenerations, Published, RolledBack};
pub use import::ImportReport;
pub use inspect::{Inspection, PageSource, StoredPage};
pub use next_generation::{BuildOptions, EncodePages, LostPages, NextGeneration, PageToEncode};
pub use pointer::RecordedModel;
pub use search::{Answer, Hit, Mode, SearchRequest, UNTRAINED_LATE_WEIGHT};
#[cfg(feature = "encode")]
pub use sources::SourcePages;
pub use stored::StoredText;
pub use writer::PageIndexWriter;

use lease::LeasedDirectory;
use pointer::Pointer;

/// How often an index is opened again whose generation is replaced and removed meanwhile,
const OPEN_ATTEMPTS: usize = 50;
/// and how long to wait in between.
const OPEN_WAIT: Duration = Duration::from_millis(10);

/// The folder of the token embeddings within a page index.
const EMBEDDINGS_FOLDER: &str = "embeddings";
/// That of the hidden states.
const HIDDEN_FOLDER: &str = "hidden";

/// What is fixed when a page index is created.
#[derive(Clone, Debug)]
pub struct PageIndexOptions {
    /// Values per token.
    pub dim: usize,
    /// How vectors are stored.
    pub precision: Precision,
    /// Whether an f16 copy stands beside codes.
    pub keep_f16: bool,
    /// The model that makes the pages, where it is known and can be loaded again.
    pub model: Option<RecordedModel>,
    /// Fields beyond those that every page index has.
    pub further: Vec<FurtherColumn>,
}

impl PageIndexOptions {
    /// Pages of `dim` values per token in 8 bits, of an unknown model, without further fields.
    pub fn new(dim: usize) -> Self {
        Self { dim, precision: Precision::Bits8, keep_f16: false, model: None, further: Vec::new() }
    }
}

/// A page index, open for reading; [`PageIndex::writer`] opens it for writing.
pub struct PageIndex {
    folder: PathBuf,
    pointer: Pointer,
    handle: LateInteraction,
    index: Index,
    reader: IndexReader,
    fields: PageFields,
}

impl PageIndex {
    /// Creates a page index in a folder that has none; the folder is made if need be.
    ///
    /// # Errors
    /// The folder holds an index, cannot be written to, or a further column has the name of another field.
    pub fn create(folder: impl AsRef<Path>, options: &PageIndexOptions) -> Result<Self, Error> {
        let folder = folder.as_ref();
        if Pointer::read(folder)?.is_some() {
            return Err(Error::IndexExists { path: folder.to_owned() });
        }
        let pointer = Pointer {
            generation: 1,
            dim: options.dim,
            model: options.model.clone(),
            columns: options.further.clone(),
            pool_factor: None,
            pages_of: None,
            created: Some(seconds_now()),
            previous: None,
        };
        let field_options =
            LateInteractionOptions::new(options.dim).with_precision(options.precision).with_f16_kept(options.keep_f16);
        let (schema, fields) = PageFields::create(&field_options, &options.further)?;
        let generation = generation_folder(folder, pointer.generation);
        // Without a pointer a generation is what an interrupted creation left behind.
        if generation.exists() {
            fs::remove_dir_all(&generation).map_err(Error::io(&generation, "remove what an interrupted run left"))?;
        }
        let handle = LateInteraction::new();
        let index = handle.create(LeasedDirectory::create(&generation)?, schema, IndexSettings::default())?;
        pointer.write(folder)?;
        let reader = handle.reader(&index)?;
        Ok(Self { folder: folder.to_owned(), pointer, handle, index, reader, fields })
    }

    /// Opens the page index in a folder.
    ///
    /// # Errors
    /// There is none, or a file of it is damaged or of another version.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let mut attempt = 1;
        loop {
            let Some(pointer) = Pointer::read(folder)? else {
                return Err(Error::NoIndex { path: folder.to_owned() });
            };
            let pages = generation_folder(folder, pointer.pages_generation());
            match LeasedDirectory::open(&pages)? {
                Some(directory) => return Self::open_generation(folder, pointer, directory),
                // It was replaced and removed after the pointer was read: read it again.
                None if attempt < OPEN_ATTEMPTS => sleep(OPEN_WAIT),
                None => {
                    let cause = std::io::Error::from(std::io::ErrorKind::NotFound);
                    return Err(Error::Io { path: pages, action: "open the generation in use", cause });
                }
            }
            attempt += 1;
        }
    }

    fn open_generation(folder: &Path, pointer: Pointer, directory: LeasedDirectory) -> Result<Self, Error> {
        let handle = LateInteraction::new();
        let index = handle.open(directory)?;
        let fields = PageFields::of(&index.schema(), &pointer.columns)?;
        let reader = handle.reader(&index)?;
        Ok(Self { folder: folder.to_owned(), pointer, handle, index, reader, fields })
    }

    /// Whether a folder holds a page index.
    pub fn exists(folder: impl AsRef<Path>) -> Result<bool, Error> {
        Ok(Pointer::read(folder.as_ref())?.is_some())
    }

    /// Moves on to the last commit and, if the pointer was replaced, to its generation. Searchers that were taken before keep
    /// theirs, with its model, until they are dropped; take a new one, and encode queries with [`model`](Self::model).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn reload(&mut self) -> Result<(), Error> {
        if Pointer::read(&self.folder)?.as_ref() == Some(&self.pointer) {
            return Ok(self.handle.reload(&self.reader)?);
        }
        *self = Self::open(&self.folder)?;
        Ok(())
    }

    /// The number of the index's generation in use.
    pub fn generation(&self) -> u32 {
        self.pointer.generation
    }

    /// A snapshot of the last commit that was loaded.
    pub fn searcher(&self) -> Searcher {
        self.reader.searcher()
    }

    /// The folder of the index.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of the embeddings, part by part: those of the model in use.
    pub fn embeddings_folder(&self) -> PathBuf {
        embeddings_folder(&self.folder, self.pointer.pages_generation())
    }

    /// The folder of the hidden states that were kept, part by part, of whatever models made them.
    pub fn hidden_folder(&self) -> PathBuf {
        self.folder.join(HIDDEN_FOLDER)
    }

    /// The late-interaction handle of the index.
    pub fn late_interaction(&self) -> &LateInteraction {
        &self.handle
    }

    /// The tantivy index.
    pub fn tantivy_index(&self) -> &Index {
        &self.index
    }

    /// The fields of the index.
    pub fn fields(&self) -> &PageFields {
        &self.fields
    }

    /// Values per token.
    pub fn dim(&self) -> usize {
        self.pointer.dim
    }

    /// How vectors are stored.
    ///
    /// # Errors
    /// The field's options in the schema cannot be read.
    pub fn precision(&self) -> Result<Precision, Error> {
        Ok(LateInteractionOptions::of(&self.index.schema(), self.fields.tokens)?.precision())
    }

    /// The model that made the pages, where it was recorded.
    pub fn model(&self) -> Option<&RecordedModel> {
        self.pointer.model.as_ref()
    }

    /// The model that the stored pages belong to.
    ///
    /// # Errors
    /// The index's handle is not usable.
    pub fn origin(&self) -> Result<Origin, Error> {
        let stored = self.handle.model(self.fields.tokens)?;
        Ok(stored.or(self.model().map(|model| model.page_fingerprint)).into())
    }

    /// Records the model that made the pages, for later searches by text.
    ///
    /// # Errors
    /// The pages belong to another model, or the pointer cannot be replaced.
    pub fn record_model(&mut self, model: RecordedModel) -> Result<(), Error> {
        self.check_model(model.page_fingerprint)?;
        if self.pointer.model.as_ref() != Some(&model) {
            self.pointer.model = Some(model);
            self.pointer.write(&self.folder)?;
        }
        Ok(())
    }

    /// By which factor indexing pools the tokens of pages unless told otherwise: that of the last run that pooled or was
    /// told to, or of the first pooled file imported. Pages may have others.
    pub fn pool_factor(&self) -> PoolFactor {
        self.pointer.pool_factor.unwrap_or_default()
    }

    /// Records the factor that later runs pool by.
    pub(crate) fn record_pool_factor(&mut self, factor: PoolFactor) -> Result<(), Error> {
        // An index that never pooled says nothing of pooling.
        if self.pool_factor() != factor {
            self.pointer.pool_factor = Some(factor);
            self.pointer.write(&self.folder)?;
        }
        Ok(())
    }

    /// Whether any page can have been pooled by this program.
    pub(crate) fn has_pooled(&self) -> bool {
        self.pointer.pool_factor.is_some()
    }

    /// Refuses a model whose queries are for other pages than these.
    ///
    /// # Errors
    /// The pages are known to belong to another model.
    pub fn check_model(&self, serves_pages_of: colqwen_index_field::Fingerprint) -> Result<(), Error> {
        match self.origin()? {
            Origin::Model(expected) if expected != serves_pages_of => Err(Error::OtherModel {
                index: self.folder.clone(),
                expected,
                recorded: self.model().map(|model| format!(" ({})", model.name)).unwrap_or_default(),
                received: serves_pages_of,
            }),
            _ => Ok(()),
        }
    }
}

fn generation_folder(folder: &Path, generation: u32) -> PathBuf {
    folder.join("generations").join(format!("{generation:06}"))
}

/// Where the embeddings of a generation's pages are kept. The first generation's stand beside it, as they did before there were
/// others.
fn embeddings_folder(folder: &Path, generation: u32) -> PathBuf {
    match generation {
        1 => folder.join(EMBEDDINGS_FOLDER),
        _ => generation_folder(folder, generation).join(EMBEDDINGS_FOLDER),
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
