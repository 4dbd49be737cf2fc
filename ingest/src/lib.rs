//! skeleton

pub mod embeddings;
