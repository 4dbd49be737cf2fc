//! What can go wrong, told as what was given, what was expected and what was received.

use std::path::PathBuf;

use tantivy::TantivyError;

use crate::{Fingerprint, Precision};

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
    /// More tokens than a query may have.
    #[error(
        "a query has at most {most} tokens, received {received}; comparing it with all centroids would take the memory of the machine"
    )]
    QueryTokens {
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
    /// Options of a field that cannot be read.
    #[error("field {field:?}: the options of this late-interaction field cannot be read: {problem}")]
    Options {
        /// Field name.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// A field that is not of the late-interaction type.
    #[error("field {field:?} is not a late-interaction field; add one with `LateInteractionOptions::add_to`")]
    NotLateInteraction {
        /// Field name.
        field: String,
    },
    /// A storage precision that does not exist.
    #[error("{received} bits per value are not available, expected {}", Precision::F16.bits())]
    Bits {
        /// Bits received.
        received: u32,
    },
    /// The schema has no late-interaction field.
    #[error(
        "the schema has no late-interaction field; add one with `LateInteractionOptions::add_to` before creating the index"
    )]
    NoField,
    /// A directory that holds an index already.
    #[error("the directory holds an index already; open it with `LateInteraction::open`")]
    IndexExists,
    /// An index without the plugin: its segments have no vectors, and never will.
    #[error(
        "the index was created without late interaction, and tantivy fixes the plugins of an index at its creation; \
         create a new index with `LateInteraction::create` and add the documents again"
    )]
    CreatedWithoutPlugin,
    /// The handle serves another index.
    #[error("this LateInteraction handle already serves an index; make another with `LateInteraction::new`")]
    HandleInUse,
    /// The handle serves no index yet.
    #[error("this LateInteraction handle serves no index yet; call `create` or `open` on it first")]
    HandleUnused,
    /// A sorted index without the row field.
    #[error(
        "the index is sorted by {sort_field:?} but has no u64 fast field \"_row\", without which vectors cannot follow \
         their documents; create the index with `LateInteraction::create`, which adds the field, and add the documents again"
    )]
    SortedWithoutRows {
        /// The field that the index is sorted by.
        sort_field: String,
    },
    /// The schema uses the name of the row field for something else.
    #[error(
        "the schema has a field \"_row\" of type {received}; sorted indexes need that name for a u64 fast field, rename yours"
    )]
    RowFieldType {
        /// The type of the user's field.
        received: String,
    },
    /// A row number that is missing after a merge.
    #[error("row {row} is missing from the merged fast fields; was \"_row\" written by hand?")]
    RowLost {
        /// The row number.
        row: u64,
    },
    /// Vectors of another dimension than the field's.
    #[error("field {field:?} holds vectors of dim {expected}, received dim {received}")]
    Dim {
        /// Field name.
        field: String,
        /// Dimension received.
        received: usize,
        /// Dimension of the field.
        expected: usize,
    },
    /// A second value for one field in one document.
    #[error("field {field:?} takes one value per document, received a second; make each page a document of its own")]
    TwoValues {
        /// Field name.
        field: String,
    },
    /// A field value that `LateInteraction::add` did not make.
    #[error("field {field:?}: {problem}")]
    FieldValue {
        /// Field name.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// Page vectors of another model than the index holds.
    #[error(
        "field {field:?} holds pages of model {expected}, received a page of model {received}; vectors of two models \
         cannot be compared, so use one model per index"
    )]
    OtherPageModel {
        /// Field name.
        field: String,
        /// Model of the index.
        expected: Fingerprint,
        /// Model of the new page.
        received: Fingerprint,
    },
    /// A query for pages of another model.
    #[error(
        "the query was encoded for pages of model {received}, but segment {segment} of field {field:?} holds pages of model \
         {expected}; encode the query with the index's model"
    )]
    OtherQueryModel {
        /// Field name.
        field: String,
        /// Segment id.
        segment: String,
        /// Model of the pages.
        expected: Fingerprint,
        /// Model that the query is for.
        received: Fingerprint,
    },
    /// A damaged segment file.
    #[error("the vectors of segment {segment} cannot be read: {problem}")]
    SegmentFile {
        /// Segment id.
        segment: String,
        /// What is wrong.
        problem: String,
    },
    /// A segment file of another version.
    #[error(
        "the vectors of segment {segment} have format version {received}, this build reads version 1 to version {expected}; use the release that wrote it, or index the pages again"
    )]
    SegmentVersion {
        /// Segment id.
        segment: String,
        /// Version of the file.
        received: u32,
        /// The newest version that this build reads.
        expected: u32,
    },
    /// A segment file that a merge has removed.
    #[error(
        "{path:?} is gone: a merge replaced its segment after this searcher was made, and nobody holds the file; call `reload` \
         on the reader and take a new searcher, or make the reader with `LateInteraction::reader`, which opens files early, \
         and keep it as long as its searchers"
    )]
    SegmentGone {
        /// The file.
        path: PathBuf,
    },
    /// An address that the searcher does not have.
    #[error(
        "the searcher has no document {doc} in segment {segment} (it has {segments} segments); use the searcher that found the hit"
    )]
    NoDocument {
        /// Place of the segment in the searcher.
        segment: u32,
        /// The document within it.
        doc: u32,
        /// Segments of the searcher.
        segments: usize,
    },
    /// No new vectors for a document.
    #[error("document {doc} of segment {segment} gets no new vectors: {source}")]
    Replacement {
        /// Segment id in the old index.
        segment: String,
        /// The document within it.
        doc: u32,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A query without a searcher.
    #[error(
        "a late-interaction query needs a searcher: it cannot be used where tantivy offers none, as in `delete_query`"
    )]
    NoSearcher,
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Tantivy failed.
    #[error(transparent)]
    Tantivy(#[from] TantivyError),
}

impl From<Error> for TantivyError {
    fn from(error: Error) -> Self {
        match error {
            Error::Tantivy(error) => error,
            Error::Io(error) => error.into(),
            Error::SegmentFile { .. } | Error::SegmentVersion { .. } => {
                tantivy::error::DataCorruption::comment_only(error.to_string()).into()
            }
            error => Self::InvalidArgument(error.to_string()),
        }
    }
}
