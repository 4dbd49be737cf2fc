//! A multi-vector late-interaction field for tantivy.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod error;
mod fingerprint;
mod layout;
mod vectors;

pub use error::Error;
pub use fingerprint::{Fingerprint, Origin};
pub use layout::{PageLayout, PatchBox};
pub use vectors::{MAX_TOKENS, MultiVector, PageVectors, QueryVectors, UnitLength};
