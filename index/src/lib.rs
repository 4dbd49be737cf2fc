//! A multi-vector late-interaction field for tantivy.
#![deny(unsafe_code)]
#![warn(missing_docs)]

mod bytes;
mod cache;
mod error;
mod fingerprint;
mod handle;
#[allow(unsafe_code)]
mod kernel;
mod layout;
mod options;
mod plugin;
mod query;
mod rows;
mod segment;
mod value;
mod vectors;

pub use error::Error;
pub use fingerprint::{Fingerprint, Origin};
pub use handle::{FieldSummary, LateInteraction, SegmentSummary};
pub use layout::{PageLayout, PatchBox};
pub use options::{LateInteractionOptions, Precision, TYPE_NAME};
pub use query::{LateInteractionQuery, PageExplanation, PageHit, TokenMatch};
pub use rows::ROW_FIELD;
pub use segment::{EXTENSION, FORMAT_VERSION};
pub use vectors::{MAX_TOKENS, MultiVector, PageVectors, QueryVectors, UnitLength};
