//! Query files: encoded queries to be searched in a batch.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use colqwen_index_field::{Origin, QueryVectors};

use super::cells;
use super::error::{Error, Problem};
use super::further::is_text;
use super::reader::{ReadOptions, gone, multi_vector, named};
use super::schema::{self, EMBEDDINGS, FileMetadata, Precision, QUERY_ID, TEXT};
use super::sink::{GROUP_BYTES, GROUP_ROWS, Sink};
use super::stream::{Decoder, OpenFile, Stream};
use super::tokens::TokenBuffer;
use super::writer::{check_vectors, checked_dim};

/// The most bytes a `query_id` may have.
const MAX_QUERY_ID_BYTES: usize = 65_000;

/// One query of a query file.
#[derive(Clone, PartialEq, Debug)]
pub struct QueryRecord {
    /// Its name in the results, never empty.
    pub query_id: String,
    /// The text that was encoded.
    pub text: Option<String>,
    /// `query tokens x dim`, with the page fingerprint of the pages it is for.
    pub vectors: QueryVectors,
}

/// Streams the queries of a file. Other columns than `query_id`, `text` and `embeddings` are not read.
///
/// As an iterator it goes on after a row that is refused; after an error of the file itself it ends.
pub struct QueryReader {
    stream: Stream<QueryDecoder>,
}

impl QueryReader {
    /// Opens a file whose vectors have unit length.
    ///
    /// # Errors
    /// The file cannot be read, is of an unknown version, lacks `query_id` or `embeddings` or has them in another
    /// type, or its metadata contradicts its columns.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, ReadOptions::default())
    }

    /// Opens a file.
    ///
    /// # Errors
    /// As [`QueryReader::open`].
    pub fn open_with(path: impl AsRef<Path>, options: ReadOptions) -> Result<Self, Error> {
        let open = OpenFile::open(path.as_ref())?;
        let checked = schema::check_column(&open.schema, QUERY_ID, true, "utf8", is_text)
            .and_then(|_| schema::check_column(&open.schema, TEXT, false, "utf8", is_text));
        checked.map_err(|problem| Error::new(&open.path, problem))?;
        let decoder = QueryDecoder { dim: open.dim, origin: open.metadata.origin, options };
        Ok(Self { stream: open.stream(&[QUERY_ID, TEXT, EMBEDDINGS], decoder)? })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.stream.open.path
    }

    /// Values per token.
    pub fn dim(&self) -> usize {
        self.stream.open.dim
    }

    /// The model whose pages the queries are for.
    pub fn origin(&self) -> Origin {
        self.stream.open.metadata.origin
    }

    /// What the file says about itself.
    pub fn metadata(&self) -> &FileMetadata {
        &self.stream.open.metadata
    }

    /// The number of queries in the file.
    pub fn rows(&self) -> u64 {
        self.stream.open.rows
    }
}

impl Iterator for QueryReader {
    type Item = Result<QueryRecord, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.stream.next()
    }
}

struct QueryDecoder {
    dim: usize,
    origin: Origin,
    options: ReadOptions,
}

struct QueryColumns {
    query_id: StringArray,
    text: Option<StringArray>,
    embeddings: ArrayRef,
}

impl Decoder for QueryDecoder {
    type Columns = QueryColumns;
    type Record = QueryRecord;

    fn columns(&self, batch: &RecordBatch) -> Result<QueryColumns, Problem> {
        Ok(QueryColumns {
            query_id: cells::text(batch, QUERY_ID)?.ok_or_else(|| gone(QUERY_ID))?,
            text: cells::text(batch, TEXT)?,
            embeddings: named(batch, EMBEDDINGS)?,
        })
    }

    fn record(&self, columns: &QueryColumns, row: usize, file_row: u64) -> Result<QueryRecord, Problem> {
        let query_id = cells::identifier(&columns.query_id, row, MAX_QUERY_ID_BYTES);
        let vectors = multi_vector(&columns.embeddings, row, file_row, self.dim, self.options)?;
        Ok(QueryRecord {
            query_id: query_id.map_err(|mismatch| mismatch.at(QUERY_ID, file_row))?,
            text: cells::optional_text(columns.text.as_ref(), row),
            vectors: QueryVectors::new(vectors).with_origin(self.origin),
        })
    }
}

