//! A multi-vector late-interaction field for tantivy.
//!
//! In reading order: [`MultiVector`] checks `tokens x dim` embeddings; [`PageVectors`] and [`QueryVectors`] add the model they
//! belong to ([`Fingerprint`], [`Origin`]) and a page's [`PageLayout`]; [`LateInteractionOptions`] puts the field into a
//! schema; [`LateInteraction`] creates and opens the index, adds pages and makes readers; [`LateInteractionQuery`] finds the
//! pages with the highest MaxSim (Khattab & Zaharia, ColBERT, SIGIR 2020) and explains them; [`LateInteractionRescorer`]
//! ranks the hits of any other query by it; [`Fusion`] makes one list of hits found by words and by vectors.
//!
//! ```
//! use colqwen_index_field::{Fusion, HitList, LateInteraction, LateInteractionOptions, MultiVector, PageVectors};
//! use colqwen_index_field::{QueryVectors, UnitLength};
//! use tantivy::collector::TopDocs;
//! use tantivy::query::QueryParser;
//! use tantivy::schema::{Schema, TEXT};
//! use tantivy::{TantivyDocument, directory::RamDirectory, index::IndexSettings};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut schema = Schema::builder();
//! let text = schema.add_text_field("text", TEXT);
//! let tokens = LateInteractionOptions::new(2).add_to(&mut schema, "tokens");
//! let late = LateInteraction::new();
//! let index = late.create(RamDirectory::create(), schema.build(), IndexSettings::default())?;
//!
//! let mut writer = index.writer(50_000_000)?;
//! for (words, values) in [("a green lamp", vec![1.0, 0.0, 0.0, 1.0]), ("lamps: lamp, lamp", vec![-1.0, 0.0])] {
//!     let mut document = TantivyDocument::new();
//!     document.add_text(text, words);
//!     let vectors = MultiVector::try_new(2, values, UnitLength::Require)?;
//!     late.add(&mut document, tokens, &PageVectors::new(vectors))?;
//!     writer.add_document(document)?;
//! }
//! writer.commit()?;
//!
//! let searcher = late.reader(&index)?.searcher();
//! let question = QueryVectors::new(MultiVector::try_new(2, vec![0.0, 1.0], UnitLength::Require)?);
//! let hits = late.query(tokens, question.clone()).k(1).search(&searcher)?;
//! assert_eq!(hits[0].score, 1.0);
//!
//! // The hundred best by words, ranked anew by MaxSim.
//! let words = QueryParser::for_index(&index, vec![text]).parse_query("lamp")?;
//! let rescored = late.rescorer(tokens, question).search(&searcher, &words, 100)?;
//! assert_eq!((rescored.len(), rescored[0].address), (2, hits[0].address));
//!
//! // Or what either way finds, in one list.
//! let by_words = searcher.search(&words, &TopDocs::with_limit(100).order_by_score())?;
//! let fused = Fusion::default().fuse(&[HitList::new(by_words), HitList::new(hits)], 10);
//! assert_eq!(fused.len(), 2);
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
mod fusion;
mod handle;
#[allow(unsafe_code)]
mod kernel;
mod layout;
mod merge;
mod options;
mod plugin;
mod query;
mod reencode;
mod replacement;
mod rounding;
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
pub use fusion::{Fusion, HitList, Normalization};
pub use handle::LateInteraction;
pub use layout::{PageLayout, PatchBox};
pub use options::{LateInteractionOptions, Precision, TYPE_NAME};
pub use query::{
    Effort, Fallback, Knobs, LateInteractionQuery, LateInteractionRescorer, PageExplanation, PageHit, RescoredHit,
    SearchReport, SearchWork, TokenMatch,
};
pub use reencode::{Reencoded, StoredPage, reencode};
pub use rows::ROW_FIELD;
pub use segment::{EXTENSION, FORMAT_VERSION};
pub use summary::{CodebookSummary, FieldSummary, SegmentSummary};
pub use vectors::{MAX_QUERY_TOKENS, MAX_TOKENS, MultiVector, PageVectors, QueryVectors, UnitLength};
