//! The file being written: complete under its name, or not there at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::error::Problem;
use super::schema::{CONTENT_HASH, EMBEDDINGS, TEXT};

/// A row group ends at this size of embeddings and text, before compression: what a reader of whole groups must hold.
pub(super) const GROUP_BYTES: usize = 16 << 20;
/// A row group ends at this many rows.
pub(super) const GROUP_ROWS: usize = 1024;

/// Writes row groups to a temporary file beside `path`, which takes the name `path` when it is complete.
pub(super) struct Sink {
    // Before `pending`, so that a dropped writer has closed its file when that is removed.
    writer: ArrowWriter<File>,
    schema: SchemaRef,
    pending: Pending,
}

impl Sink {
    pub fn create(path: &Path, schema: Schema, metadata: Vec<KeyValue>) -> Result<Self, Problem> {
        // In the Arrow schema, too, so that programs which read and rewrite the table keep it.
        let pairs = metadata.iter().filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?))).collect();
        let schema = Arc::new(schema.with_metadata(pairs));
        let properties = properties(&schema, metadata)?;
        let (pending, file) = Pending::create(path)?;
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))
            .map_err(|cause| Problem::Unwritable { cause })?;
        Ok(Self { writer, schema, pending })
    }

    /// Writes one row group, a column per field of the schema.
    pub fn write_group(&mut self, columns: Vec<ArrayRef>) -> Result<(), Problem> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.writer.write(&batch).and_then(|()| self.writer.flush()).map_err(|cause| Problem::Unwritable { cause })
    }

    /// Completes the file and gives it its name, replacing a file that had it.
    pub fn finish(self) -> Result<(), Problem> {
        let file = self.writer.into_inner().map_err(|cause| Problem::Unwritable { cause })?;
        file.sync_all().map_err(Problem::io("flush the file to disk"))?;
        self.pending.rename()
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

/// A file under a temporary name, removed on drop unless it was renamed.
struct Pending {
    temporary: PathBuf,
    path: PathBuf,
    renamed: bool,
}

impl Pending {
    fn create(path: &Path) -> Result<(Self, File), Problem> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().ok_or_else(|| {
            Problem::io("create the file")(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "the path has no name",
            ))
        })?;
        // Hidden, and not ending in .parquet, so that nobody takes the rest of a killed run for a complete file.
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".tmp-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let temporary = path.with_file_name(temporary);
        let file = File::create(&temporary).map_err(Problem::io("create the file"))?;
        Ok((Self { temporary, path: path.to_owned(), renamed: false }, file))
    }

    fn rename(mut self) -> Result<(), Problem> {
        fs::rename(&self.temporary, &self.path).map_err(Problem::io("rename the complete file"))?;
        self.renamed = true;
        // The rename itself lasts only once the folder is on disk; elsewhere folders cannot be opened.
        if cfg!(unix) {
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(Problem::io("open the folder"))?;
            folder.sync_all().map_err(Problem::io("flush the folder to disk"))?;
        }
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.renamed {
            // Nothing can be done about a failure here, and a hidden file left behind does no harm.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
