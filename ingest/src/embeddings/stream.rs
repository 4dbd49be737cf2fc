//! Opening a file and reading it a few rows at a time, whatever the size of its row groups.

use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;

use super::error::{Error, Problem};
use super::schema::{self, EMBEDDINGS, FileMetadata, KEY_DIM};
use super::tokens::{self, Shape};

/// The most rows decoded at once.
const MOST_ROWS: u64 = 64;
/// About how many values of embeddings are decoded at once: 4 MiB in f32.
const VALUES_AT_ONCE: u64 = 1 << 20;

/// What distinguishes page files from query files: how a batch's columns become records.
pub(super) trait Decoder {
    /// A batch's columns, brought to one type each.
    type Columns;
    /// What a row becomes.
    type Record;

    /// Prepares a batch.
    fn columns(&self, batch: &RecordBatch) -> Result<Self::Columns, Problem>;

    /// Decodes `row` of a prepared batch, which is row `file_row` of the file.
    fn record(&self, columns: &Self::Columns, row: usize, file_row: u64) -> Result<Self::Record, Problem>;
}

/// A file whose footer and embeddings column have been checked.
pub(super) struct OpenFile {
    pub path: PathBuf,
    pub metadata: FileMetadata,
    pub schema: SchemaRef,
    /// Values per token.
    pub dim: usize,
    pub rows: u64,
    file: File,
    footer: ArrowReaderMetadata,
}

impl OpenFile {
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::try_open(path).map_err(|problem| Error::new(path, problem))
    }

    fn try_open(path: &Path) -> Result<Self, Problem> {
        let file = File::open(path).map_err(Problem::io("open the file"))?;
        let footer = caught(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()))
            .flatten()
            .map_err(|cause| Problem::NotParquet { cause })?;
        let about = footer.metadata().file_metadata();
        let metadata = FileMetadata::parse(about.key_value_metadata().map_or(&[], |pairs| pairs.as_slice()))?;
        let rows = u64::try_from(about.num_rows()).unwrap_or(0);
        let schema = footer.schema().clone();
        schema::check_names_differ(&schema)?;
        schema::check_column(&schema, EMBEDDINGS, true, tokens::EXPECTED, |found| tokens::shape_of(found).is_some())?;
        let mut open = Self { path: path.to_owned(), metadata, schema, dim: 0, rows, file, footer };
        open.dim = open.find_dim()?;
        Ok(open)
    }

    /// The column's type decides; for lists of lists the metadata does, or the first token.
    fn find_dim(&self) -> Result<usize, Problem> {
        let shape = self.schema.field_with_name(EMBEDDINGS).ok().and_then(|field| tokens::shape_of(field.data_type()));
        match (shape, self.metadata.dim) {
            (Some(Shape::Fixed(dim)), Some(said)) if dim != said => Err(Problem::Metadata {
                key: KEY_DIM,
                expected: format!("{dim}, as the type of column {EMBEDDINGS:?} says"),
                received: said.to_string(),
            }),
            (Some(Shape::Fixed(dim)), _) => Ok(dim),
            (_, Some(said)) => Ok(said),
            (_, None) => {
                let mask = self.mask(&[EMBEDDINGS]);
                let mut first = self.reader(mask, 1)?;
                let batch = next_of(&mut first).transpose().map_err(|cause| Problem::Unreadable { row: 0, cause })?;
                let column = batch.as_ref().and_then(|batch| batch.column_by_name(EMBEDDINGS));
                column.filter(|column| !column.is_empty()).and_then(|column| tokens::first_dim(column, 0)).ok_or_else(
                    || Problem::Cell {
                        row: 0,
                        column: EMBEDDINGS.to_owned(),
                        expected: "a first token that shows the dim, as neither the type nor the metadata does".into(),
                        received: "none".to_owned(),
                    },
                )
            }
        }
    }

    fn mask(&self, columns: &[&str]) -> ProjectionMask {
        let wanted = |field: &arrow::datatypes::FieldRef| columns.contains(&field.name().as_str());
        let roots = self.schema.fields().iter().enumerate().filter(|(_, field)| wanted(field)).map(|(at, _)| at);
        ProjectionMask::roots(self.footer.parquet_schema(), roots)
    }

    fn reader(&self, mask: ProjectionMask, rows_at_once: usize) -> Result<ParquetRecordBatchReader, Problem> {
        let file = self.file.try_clone().map_err(Problem::io("open the file again"))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.footer.clone());
        caught(|| builder.with_projection(mask).with_batch_size(rows_at_once).build())
            .flatten()
            .map_err(|cause| Problem::NotParquet { cause })
    }

    /// How many rows to decode at once so that a batch stays small even where pages have many tokens.
    fn rows_at_once(&self) -> usize {
        let groups = self.footer.metadata().row_groups().iter();
        let per_row = groups.flat_map(|group| {
            let rows = u64::try_from(group.num_rows()).unwrap_or(0).max(1);
            let parts = group.columns().iter();
            let values = parts.filter(|part| part.column_path().parts().first().is_some_and(|root| root == EMBEDDINGS));
            values.map(move |part| u64::try_from(part.num_values()).unwrap_or(0) / rows)
        });
        (VALUES_AT_ONCE / per_row.max().unwrap_or(0).max(1)).clamp(1, MOST_ROWS) as usize
    }

    /// The file's records, read from the named columns only.
    pub fn stream<D: Decoder>(self, columns: &[&str], decoder: D) -> Result<Stream<D>, Error> {
        let reader = self.reader(self.mask(columns), self.rows_at_once());
        let reader = reader.map_err(|problem| Error::new(&self.path, problem))?;
        Ok(Stream { open: self, decoder, reader: Some(reader), batch: None, next_row: 0 })
    }
}

