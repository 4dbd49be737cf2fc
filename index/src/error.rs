//! What can go wrong, told as what was given, what was expected and what was received.

use crate::{Fingerprint, Origin};

/// An error of the late-interaction field.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The number of values is not `tokens x dim`.
    #[error("a multi-vector of dim {dim} needs a multiple of dim values, received {values} values")]
    Shape {
        /// Values per token.
        dim: usize,
        /// Values received.
        values: usize,
    },
    /// No tokens, or too many.
    #[error("a multi-vector holds 1 to {most} tokens, received {received} tokens")]
    TokenCount {
        /// Tokens received.
        received: usize,
        /// The most that are allowed.
        most: usize,
    },
    /// A value that no dot product survives.
    #[error("token {token} has {received} at position {at}; finite values within the range of f16 are expected")]
    NotFinite {
        /// Token index.
        token: usize,
        /// Position within the token.
        at: usize,
        /// The value.
        received: f32,
    },
    /// A token vector that is not of length 1.
    #[error(
        "token {token} has length {received}, expected 1; normalise the vectors first, or ask for it (`UnitLength::Normalize`)"
    )]
    NotUnitLength {
        /// Token index.
        token: usize,
        /// Its length.
        received: f32,
    },
    /// A page layout that does not fit its tokens.
    #[error("page layout: {problem}")]
    Layout {
        /// What does not fit.
        problem: String,
    },
    /// Text that is no fingerprint.
    #[error("a fingerprint is 64 hexadecimal digits, received {received:?}")]
    FingerprintText {
        /// The text.
        received: String,
    },
}
