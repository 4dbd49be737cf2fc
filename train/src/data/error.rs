//! What can be wrong with a file of training data: which file, column and row, what was expected and received.

use std::io;
use std::path::{Path, PathBuf};

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

/// An error with the file it belongs to.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct DataError {
    path: PathBuf,
    problem: DataProblem,
}

impl DataError {
    pub(crate) fn new(path: &Path, problem: impl Into<DataProblem>) -> Self {
        Self { path: path.to_owned(), problem: problem.into() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it.
    pub fn problem(&self) -> &DataProblem {
        &self.problem
    }
}

/// What is wrong with a file of training data. Rows are counted from 0.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataProblem {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Not Parquet, cut off or damaged, or it cannot be written.
    #[error("{0}")]
    Parquet(#[from] ParquetError),
    /// Rows cannot be read, or a column cannot be brought to its type.
    #[error("{0}")]
    Arrow(#[from] ArrowError),
    /// A file of a version that this program does not know.
    #[error("version {received:?} is unknown, expected {expected:?}; a newer colqwen-index may read it")]
    Version {
        /// The version that can be read.
        expected: &'static str,
        /// The version in the file.
        received: String,
    },
    /// A column that is needed is not there.
    #[error("column {column:?} is missing: expected {expected}; the file has {received}")]
    MissingColumn {
        /// Its name.
        column: String,
        /// The type it should have.
        expected: &'static str,
        /// What is there.
        received: String,
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
    /// One value that cannot be right.
    #[error("row {row}, column {column:?}: expected {expected}, received {received}")]
    Cell {
        /// Row, from 0.
        row: usize,
        /// Column name.
        column: String,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        received: String,
    },
    /// A metadata value that cannot be right.
    #[error("metadata {key:?}: expected {expected}, received {received:?}")]
    Metadata {
        /// The metadata key.
        key: &'static str,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        received: String,
    },
}

impl DataProblem {
    pub(crate) fn cell(row: usize, column: &str, expected: &'static str, received: impl ToString) -> Self {
        Self::Cell { row, column: column.to_owned(), expected, received: received.to_string() }
    }
}
