//! A multi-vector late-interaction field for tantivy.
//!
//! In reading order: [`MultiVector`] checks `tokens x dim` embeddings; [`PageVectors`] and [`QueryVectors`] add the model they
//! belong to ([`Fingerprint`], [`Origin`]) and a page's [`PageLayout`]; [`LateInteractionOptions`] puts the field into a
//! schema; [`LateInteraction`] creates and opens the index, adds pages and makes readers; [`LateInteractionQuery`] finds the
//! pages with the highest MaxSim (Khattab & Zaharia, ColBERT, SIGIR 2020) and explains them.
//!
//! ```
//! use colqwen_index_field::{LateInteraction, LateInteractionOptions, MultiVector, PageVectors, QueryVectors, UnitLength};
//! use tantivy::{TantivyDocument, directory::RamDirectory, index::IndexSettings, schema::Schema};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut schema = Schema::builder();
//! let tokens = LateInteractionOptions::new(2).add_to(&mut schema, "tokens");
//! let late = LateInteraction::new();
//! let index = late.create(RamDirectory::create(), schema.build(), IndexSettings::default())?;
//!
//! let mut writer = index.writer(50_000_000)?;
//! for values in [vec![1.0, 0.0, 0.0, 1.0], vec![-1.0, 0.0]] {
//!     let mut document = TantivyDocument::new();
//!     let vectors = MultiVector::try_new(2, values, UnitLength::Require)?;
//!     late.add(&mut document, tokens, &PageVectors::new(vectors))?;
//!     writer.add_document(document)?;
//! }
//! writer.commit()?;
//!
//! let searcher = late.reader(&index)?.searcher();
//! let question = QueryVectors::new(MultiVector::try_new(2, vec![0.0, 1.0], UnitLength::Require)?);
//! let hits = late.query(tokens, question).k(1).search(&searcher)?;
//! assert_eq!(hits[0].score, 1.0);
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]
#![warn(missing_docs)]

mod bytes;
mod cache;
mod codes;
mod error;
mod fingerprint;
mod handle;
#[allow(unsafe_code)]
mod kernel;
mod layout;
mod merge;
mod options;
mod plugin;
mod query;
mod rows;
mod segment;
mod spool;
mod summary;
mod value;
mod vectors;

#[doc(hidden)]
pub use codes::bench as codes_bench;
#[doc(hidden)]
pub use kernel::bench as kernel_bench;

pub use error::Error;
pub use fingerprint::{Fingerprint, Origin};
pub use handle::LateInteraction;
pub use layout::{PageLayout, PatchBox};
pub use options::{LateInteractionOptions, Precision, TYPE_NAME};
pub use query::{Effort, LateInteractionQuery, PageExplanation, PageHit, SearchReport, SearchWork, TokenMatch};
pub use rows::ROW_FIELD;
pub use segment::{EXTENSION, FORMAT_VERSION};
pub use summary::{CodebookSummary, FieldSummary, SegmentSummary};
pub use vectors::{MAX_TOKENS, MultiVector, PageVectors, QueryVectors, UnitLength};
