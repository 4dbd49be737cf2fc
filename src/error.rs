//! What can go wrong with a page index.

use std::io;
use std::path::{Path, PathBuf};

use colqwen_index_field::{Fingerprint, Origin};
use tantivy::TantivyError;

/// An error of the facade.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The late-interaction field refused something.
    #[error(transparent)]
    Field(#[from] colqwen_index_field::Error),
    /// A Parquet file could not be read or written.
    #[error(transparent)]
    Embeddings(#[from] colqwen_index_ingest::embeddings::Error),
    /// The model failed.
    #[cfg(feature = "encode")]
    #[error(transparent)]
    Encoder(#[from] colqwen_index_ingest::encoder::EncoderError),
    /// A page that the model refuses.
    #[cfg(feature = "encode")]
    #[error("{path:?}, page {page}: {cause}")]
    NotEncoded {
        /// The file.
        path: PathBuf,
        /// The page, from 1.
        page: u32,
        /// What the model says.
        cause: colqwen_index_ingest::encoder::EncoderError,
    },
    /// A page that cannot be pooled.
    #[cfg(feature = "encode")]
    #[error("{path:?}, page {page}: {cause}")]
    NotPooled {
        /// The file.
        path: PathBuf,
        /// The page, from 1.
        page: u32,
        /// Why not.
        cause: colqwen_index_ingest::pooling::PoolingError,
    },
    /// Hidden states are to be kept of a model that has none.
    #[cfg(feature = "encode")]
    #[error("the model {model} has no hidden states to keep: expected one with a projection, such as a ColQwen2")]
    NoHiddenStates {
        /// Its name.
        model: String,
    },
    /// Something that this build leaves out.
    #[cfg(feature = "encode")]
    #[error("this program was built without {wanted}: build it with the feature {feature:?}")]
    BuiltWithout {
        /// What was asked for.
        wanted: &'static str,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
    /// A PDF or picture could not be read.
    #[cfg(feature = "encode")]
    #[error(transparent)]
    Page(#[from] colqwen_index_ingest::page::PageError),
    /// Training failed.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Train(#[from] colqwen_index_train::Error),
    /// Training data name a page that is not there.
    #[cfg(feature = "train")]
    #[error("page {page} of the training data is not found: {problem}")]
    PageMissing {
        /// The page.
        page: colqwen_index_train::data::PageId,
        /// Where it was looked for.
        problem: String,
    },
    /// The record of a run of `train-from-clicks` cannot be understood.
    #[cfg(feature = "train")]
    #[error("{path:?}: {problem}")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Tantivy failed.
    #[error(transparent)]
    Tantivy(#[from] TantivyError),
    /// The operating system refused.
    #[error("{path:?}: cannot {action}: {cause}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        cause: io::Error,
    },
    /// No page index in a folder.
    #[error("{path:?} holds no page index; make one with `colqwen-index index` or `colqwen-index import`")]
    NoIndex {
        /// The folder.
        path: PathBuf,
    },
    /// A page index where none was expected.
    #[error("{path:?} holds a page index already; open it instead")]
    IndexExists {
        /// The folder.
        path: PathBuf,
    },
    /// A pointer file that cannot be used.
    #[error("{path:?} is damaged: {problem}")]
    Pointer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A pointer file of another version.
    #[error(
        "{path:?} has version {received}, this build reads versions up to {expected}; use the release that wrote it"
    )]
    PointerVersion {
        /// The file.
        path: PathBuf,
        /// Version of the file.
        received: u64,
        /// The newest version that this build reads.
        expected: u64,
    },
    /// A column whose name the index needs for itself.
    #[error("column {column:?} has the name of a field that every page index has; rename the column")]
    ReservedColumn {
        /// Column name.
        column: String,
    },
    /// A column that the index was not created with.
    #[error(
        "column {column:?} ({received}) is not a field of this index ({expected}); fields are fixed when an index is \
         created, so import into a new one, or leave the column out"
    )]
    OtherColumn {
        /// Column name.
        column: String,
        /// What the file has.
        received: String,
        /// What the index has.
        expected: String,
    },
    /// A time that the index cannot hold.
    #[error(
        "column {column:?} of {doc_id:?} page {page}: {micros} microseconds since 1970 lie outside of the years 1677 to \
         2262, which an index can hold; leave such a time out (null)"
    )]
    Time {
        /// Column name.
        column: String,
        /// The document.
        doc_id: String,
        /// The page.
        page: u32,
        /// The time.
        micros: i64,
    },
    /// Vectors of another dimension.
    #[error("{what} has vectors of dim {received}, the index {index:?} of dim {expected}")]
    Dim {
        /// The file or model.
        what: String,
        /// Its dimension.
        received: usize,
        /// The folder of the index.
        index: PathBuf,
        /// The dimension of the index.
        expected: usize,
    },
    /// A model that did not make the index's pages.
    #[error(
        "the pages of {index:?} were made by model {expected}{recorded}, the given model serves pages of {received}; \
         search with the index's own model, or make a new index (a model of the same name can be another one: `builtin` in \
         another version of this program, or a folder whose files have changed)"
    )]
    OtherModel {
        /// The folder of the index.
        index: PathBuf,
        /// Fingerprint of the pages.
        expected: Fingerprint,
        /// The name under which the index recorded its model, for people.
        recorded: String,
        /// Pages that the given model serves.
        received: Fingerprint,
    },
    /// A text query without a model.
    #[error(
        "{index:?} holds pages of model {origin} and records no model to encode a text query with; name it with --model"
    )]
    NoModel {
        /// The folder of the index.
        index: PathBuf,
        /// Model of the pages.
        origin: Origin,
    },
    /// A filter that is no tantivy query.
    #[error(
        "filter {filter:?} is not understood: {problem}; expected a tantivy query such as `doc_id:report.pdf` or `year:[2020 TO 2024]`"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// What tantivy says.
        problem: String,
    },
    /// Two arguments that give two files the same id.
    #[error("{first:?} and {second:?} would both be stored as {doc_id:?}; index one of them under another folder")]
    SameDocument {
        /// The id.
        doc_id: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Arguments without anything to index.
    #[error("no PDF or page image was found in {paths:?}")]
    NothingToIndex {
        /// The arguments.
        paths: Vec<PathBuf>,
    },
    /// Another process writes to the index.
    #[error("{path:?} is being written to by another process; try again when it is done")]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// Another run of `train-from-clicks` is at work.
    #[error("another train-from-clicks is at work on {path:?}; try again when it is done")]
    RunUnderWay {
        /// The index.
        path: PathBuf,
    },
    /// Another generation came into use while a model was compared with the one before.
    #[error(
        "generation {current} of {path:?} came into use meanwhile, the new model was compared with generation {compared}; run again"
    )]
    NotCompared {
        /// The index.
        path: PathBuf,
        /// The generation in use now.
        current: u32,
        /// The one that the new model was compared with.
        compared: u32,
    },
    /// Another generation is in use than the one that is open.
    #[error("{path:?} is open at generation {opened}, and generation {current} is in use now; call `reload` first")]
    OtherGeneration {
        /// The folder.
        path: PathBuf,
        /// The generation that is open.
        opened: u32,
        /// The one in use.
        current: u32,
    },
    /// A generation that is not kept.
    #[error(
        "{path:?} has no generation {} to go back to; it keeps {kept:?}",
        .to.map_or("before this one".to_owned(), |to| to.to_string())
    )]
    GenerationGone {
        /// The folder.
        path: PathBuf,
        /// The generation that was asked for; the previous one if none was named.
        to: Option<u32>,
        /// Those that are kept.
        kept: Vec<u32>,
    },
    /// A generation that is in use already.
    #[error("generation {generation} of {path:?} is the one in use")]
    GenerationInUse {
        /// The folder.
        path: PathBuf,
        /// The generation.
        generation: u32,
    },
    /// A generation is being built already.
    #[error("the next generation of {path:?} is being built by another process; wait for it, or end it")]
    BeingBuilt {
        /// The folder.
        path: PathBuf,
    },
    /// Not enough room on the disk.
    #[error("{path:?} has {available} bytes free, {needed} are needed for {what}; make room, or use another disk")]
    DiskSpace {
        /// The folder.
        path: PathBuf,
        /// What needs the room.
        what: &'static str,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        available: u64,
    },
    /// A page of the index that gets no new vectors.
    #[error(
        "page {page} of {doc_id:?} cannot be encoded again: {problem}; nothing was published (pages can be left out)"
    )]
    PageLost {
        /// The document.
        doc_id: String,
        /// The page.
        page: u32,
        /// Why not.
        problem: String,
    },
    /// New vectors that are not what was announced.
    #[error("{what}: received {received}, expected {expected}")]
    NewVectors {
        /// What is wrong.
        what: &'static str,
        /// What was given.
        received: String,
        /// What the new generation takes.
        expected: String,
    },
    /// A model of two parts where one checkpoint is wanted.
    #[cfg(feature = "encode")]
    #[error("{path:?} is a model of two parts; name one of them, its folder page or query")]
    TwoParts {
        /// The folder.
        path: PathBuf,
    },
    /// What was shown cannot be logged.
    #[error("an impression to log: {field} is to be {expected}, received {received}")]
    Impression {
        /// The field.
        field: &'static str,
        /// What it is to be.
        expected: &'static str,
        /// What it is.
        received: String,
    },
    /// A click on rank 0.
    #[error("ranks count from 1, received a click on rank 0")]
    ClickRank,
    /// Files that cannot stand in one index.
    #[error("{path:?} holds pages of model {received}, an earlier file pages of {expected}; use one model per index")]
    MixedModels {
        /// The later file.
        path: PathBuf,
        /// Model of the earlier file.
        expected: Fingerprint,
        /// Model of this file.
        received: Fingerprint,
    },
    /// Work was interrupted by the user; everything finished is kept.
    #[error("interrupted; what was finished is kept, run the same command again to go on")]
    Interrupted,
}

impl Error {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { path: path.to_owned(), action, cause }
    }
}