/// What is fixed when a query file is created.
#[derive(Clone, PartialEq, Debug)]
pub struct QueryFileOptions {
    /// Values per token.
    pub dim: usize,
    /// The page fingerprint of the pages that all queries are for.
    pub origin: Origin,
    /// Type of the values written.
    pub precision: Precision,
    /// How the model's queries are put together, if known.
    pub query_format: Option<String>,
}

impl QueryFileOptions {
    /// Queries of `dim` values per token, for pages of an unknown model, in f32.
    pub fn new(dim: usize) -> Self {
        Self { dim, origin: Origin::Unknown, precision: Precision::F32, query_format: None }
    }
}

/// Writes a query file. It appears under its name in [`QueryWriter::finish`]; dropped before that, the writer leaves
/// nothing behind.
pub struct QueryWriter {
    path: PathBuf,
    sink: Sink,
    options: QueryFileOptions,
    query_id: StringBuilder,
    text: StringBuilder,
    embeddings: TokenBuffer,
    waiting: usize,
    written: u64,
}

impl QueryWriter {
    /// Starts a file; one that is there already stays as it is until [`QueryWriter::finish`] replaces it.
    ///
    /// # Errors
    /// The folder cannot be written to, or `dim` is zero.
    pub fn create(path: impl AsRef<Path>, options: QueryFileOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::try_create(path, options).map_err(|problem| Error::new(path, problem))
    }

    fn try_create(path: &Path, options: QueryFileOptions) -> Result<Self, Problem> {
        let dim = checked_dim(options.dim)?;
        let schema = Schema::new(vec![
            Field::new(QUERY_ID, DataType::Utf8, false),
            Field::new(TEXT, DataType::Utf8, true),
            TokenBuffer::field(EMBEDDINGS, dim, options.precision),
        ]);
        let metadata =
            FileMetadata::written(options.dim, options.origin, options.precision, options.query_format.as_deref());
        Ok(Self {
            path: path.to_owned(),
            sink: Sink::create(path, schema, metadata)?,
            query_id: StringBuilder::new(),
            text: StringBuilder::new(),
            embeddings: TokenBuffer::new(dim, options.precision),
            options,
            waiting: 0,
            written: 0,
        })
    }

    /// Adds a query.
    ///
    /// # Errors
    /// The query has another dim or model than the file, or no or too long a `query_id`; nothing of it is written
    /// then. Or the disk is full.
    pub fn write(&mut self, query: &QueryRecord) -> Result<(), Error> {
        self.try_write(query).map_err(|problem| Error::new(&self.path, problem))
    }

    fn try_write(&mut self, query: &QueryRecord) -> Result<(), Problem> {
        let vectors = &query.vectors;
        cells::check_identifier(&query.query_id, MAX_QUERY_ID_BYTES)
            .map_err(|mismatch| mismatch.at(QUERY_ID, self.written))?;
        check_vectors(vectors.vectors.dim(), vectors.origin, self.options.dim, self.options.origin)
            .map_err(|mismatch| mismatch.at(EMBEDDINGS, self.written))?;
        self.query_id.append_value(&query.query_id);
        self.text.append_option(query.text.as_deref());
        self.embeddings.push(&vectors.vectors);
        self.waiting += 1;
        self.written += 1;
        if self.waiting >= GROUP_ROWS || self.embeddings.bytes() >= GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Problem> {
        if self.waiting > 0 {
            self.waiting = 0;
            let embeddings = self.embeddings.take()?;
            self.sink.write_group(vec![Arc::new(self.query_id.finish()), Arc::new(self.text.finish()), embeddings])?;
        }
        Ok(())
    }

    /// The number of queries added.
    pub fn rows(&self) -> u64 {
        self.written
    }

    /// Completes the file, flushes it to disk and gives it its name; returns the number of queries.
    ///
    /// # Errors
    /// The disk is full or the file cannot be renamed.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.flush().and_then(|()| self.sink.finish()).map_err(|problem| Error::new(&self.path, problem))?;
        Ok(self.written)
    }
}
