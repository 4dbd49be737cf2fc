//! From PDF pages and images through ColQwen2 to token embeddings in Parquet.

pub mod embeddings;
#[cfg(feature = "encode")]
pub mod page;
