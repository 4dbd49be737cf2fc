//! Writing page files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, ListBuilder, PrimitiveBuilder, StringBuilder, UInt16Builder, UInt32Builder,
};
use arrow::datatypes::{DataType, Field, Schema, UInt16Type, UInt32Type};
use colqwen_index_field::{Origin, PageLayout};

use super::cells;
use super::error::{Error, Mismatch, Problem};
use super::further::FurtherColumn;
use super::further_write::FurtherBuilder;
use super::reader::PageRecord;
use super::schema::{
    CONTENT_HASH, DOC_ID, EMBEDDINGS, FIRST_PATCH, FileMetadata, GRID_COLS, GRID_ROWS, HEIGHT, KEY_DIM,
    MAX_DOC_ID_BYTES, PAGE, PAGE_COLUMNS, Precision, RESERVED_COLUMNS, SOURCE, TEXT, TOKEN_PATCHES, WIDTH,
    check_names_differ,
};
use super::sink::{GROUP_BYTES, GROUP_ROWS, Sink};
use super::tokens::TokenBuffer;
use crate::pooling::PoolFactor;

/// What is fixed when a page file is created.
#[derive(Clone, PartialEq, Debug)]
pub struct PageFileOptions {
    /// Values per token.
    pub dim: usize,
    /// The model of all pages. A file of a known model takes no pages of another; one of unknown origin takes any.
    pub origin: Origin,
    /// Type of the values written.
    pub precision: Precision,
    /// How the model's queries are put together, if known.
    pub query_format: Option<String>,
    /// Whether pages may have pooled tokens: only then has the file a column for their patches.
    pub pooled: bool,
    /// By which factors the pages are pooled, ascending, for information; recorded where one is above 1.
    pub pool_factors: Vec<PoolFactor>,
    /// Columns beyond the format's own.
    pub further: Vec<FurtherColumn>,
}

impl PageFileOptions {
    /// All pages are pooled by `factor`; by 1, none is.
    pub fn pooled_by(mut self, factor: PoolFactor) -> Self {
        (self.pooled, self.pool_factors) = (!factor.is_none(), vec![factor]);
        self
    }

    /// Pages of `dim` values per token, of an unknown model, not pooled, in f16, without further columns.
    pub fn new(dim: usize) -> Self {
        let (origin, precision) = (Origin::Unknown, Precision::F16);
        Self {
            dim,
            origin,
            precision,
            query_format: None,
            pooled: false,
            pool_factors: Vec::new(),
            further: Vec::new(),
        }
    }
}

/// Writes a page file in row groups, so that memory holds about one of them.
///
/// The file appears under its name in [`PageWriter::finish`], complete and flushed to disk. Dropped before that, the
/// writer leaves nothing behind.
pub struct PageWriter {
    path: PathBuf,
    sink: Sink,
    options: PageFileOptions,
    columns: Columns,
    written: u64,
}

impl PageWriter {
    /// Starts a file; one that is there already stays as it is until [`PageWriter::finish`] replaces it.
    ///
    /// # Errors
    /// The folder cannot be written to; `dim` is zero; a further column has the name of another column.
    pub fn create(path: impl AsRef<Path>, options: PageFileOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::try_create(path, options).map_err(|problem| Error::new(path, problem))
    }

    fn try_create(path: &Path, options: PageFileOptions) -> Result<Self, Problem> {
        let dim = checked_dim(options.dim)?;
        for column in &options.further {
            if RESERVED_COLUMNS.contains(&column.name.as_str()) {
                return Err(Problem::ReservedColumn { column: column.name.clone() });
            }
            // Not written by this file, perhaps, but still not free for another meaning.
            if PAGE_COLUMNS.contains(&column.name.as_str()) {
                return Err(Problem::RepeatedColumn { column: column.name.clone() });
            }
        }
        let schema = schema(&options, dim);
        check_names_differ(&schema)?;
        let mut metadata =
            FileMetadata::written(options.dim, options.origin, options.precision, options.query_format.as_deref());
        metadata.extend(FileMetadata::written_factors(&options.pool_factors));
        let sink = Sink::create(path, schema, metadata)?;
        let columns = Columns::new(&options, dim);
        Ok(Self { path: path.to_owned(), sink, options, columns, written: 0 })
    }

