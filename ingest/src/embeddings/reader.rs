//! Reading page files.

use std::path::Path;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use colqwen_index_field::{MultiVector, Origin, PageVectors, UnitLength};

use super::cells::{self, Integers, LayoutColumns};
use super::error::{Error, Mismatch, Problem};
use super::further::{FurtherColumn, FurtherReader, Value, is_text};
use super::schema::{
    self, CONTENT_HASH, DOC_ID, EMBEDDINGS, FIRST_PATCH, FileMetadata, GRID_COLS, GRID_ROWS, HEIGHT, MAX_DOC_ID_BYTES,
    PAGE, PAGE_COLUMNS, RESERVED_COLUMNS, SOURCE, TEXT, TOKEN_PATCHES, WIDTH,
};
use super::stream::{Decoder, OpenFile, Stream};
use super::tokens;

/// How files are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReadOptions {
    /// What to do about the length of each token vector; by default other lengths than 1 are refused.
    pub unit_length: UnitLength,
}

/// One page of a page file.
#[derive(Clone, PartialEq, Debug)]
pub struct PageRecord {
    /// The document, never empty.
    pub doc_id: String,
    /// The page's number within the document, from 1.
    pub page: u32,
    /// `tokens x dim`, with the model and, where the file says it, the layout.
    pub vectors: PageVectors,
    /// The page's text layer.
    pub text: Option<String>,
    /// The file that the page can be rendered from again.
    pub source: Option<String>,
    /// Hash of what was encoded.
    pub content_hash: Option<Vec<u8>>,
    /// Values of further columns by name; a null is left out.
    pub further: Vec<(String, Value)>,
}

impl PageRecord {
    /// A page with its vectors and nothing else.
    pub fn new(doc_id: impl Into<String>, page: u32, vectors: PageVectors) -> Self {
        let doc_id = doc_id.into();
        Self { doc_id, page, vectors, text: None, source: None, content_hash: None, further: Vec::new() }
    }
}

/// Streams the pages of a file, a few rows in memory at a time.
///
/// As an iterator it goes on after a row that is refused, so that a caller may skip it; after an error of the file
/// itself it ends.
pub struct PageReader {
    stream: Stream<PageDecoder>,
    further: Vec<FurtherColumn>,
}

impl PageReader {
    /// Opens a file whose vectors have unit length.
    ///
    /// # Errors
    /// The file cannot be read, is of an unknown version, or lacks a required column; a column has a type that the
    /// format does not know; its metadata contradicts its columns.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, ReadOptions::default())
    }

    /// Opens a file.
    ///
    /// # Errors
    /// As [`PageReader::open`].
    pub fn open_with(path: impl AsRef<Path>, options: ReadOptions) -> Result<Self, Error> {
        let open = OpenFile::open(path.as_ref())?;
        let further = check_columns(&open).map_err(|problem| Error::new(&open.path, problem))?;
        let names: Vec<String> = open.schema.fields().iter().map(|field| field.name().clone()).collect();
        let columns = further.iter().map(|reader| reader.column.clone()).collect();
        let decoder = PageDecoder { dim: open.dim, origin: open.metadata.origin, options, further };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(Self { stream: open.stream(&names, decoder)?, further: columns })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.stream.open.path
    }

    /// Values per token.
    pub fn dim(&self) -> usize {
        self.stream.open.dim
    }

    /// The model of the pages.
    pub fn origin(&self) -> Origin {
        self.stream.open.metadata.origin
    }

    /// What the file says about itself.
    pub fn metadata(&self) -> &FileMetadata {
        &self.stream.open.metadata
    }

    /// The columns beyond the format's own, in the file's order.
    pub fn further_columns(&self) -> &[FurtherColumn] {
        &self.further
    }

    /// The number of pages in the file.
    pub fn rows(&self) -> u64 {
        self.stream.open.rows
    }
}

impl Iterator for PageReader {
    type Item = Result<PageRecord, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.stream.next()
    }
}

/// Checks every column of a page file but the embeddings, and collects the further ones.
fn check_columns(open: &OpenFile) -> Result<Vec<FurtherReader>, Problem> {
    let schema = &open.schema;
    schema::check_column(schema, DOC_ID, true, "utf8", is_text)?;
    schema::check_column(schema, PAGE, true, "uint32", DataType::is_integer)?;
    for column in [TEXT, SOURCE] {
        schema::check_column(schema, column, false, "utf8", is_text)?;
    }
    schema::check_column(schema, CONTENT_HASH, false, "binary", cells::is_binary)?;
    for column in [WIDTH, HEIGHT] {
        schema::check_column(schema, column, false, "uint32", DataType::is_integer)?;
    }
    for column in [GRID_ROWS, GRID_COLS, FIRST_PATCH] {
        schema::check_column(schema, column, false, "uint16", DataType::is_integer)?;
    }
    schema::check_column(schema, TOKEN_PATCHES, false, "list<list<uint16>>", cells::is_patch_lists)?;
    let further = schema.fields().iter().filter(|field| !PAGE_COLUMNS.contains(&field.name().as_str()));
    further
        .map(|field| match RESERVED_COLUMNS.contains(&field.name().as_str()) {
            true => Err(Problem::ReservedColumn { column: field.name().clone() }),
            false => FurtherReader::new(field),
        })
        .collect()
}

