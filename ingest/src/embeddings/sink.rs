//! The file being written: complete under its name, or not there at all.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::error::Problem;
use super::schema::{CONTENT_HASH, EMBEDDINGS, TEXT};
use crate::whole_file::WholeFile;

/// A row group ends at this size of embeddings and text, before compression: what a reader of whole groups must hold.
pub(super) const GROUP_BYTES: usize = 16 << 20;
/// A row group ends at this many rows.
pub(super) const GROUP_ROWS: usize = 1024;

/// Writes row groups to a temporary file beside `path`, which takes the name `path` when it is complete.
pub(super) struct Sink {
    writer: ArrowWriter<WholeFile>,
    schema: SchemaRef,
}

impl Sink {
    pub fn create(path: &Path, schema: Schema, metadata: Vec<KeyValue>) -> Result<Self, Problem> {
        // In the Arrow schema, too, so that programs which read and rewrite the table keep it.
        let pairs = metadata.iter().filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?))).collect();
        let schema = Arc::new(schema.with_metadata(pairs));
        let properties = properties(&schema, metadata)?;
        let file = WholeFile::create(path).map_err(Problem::io("create the file"))?;
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))
            .map_err(|cause| Problem::Unwritable { cause })?;
        Ok(Self { writer, schema })
    }

    /// Writes one row group, a column per field of the schema.
    pub fn write_group(&mut self, columns: Vec<ArrayRef>) -> Result<(), Problem> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.writer.write(&batch).and_then(|()| self.writer.flush()).map_err(|cause| Problem::Unwritable { cause })
    }

    /// Completes the file and gives it its name, replacing a file that had it.
    pub fn finish(self) -> Result<(), Problem> {
        let file = self.writer.into_inner().map_err(|cause| Problem::Unwritable { cause })?;
        file.finish().map_err(Problem::io("complete the file"))
    }
}

fn properties(schema: &Schema, metadata: Vec<KeyValue>) -> Result<WriterProperties, Problem> {
    let parquet = ArrowSchemaConverter::new().convert(schema).map_err(|cause| Problem::Unwritable { cause })?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(metadata))
        .set_created_by(concat!("colqwen-index ", env!("CARGO_PKG_VERSION")).to_owned());
    for column in parquet.columns() {
        // Values that hardly ever repeat and that nobody filters by: dictionaries and minima would only cost.
        let root = column.path().parts().first().map_or("", String::as_str);
        if [EMBEDDINGS, TEXT, CONTENT_HASH].contains(&root) {
            properties = properties
                .set_column_dictionary_enabled(column.path().clone(), false)
                .set_column_statistics_enabled(column.path().clone(), EnabledStatistics::None);
        }
    }
    Ok(properties.build())
}
