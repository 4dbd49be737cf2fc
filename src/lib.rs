//! Late-interaction search of document pages inside tantivy.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod error;
#[cfg(feature = "encode")]
pub mod indexing;
#[cfg(feature = "encode")]
pub mod model;
pub mod page_index;

pub use colqwen_index_field as field;
pub use colqwen_index_ingest as ingest;
pub use tantivy;

pub use colqwen_index_field::{
    Fingerprint, LateInteraction, LateInteractionOptions, LateInteractionQuery, MultiVector, Origin, PageHit,
    PageLayout, PageVectors, QueryVectors, UnitLength,
};
pub use error::Error;
pub use page_index::{PageIndex, PageIndexOptions};
