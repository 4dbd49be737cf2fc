//! Late-interaction search of document pages inside tantivy.
//!
//! A tantivy index gets a multi-vector field: every document is a page held as `tokens x dim` embeddings, found by MaxSim
//! together with tantivy's own queries, filters and collectors.
//!
//! ```
//! use colqwen_index::tantivy::{TantivyDocument, directory::RamDirectory, index::IndexSettings, schema::Schema};
//! use colqwen_index::{LateInteraction, LateInteractionOptions, MultiVector, PageVectors, QueryVectors, UnitLength};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut schema = Schema::builder();
//! let tokens = LateInteractionOptions::new(2).add_to(&mut schema, "tokens");
//! let late = LateInteraction::new();
//! let index = late.create(RamDirectory::create(), schema.build(), IndexSettings::default())?;
//! let mut writer = index.writer(50_000_000)?;
//! let mut page = TantivyDocument::new();
//! let vectors = MultiVector::try_new(2, vec![1.0, 0.0, 0.0, 1.0], UnitLength::Require)?;
//! late.add(&mut page, tokens, &PageVectors::new(vectors.clone()))?;
//! writer.add_document(page)?;
//! writer.commit()?;
//! let hits = late.query(tokens, QueryVectors::new(vectors)).k(10).search(&late.reader(&index)?.searcher())?;
//! # assert_eq!((hits.len(), hits[0].score), (1, 2.0));
//! # Ok(())
//! # }
//! ```
//!
//! [`LateInteraction`] is all that an application with a tantivy index of its own needs. [`PageIndex`] adds a folder with
//! text, sources and embeddings of pages; with feature `encode`, `PageIndex::index_files` fills it from PDFs.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod click_log;
mod error;
#[cfg(feature = "encode")]
pub mod indexing;
#[cfg(feature = "encode")]
pub mod model;
pub mod page_index;
#[cfg(feature = "train")]
pub mod training;

pub use colqwen_index_field as field;
pub use colqwen_index_ingest as ingest;
#[cfg(feature = "train")]
pub use colqwen_index_train as train;
pub use tantivy;

pub use click_log::ClickLog;
pub use colqwen_index_field::{
    Fallback, Fingerprint, Fusion, HitList, LateInteraction, LateInteractionOptions, LateInteractionQuery,
    LateInteractionRescorer, MultiVector, Normalization, Origin, PageHit, PageLayout, PageVectors, QueryVectors,
    RescoredHit, UnitLength,
};
pub use error::Error;
pub use page_index::{PageIndex, PageIndexOptions};
