//! From PDF pages and images through ColQwen2 to token embeddings in Parquet.
//!
//! Without features this crate is Parquet in and out ([`embeddings`]), the pooling of tokens ([`pooling`]) and files that
//! are written whole or not at all ([`whole_file`]). Feature
//! `encode` adds pages of PDFs and pictures (`page`), the model (`colqwen2`, behind the trait `encoder::Encoder`) and a
//! tiny checkpoint inside the program (`builtin`); `hub` adds downloads from the Hugging Face hub, `cuda` and
//! `flash-attn` NVIDIA GPUs.
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "encode")]
pub mod builtin;
#[cfg(feature = "encode")]
pub mod colqwen2;
pub mod embeddings;
#[cfg(feature = "encode")]
pub mod encoder;
#[cfg(feature = "hub")]
pub mod hub;
#[cfg(feature = "encode")]
mod mapped;
#[cfg(feature = "encode")]
pub mod page;
pub mod pooling;
#[cfg(feature = "encode")]
pub mod two_parts;
pub mod whole_file;
#[cfg(feature = "encode")]
pub mod whole_folder;