    /// Adds a page.
    ///
    /// # Errors
    /// The page has another dim or model than the file, page number 0, no or too long a `doc_id`, pooled tokens in a
    /// file without a column for them, or a further value that the file has no column of that kind for; nothing of
    /// the page is written then. Or the disk is full.
    pub fn write(&mut self, page: &PageRecord) -> Result<(), Error> {
        self.try_write(page).map_err(|problem| Error::new(&self.path, problem))
    }

    fn try_write(&mut self, page: &PageRecord) -> Result<(), Problem> {
        let row = self.written;
        check(page, &self.options).map_err(|(column, mismatch)| mismatch.at(&column, row))?;
        self.columns.push(page);
        self.written += 1;
        if self.columns.rows >= GROUP_ROWS || self.columns.bytes() >= GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Problem> {
        if self.columns.rows > 0 {
            let columns = self.columns.take(self.options.pooled)?;
            self.sink.write_group(columns)?;
        }
        Ok(())
    }

    /// The number of pages added.
    pub fn rows(&self) -> u64 {
        self.written
    }

    /// Completes the file, flushes it to disk and gives it its name; returns the number of pages.
    ///
    /// # Errors
    /// The disk is full or the file cannot be renamed.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.flush().and_then(|()| self.sink.finish()).map_err(|problem| Error::new(&self.path, problem))?;
        Ok(self.written)
    }
}

/// `dim` as Arrow's fixed-size lists want it.
pub(super) fn checked_dim(dim: usize) -> Result<i32, Problem> {
    i32::try_from(dim).ok().filter(|dim| *dim > 0).ok_or_else(|| Problem::Metadata {
        key: KEY_DIM,
        expected: "a number from 1".to_owned(),
        received: dim.to_string(),
    })
}

fn schema(options: &PageFileOptions, dim: i32) -> Schema {
    let optional = |name, data_type| Field::new(name, data_type, true);
    let mut fields = vec![
        Field::new(DOC_ID, DataType::Utf8, false),
        Field::new(PAGE, DataType::UInt32, false),
        TokenBuffer::field(EMBEDDINGS, dim, options.precision),
        optional(TEXT, DataType::Utf8),
        optional(SOURCE, DataType::Utf8),
        optional(CONTENT_HASH, DataType::Binary),
        optional(WIDTH, DataType::UInt32),
        optional(HEIGHT, DataType::UInt32),
        optional(GRID_ROWS, DataType::UInt16),
        optional(GRID_COLS, DataType::UInt16),
        optional(FIRST_PATCH, DataType::UInt16),
    ];
    if options.pooled {
        let list = |item| DataType::List(Field::new("item", item, true).into());
        fields.push(optional(TOKEN_PATCHES, list(list(DataType::UInt16))));
    }
    fields.extend(options.further.iter().map(FurtherColumn::field));
    Schema::new(fields)
}

/// What is wrong with a page, and in which column.
fn check(page: &PageRecord, options: &PageFileOptions) -> Result<(), (String, Mismatch)> {
    let own = |column: &str| column.to_owned();
    cells::check_identifier(&page.doc_id, MAX_DOC_ID_BYTES).map_err(|mismatch| (own(DOC_ID), mismatch))?;
    if page.page == 0 {
        return Err((own(PAGE), Mismatch::new("a uint32 from 1", "0")));
    }
    check_vectors(page.vectors.vectors.dim(), page.vectors.origin, options.dim, options.origin)
        .map_err(|mismatch| (own(EMBEDDINGS), mismatch))?;
    if !options.pooled && page.vectors.layout.as_ref().is_some_and(|layout| layout.token_patches.is_some()) {
        return Err((own(TOKEN_PATCHES), Mismatch::new("none, as the file was created without pooled pages", "some")));
    }
    for (at, (name, value)) in page.further.iter().enumerate() {
        let column = options.further.iter().find(|column| column.name == *name);
        match column {
            None => return Err((name.clone(), Mismatch::new("one of the file's further columns", "another name"))),
            Some(_) if page.further[..at].iter().any(|(earlier, _)| earlier == name) => {
                return Err((name.clone(), Mismatch::new("one value or list per page", "two")));
            }
            Some(column) => column.check(value).map_err(|mismatch| (name.clone(), mismatch))?,
        }
    }
    Ok(())
}

