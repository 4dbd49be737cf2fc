//! Token embeddings in Parquet, the project's exchange format: one row per page, or per query.
//!
//! [`PageReader`] and [`PageWriter`] stream [`PageRecord`]s, [`QueryReader`] and [`QueryWriter`] stream
//! [`QueryRecord`]s. The names of columns and metadata keys are in [`schema`]. Any file with the required columns can
//! be read; one without the project's metadata is a foreign file, whose vectors are checked and whose model is unknown.
//!
//! ```
//! use colqwen_index_field::{MultiVector, PageVectors, UnitLength};
//! use colqwen_index_ingest::embeddings::{PageFileOptions, PageReader, PageRecord, PageWriter};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("pages.parquet");
//! let vectors = MultiVector::try_new(2, vec![1.0, 0.0, 0.6, 0.8], UnitLength::Require)?;
//! let mut writer = PageWriter::create(&path, PageFileOptions::new(2))?;
//! writer.write(&PageRecord::new("manual.pdf", 1, PageVectors::new(vectors)))?;
//! writer.finish()?;
//!
//! for page in PageReader::open(&path)? {
//!     let page = page?;
//!     println!("{} page {}: {} tokens", page.doc_id, page.page, page.vectors.vectors.tokens());
//! }
//! # Ok(())
//! # }
//! ```

mod cells;
mod error;
mod further;
mod further_write;
mod queries;
mod reader;
pub mod schema;
mod sink;
mod stream;
mod tokens;
mod writer;

pub use error::{Error, Problem};
pub use further::{FurtherColumn, FurtherKind, Value};
pub use queries::{QueryFileOptions, QueryReader, QueryRecord, QueryWriter};
pub use reader::{PageReader, PageRecord, ReadOptions};
pub use schema::{FileMetadata, Precision};
pub use writer::{PageFileOptions, PageWriter};
