//! From page images through ColQwen2 to token embeddings.
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "encode")]
pub mod builtin;
#[cfg(feature = "encode")]
pub mod colqwen2;
#[cfg(feature = "encode")]
pub mod encoder;
#[cfg(feature = "hub")]
pub mod hub;
#[cfg(feature = "encode")]
mod mapped;