/// Whether vectors of `dim` and `origin` may stand in a file of `file_dim` and `file_origin`.
pub(super) fn check_vectors(dim: usize, origin: Origin, file_dim: usize, file_origin: Origin) -> Result<(), Mismatch> {
    if dim != file_dim {
        return Err(Mismatch::new(format!("vectors of {file_dim} values"), format!("vectors of {dim} values")));
    }
    // Vectors of an unknown model in a file of a known one would be taken for that model's.
    if file_origin != Origin::Unknown && origin != file_origin {
        return Err(Mismatch::new(format!("vectors of model {file_origin}"), format!("vectors of model {origin}")));
    }
    Ok(())
}

/// The pages waiting to become a row group, by column.
struct Columns {
    rows: usize,
    text_bytes: usize,
    doc_id: StringBuilder,
    page: UInt32Builder,
    embeddings: TokenBuffer,
    text: StringBuilder,
    source: StringBuilder,
    content_hash: BinaryBuilder,
    pixels: [PrimitiveBuilder<UInt32Type>; 2],
    grid: [PrimitiveBuilder<UInt16Type>; 3],
    token_patches: ListBuilder<ListBuilder<UInt16Builder>>,
    further: Vec<FurtherBuilder>,
}

impl Columns {
    fn new(options: &PageFileOptions, dim: i32) -> Self {
        Self {
            rows: 0,
            text_bytes: 0,
            doc_id: StringBuilder::new(),
            page: UInt32Builder::new(),
            embeddings: TokenBuffer::new(dim, options.precision),
            text: StringBuilder::new(),
            source: StringBuilder::new(),
            content_hash: BinaryBuilder::new(),
            pixels: Default::default(),
            grid: Default::default(),
            token_patches: ListBuilder::new(ListBuilder::new(UInt16Builder::new())),
            further: options.further.iter().cloned().map(FurtherBuilder::new).collect(),
        }
    }

    fn bytes(&self) -> usize {
        self.embeddings.bytes() + self.text_bytes
    }

    /// Adds a page that was checked.
    fn push(&mut self, page: &PageRecord) {
        self.rows += 1;
        self.text_bytes += page.text.as_ref().map_or(0, String::len);
        self.doc_id.append_value(&page.doc_id);
        self.page.append_value(page.page);
        self.embeddings.push(&page.vectors.vectors);
        self.text.append_option(page.text.as_deref());
        self.source.append_option(page.source.as_deref());
        self.content_hash.append_option(page.content_hash.as_deref());
        let layout = page.vectors.layout.as_ref();
        let of = |part: fn(&PageLayout) -> u32| layout.map(part);
        for (column, pixels) in self.pixels.iter_mut().zip([of(|layout| layout.width), of(|layout| layout.height)]) {
            column.append_option(pixels);
        }
        let of = |part: fn(&PageLayout) -> u16| layout.map(part);
        let grid = [of(|layout| layout.grid_rows), of(|layout| layout.grid_cols), of(|layout| layout.first_patch)];
        for (column, number) in self.grid.iter_mut().zip(grid) {
            column.append_option(number);
        }
        let patches = layout.and_then(|layout| layout.token_patches.as_ref());
        for token in patches.into_iter().flatten() {
            self.token_patches.values().values().append_slice(token);
            self.token_patches.values().append(true);
        }
        self.token_patches.append(patches.is_some());
        for column in &mut self.further {
            column.push(&page.further);
        }
    }

    /// The waiting pages as arrays in the order of [`schema`].
    fn take(&mut self, pooled: bool) -> Result<Vec<ArrayRef>, Problem> {
        (self.rows, self.text_bytes) = (0, 0);
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(self.doc_id.finish()),
            Arc::new(self.page.finish()),
            self.embeddings.take()?,
            Arc::new(self.text.finish()),
            Arc::new(self.source.finish()),
            Arc::new(self.content_hash.finish()),
        ];
        arrays.extend(self.pixels.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        arrays.extend(self.grid.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        let token_patches = self.token_patches.finish();
        if pooled {
            arrays.push(Arc::new(token_patches));
        }
        for column in &mut self.further {
            arrays.push(column.take()?);
        }
        Ok(arrays)
    }
}
