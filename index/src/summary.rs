//! What segments hold, for people and machines that look into an index.

use tantivy::SegmentReader;
use tantivy::schema::Field;

use crate::segment::{Block, Coding, SegmentFile};
use crate::{Origin, Precision};

/// What one segment holds.
#[derive(Clone, Debug)]
pub struct SegmentSummary {
    /// The segment's id.
    pub segment: String,
    /// Documents that are not deleted.
    pub live_docs: u32,
    /// Documents that are deleted but not merged away.
    pub deleted_docs: u32,
    /// Bytes of the vector file.
    pub file_bytes: u64,
    /// Each late-interaction field.
    pub fields: Vec<FieldSummary>,
}

/// What one segment holds of one late-interaction field, deleted pages included.
#[derive(Clone, Debug)]
pub struct FieldSummary {
    /// Field name.
    pub field: String,
    /// Values per token.
    pub dim: usize,
    /// Storage precision.
    pub precision: Precision,
    /// Pages.
    pub pages: u64,
    /// Tokens of all pages.
    pub tokens: u64,
    /// Bytes of their vectors.
    pub vector_bytes: u64,
    /// Whether an f16 copy stands beside codes.
    pub keeps_f16: bool,
    /// Pages without a codebook.
    pub direct_pages: u64,
    /// The codebooks that pages are described by.
    pub codebooks: Vec<CodebookSummary>,
    /// The models of the pages.
    pub origins: Vec<Origin>,
}

/// A codebook of a segment and the lists of its pages.
#[derive(Clone, Debug)]
pub struct CodebookSummary {
    /// The same in all segments that share it.
    pub id: String,
    /// Number of centroids.
    pub centroids: u64,
    /// Seconds since 1970 when it was trained.
    pub created: u64,
    /// Tokens that it was trained for.
    pub trained_tokens: u64,
    /// Pages that it describes.
    pub pages: u64,
    /// Distinct centroids of all pages, summed.
    pub page_centroids: u64,
    /// Bytes of the centroids.
    pub centroid_bytes: u64,
    /// Bytes of the centroids of each page.
    pub group_bytes: u64,
    /// Bytes of the inverted lists.
    pub list_bytes: u64,
}

fn codebook_summary(block: &Block) -> CodebookSummary {
    let (group_bytes, list_bytes) = block.list_bytes();
    CodebookSummary {
        id: block.codebook.id().iter().map(|byte| format!("{byte:02x}")).collect(),
        centroids: block.codebook.len() as u64,
        created: block.codebook.created,
        trained_tokens: block.codebook.trained_tokens,
        pages: block.pages.len() as u64,
        page_centroids: block.num_groups(),
        centroid_bytes: block.codebook.num_bytes() as u64,
        group_bytes,
        list_bytes,
    }
}

pub(crate) fn summary(file: &SegmentFile, reader: &SegmentReader) -> SegmentSummary {
    let fields = file.fields().map(|table| FieldSummary {
        field: table.name.clone(),
        dim: table.dim,
        precision: table.precision,
        pages: table.pages.len() as u64,
        tokens: table.pages.iter().map(|page| u64::from(page.tokens)).sum(),
        vector_bytes: table.pages.iter().map(|page| table.vector_bytes(page) as u64).sum(),
        keeps_f16: table.keeps_f16,
        direct_pages: table.pages.iter().filter(|page| page.coding == Coding::Direct).count() as u64,
        codebooks: file.blocks(Field::from_field_id(table.field_id)).iter().map(codebook_summary).collect(),
        origins: table.origins.clone(),
    });
    SegmentSummary {
        segment: file.segment().to_owned(),
        live_docs: reader.num_docs(),
        deleted_docs: reader.num_deleted_docs(),
        file_bytes: file.num_bytes(),
        fields: fields.collect(),
    }
}