/// Runs the Parquet reader, which panics on some damaged bytes where an error is due.
fn caught<T>(read: impl FnOnce() -> T) -> Result<T, ParquetError> {
    panic::catch_unwind(AssertUnwindSafe(read)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        ParquetError::General(format!("the data is damaged ({text})"))
    })
}

/// The next batch. After an error the reader must not be asked again: it may have stopped halfway.
fn next_of(reader: &mut ParquetRecordBatchReader) -> Option<Result<RecordBatch, ArrowError>> {
    caught(|| reader.next()).unwrap_or_else(|damage| Some(Err(damage.into())))
}

/// The records of a file, in order.
pub(super) struct Stream<D: Decoder> {
    pub open: OpenFile,
    pub decoder: D,
    /// Gone after an error that leaves nothing more to read.
    reader: Option<ParquetRecordBatchReader>,
    batch: Option<Prepared<D::Columns>>,
    next_row: u64,
}

struct Prepared<C> {
    columns: C,
    rows: usize,
    next: usize,
}

impl<D: Decoder> Stream<D> {
    fn next_batch(&mut self) -> Option<Result<Prepared<D::Columns>, Problem>> {
        loop {
            let batch = match next_of(self.reader.as_mut()?)? {
                Ok(batch) if batch.num_rows() == 0 => continue,
                Ok(batch) => batch,
                Err(cause) => return Some(Err(Problem::Unreadable { row: self.next_row, cause })),
            };
            let prepared = self.decoder.columns(&batch);
            return Some(prepared.map(|columns| Prepared { columns, rows: batch.num_rows(), next: 0 }));
        }
    }
}

impl<D: Decoder> Iterator for Stream<D> {
    type Item = Result<D::Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.batch.as_ref().is_none_or(|batch| batch.next == batch.rows) {
            self.batch = None;
            match self.next_batch()? {
                Ok(batch) => self.batch = Some(batch),
                Err(problem) => {
                    self.reader = None;
                    return Some(Err(Error::new(&self.open.path, problem)));
                }
            }
        }
        let batch = self.batch.as_mut()?;
        let record = self.decoder.record(&batch.columns, batch.next, self.next_row);
        batch.next += 1;
        self.next_row += 1;
        Some(record.map_err(|problem| Error::new(&self.open.path, problem)))
    }
}
