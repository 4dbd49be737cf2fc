//! Quantized pages: a token is its nearest centroid plus a residual in bit planes.
//!
//! A [`Codebook`] is trained (`train`) on the pages of a large segment and shared by all segments that are written while it
//! fits. A [`PageEncoder`] turns the vectors of one page into [`CodedPage`]: tokens sorted by centroid, so that a page's
//! repeated tokens (blank paper, margins) stand together, with the order kept to name the original tokens. `calibration`
//! corrects what coarse codes do to scores on average, so that scores from different segments can be compared. Pages of
//! small segments are kept directly in 8 bits (`direct`), which needs no codebook. [`bench`] measures all of it.

pub mod bench;
mod calibration;
mod codebook;
mod current;
mod direct;
mod page;
mod record;
mod train;

pub(crate) use calibration::Calibration;
pub(crate) use codebook::Codebook;
pub(crate) use current::CurrentCodebooks;
pub(crate) use direct::encode_direct;
pub(crate) use page::{CodedPage, Group, PageEncoder};
pub(crate) use record::{CodedRecord, DirectRecord};

/// Tokens below which a segment carries no codebook: scanning that many costs about as little as a codebook's table does.
/// An estimate, not yet a measured choice.
pub(crate) const CODEBOOK_TOKENS: u64 = 16_384;

/// The same in 4 bits, where pages are never coded anew and keep their first codebook for good
/// (index/tests/field/commits.rs shows what a smaller one loses).
pub(crate) const FOUR_BIT_CODEBOOK_TOKENS: u64 = 32_768;

/// The same in 2 bits, which lean on their centroids the most.
pub(crate) const TWO_BIT_CODEBOOK_TOKENS: u64 = 65_536;

/// How many times more tokens than a codebook was trained on it may serve before it is trained anew: centroids grow with
/// the square root of the tokens, so that one would be half as many as they should be.
pub(crate) const OUTGROWN: u64 = 4;
