//! What can go wrong in training: what was done, what was expected and what was received.

use std::path::{Path, PathBuf};

use colqwen_index_ingest::encoder::EncoderError;

/// An error of training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Numbers that do not fit together.
    #[error("{what}: expected {expected}, received {received}")]
    Shape {
        /// What has the wrong shape.
        what: &'static str,
        /// The shape that would have fitted.
        expected: String,
        /// The shape given.
        received: String,
    },
    /// A query of a batch without exactly one positive.
    #[error("query {query} of the batch has {received} positive pages, expected exactly one")]
    Positives {
        /// Its row.
        query: usize,
        /// `none` or `several`.
        received: &'static str,
    },
    /// A batch that nothing can be learnt from.
    #[error(
        "a batch of {queries} queries has no negative page; expected at least two queries with different pages, or mined negatives"
    )]
    NoNegatives {
        /// Queries in the batch.
        queries: usize,
    },
    /// A setting outside of its range.
    #[error("{name}: expected {expected}, received {received}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What would have been accepted.
        expected: &'static str,
        /// What was given.
        received: String,
    },
    /// The thread that a step runs on could not be started.
    #[error("cannot start the training thread: {source}")]
    Thread {
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not the JSON that was expected.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A state that a training cannot go on from.
    #[error("{}: cannot go on from this training state: {problem}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// Something of the training data is not where it should be.
    #[error("{what} is not in {place}{hint}")]
    Missing {
        /// The query or page.
        what: String,
        /// Where it was looked for.
        place: String,
        /// What to do about it, or nothing.
        hint: &'static str,
    },
    /// A click log, or something that belongs to it, that cannot be used.
    #[error("{}: {problem}", path.display())]
    Clicks {
        /// The file.
        path: PathBuf,
        /// Why not, with the line where there is one.
        problem: String,
    },
    /// A Parquet file could not be read or written.
    #[error("{0}")]
    Data(#[from] crate::data::DataError),
    /// The plot could not be drawn.
    #[error("cannot draw the plot: {problem}")]
    Plot {
        /// What the plotting library said.
        problem: String,
    },
    /// A query or page could not be made ready for the model.
    #[error("{what}: {source}")]
    Source {
        /// The query or page.
        what: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The model could not be put together, or refuses an item.
    #[error("{0}")]
    Model(#[from] EncoderError),
    /// The tensor library failed.
    #[error("tensor computation: {0}")]
    Compute(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Json { path, source }
    }

    pub(crate) fn state(path: &Path, problem: impl ToString) -> Self {
        Self::State { path: path.to_owned(), problem: problem.to_string() }
    }

    pub(crate) fn shape(what: &'static str, expected: impl Into<String>, received: impl ToString) -> Self {
        Self::Shape { what, expected: expected.into(), received: received.to_string() }
    }

    pub(crate) fn setting(name: &'static str, expected: &'static str, received: impl ToString) -> Self {
        Self::Setting { name, expected, received: received.to_string() }
    }
}