struct PageDecoder {
    dim: usize,
    origin: Origin,
    options: ReadOptions,
    further: Vec<FurtherReader>,
}

struct PageColumns {
    doc_id: StringArray,
    page: Integers,
    embeddings: ArrayRef,
    text: Option<StringArray>,
    source: Option<StringArray>,
    content_hash: Option<BinaryArray>,
    layout: LayoutColumns,
    /// One prepared array per further column.
    further: Vec<ArrayRef>,
}

impl Decoder for PageDecoder {
    type Columns = PageColumns;
    type Record = PageRecord;

    fn columns(&self, batch: &RecordBatch) -> Result<PageColumns, Problem> {
        let prepare = |reader: &FurtherReader| reader.prepare(&named(batch, &reader.column.name)?);
        Ok(PageColumns {
            doc_id: cells::text(batch, DOC_ID)?.ok_or_else(|| gone(DOC_ID))?,
            page: Integers::of(batch, PAGE)?.ok_or_else(|| gone(PAGE))?,
            embeddings: named(batch, EMBEDDINGS)?,
            text: cells::text(batch, TEXT)?,
            source: cells::text(batch, SOURCE)?,
            content_hash: cells::bytes(batch, CONTENT_HASH)?,
            layout: LayoutColumns::of(batch)?,
            further: self.further.iter().map(prepare).collect::<Result<_, _>>()?,
        })
    }

    fn record(&self, columns: &PageColumns, row: usize, file_row: u64) -> Result<PageRecord, Problem> {
        let doc_id = cells::identifier(&columns.doc_id, row, MAX_DOC_ID_BYTES);
        let doc_id = doc_id.map_err(|mismatch| mismatch.at(DOC_ID, file_row))?;
        let page = columns.page.at(row, 1).map_err(|mismatch| mismatch.at(PAGE, file_row))?;
        let page = page.ok_or_else(|| Mismatch::new("a uint32 from 1", "null").at(PAGE, file_row))?;
        let vectors = multi_vector(&columns.embeddings, row, file_row, self.dim, self.options)?;
        let mut vectors = PageVectors::new(vectors).with_origin(self.origin);
        if let Some(layout) = columns.layout.at(row, file_row)? {
            let column = if layout.token_patches.is_some() { TOKEN_PATCHES } else { FIRST_PATCH };
            vectors = vectors.with_layout(layout).map_err(|cause| Problem::Vectors { row: file_row, column, cause })?;
        }
        let mut further = Vec::with_capacity(self.further.len());
        for (reader, array) in self.further.iter().zip(&columns.further) {
            let value = reader.at(array, row).map_err(|mismatch| mismatch.at(&reader.column.name, file_row))?;
            further.extend(value.map(|value| (reader.column.name.clone(), value)));
        }
        Ok(PageRecord {
            doc_id,
            page,
            vectors,
            text: cells::optional_text(columns.text.as_ref(), row),
            source: cells::optional_text(columns.source.as_ref(), row),
            content_hash: cells::optional_bytes(columns.content_hash.as_ref(), row),
            further,
        })
    }
}

/// The vectors in `row` of a batch, checked, `tokens x dim`.
pub(super) fn multi_vector(
    embeddings: &ArrayRef,
    row: usize,
    file_row: u64,
    dim: usize,
    options: ReadOptions,
) -> Result<MultiVector, Problem> {
    let values = tokens::row_values(embeddings, row, dim).map_err(|mismatch| mismatch.at(EMBEDDINGS, file_row))?;
    MultiVector::try_new(dim, values, options.unit_length).map_err(|cause| Problem::Vectors {
        row: file_row,
        column: EMBEDDINGS,
        cause,
    })
}

/// A column that was there when the file was opened.
pub(super) fn named(batch: &RecordBatch, column: &str) -> Result<ArrayRef, ArrowError> {
    batch.column_by_name(column).cloned().ok_or_else(|| gone(column))
}

pub(super) fn gone(column: &str) -> ArrowError {
    ArrowError::SchemaError(format!("column {column:?} is missing from the rows that were read"))
}
