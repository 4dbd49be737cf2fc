//! Hidden states of pages and queries, computed once: with them, an epoch of projection training costs the projection
//! alone.
//!
//! A Parquet file, version 1, one row per page or query:
//!
//! | column | type | |
//! |---|---|---|
//! | `doc_id`, `page` | utf8, uint32 | cache of pages |
//! | `query` | utf8 | cache of queries: the text that was encoded |
//! | `hidden` | `list<fixed_size_list<float16, width>>` | the states after the language model's final norm, one per token |
//! | `content_hash` | binary, nullable | cache of pages: hash of the file that the page was rendered from |
//!
//! | metadata key | value |
//! |---|---|
//! | `colqwen-index.hidden_version` | `1` |
//! | `colqwen-index.backbone` | 64 hexadecimal digits: [`ColQwen2::backbone_fingerprint`] of the model that made them |
//!
//! Values are stored as they are, without compression, in row groups of about 4 MiB, and read a row group at a time: a
//! cache may be larger than memory.
//!
//! [`ColQwen2::backbone_fingerprint`]: colqwen_index_ingest::colqwen2::ColQwen2::backbone_fingerprint

mod reader;
mod source;
mod writer;

pub use reader::HiddenCache;
pub use source::HiddenSource;
pub use writer::HiddenWriter;

use std::fmt;

use crate::data::PageId;

pub(crate) const KEY_VERSION: &str = "colqwen-index.hidden_version";
pub(crate) const KEY_BACKBONE: &str = "colqwen-index.backbone";
/// The version that this program writes, and the only one it reads.
pub const VERSION: &str = "1";
pub(crate) const HIDDEN: &str = "hidden";

/// What hidden states belong to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Key {
    /// A page.
    Page(PageId),
    /// A query's text.
    Query(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page(page) => page.fmt(f),
            Self::Query(query) => write!(f, "query {query:?}"),
        }
    }
}

/// Whether a cache holds pages or queries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Pages.
    Pages,
    /// Queries.
    Queries,
}

#[cfg(test)]
mod tests;
