//! What can be wrong with a file of embeddings: which file, column and row, what was expected and received.

use std::io;
use std::path::{Path, PathBuf};

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

/// An error with the file it belongs to. Its text is one line and includes the cause.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct Error {
    path: PathBuf,
    problem: Box<Problem>,
}

impl Error {
    pub(super) fn new(path: &Path, problem: impl Into<Problem>) -> Self {
        Self { path: path.to_owned(), problem: Box::new(problem.into()) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

/// What is wrong with a file of embeddings. Rows are counted from 0.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The operating system refused.
    #[error("cannot {action}: {cause}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        cause: io::Error,
    },
    /// The footer could not be read: not Parquet, or cut off.
    #[error("not a complete Parquet file: {cause}")]
    NotParquet {
        /// What the Parquet reader said.
        cause: ParquetError,
    },
    /// The rows from `row` on could not be read.
    #[error("rows from {row} on cannot be read: {cause}")]
    Unreadable {
        /// The first row that is lost.
        row: u64,
        /// What the Parquet reader said.
        cause: ArrowError,
    },
    /// Rows could not be encoded or written.
    #[error("cannot write rows: {cause}")]
    Unwritable {
        /// What the Parquet writer said.
        cause: ParquetError,
    },
    /// Arrow refused arrays or a conversion.
    #[error("{0}")]
    Arrow(#[from] ArrowError),
    /// A column that the format requires.
    #[error("column {column:?} is missing: expected {expected}; the file has {received}")]
    MissingColumn {
        /// Its name.
        column: &'static str,
        /// The type it should have.
        expected: &'static str,
        /// The columns that are there.
        received: String,
    },
    /// Two columns of one name.
    #[error("column {column:?} appears twice; names of columns are expected to differ")]
    RepeatedColumn {
        /// Its name.
        column: String,
    },
    /// A name that the page index needs for itself.
    #[error("column {column:?} has a name that the page index keeps for itself; rename it")]
    ReservedColumn {
        /// Its name.
        column: String,
    },
    /// A column of another type.
    #[error("column {column:?} has type {received}, expected {expected}")]
    ColumnType {
        /// Its name.
        column: String,
        /// The types that are accepted.
        expected: &'static str,
        /// The type in the file.
        received: String,
    },
    /// A file of a version that this program does not know.
    #[error("format version {received:?} is unknown, expected {expected:?}; a newer colqwen-index may read it")]
    Version {
        /// The versions that can be read.
        expected: &'static str,
        /// The version in the file.
        received: String,
    },
    /// A metadata value that cannot be right.
    #[error("metadata {key:?}: expected {expected}, received {received:?}")]
    Metadata {
        /// The metadata key.
        key: &'static str,
        /// What it should hold.
        expected: String,
        /// What it holds.
        received: String,
    },
    /// One cell that cannot be right.
    #[error("row {row}, column {column:?}: expected {expected}, received {received}")]
    Cell {
        /// Row, from 0.
        row: u64,
        /// Column name.
        column: String,
        /// What it should hold.
        expected: String,
        /// What it holds.
        received: String,
    },
    /// Vectors or a layout that the index does not take.
    #[error("row {row}, column {column:?}: {cause}")]
    Vectors {
        /// Row, from 0.
        row: u64,
        /// Column name.
        column: &'static str,
        /// What is wrong with them.
        cause: colqwen_index_field::Error,
    },
}

impl Problem {
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { action, cause }
    }
}

/// What a cell holds against what it should hold, before anyone knows where the cell is.
#[derive(Debug)]
pub(super) struct Mismatch {
    pub expected: String,
    pub received: String,
}

impl Mismatch {
    pub fn new(expected: impl Into<String>, received: impl Into<String>) -> Self {
        Self { expected: expected.into(), received: received.into() }
    }

    /// Places the mismatch in the file.
    pub fn at(self, column: &str, row: u64) -> Problem {
        Problem::Cell { row, column: column.to_owned(), expected: self.expected, received: self.received }
    }
}
