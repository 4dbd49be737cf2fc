//! Writing a cache of hidden states.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, FixedSizeListArray, Float16Array, ListArray, RecordBatch, StringArray, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use colqwen_index_field::Fingerprint;
use colqwen_index_ingest::colqwen2::HiddenStates;
use colqwen_index_ingest::whole_file::WholeFile;
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::{HIDDEN, KEY_BACKBONE, KEY_VERSION, Key, Kind, VERSION};
use crate::data::{DataError, DataProblem};

/// A row group ends at this size: about what has to be read for one page.
const GROUP_BYTES: usize = 4 << 20;

/// Writes a cache. It appears under its name in [`HiddenWriter::finish`]; dropped before that, the writer leaves nothing
/// behind.
pub struct HiddenWriter {
    path: PathBuf,
    writer: ArrowWriter<WholeFile>,
    schema: SchemaRef,
    kind: Kind,
    width: usize,
    waiting: Vec<(Key, Option<Vec<u8>>, HiddenStates)>,
    bytes: usize,
    seen: HashSet<Key>,
}

impl HiddenWriter {
    /// Starts a cache of states with `width` values per token, made by the model with this backbone.
    ///
    /// # Errors
    /// The folder cannot be written to, or the width does not fit.
    pub fn create(path: impl AsRef<Path>, kind: Kind, width: usize, backbone: Fingerprint) -> Result<Self, DataError> {
        let path = path.as_ref();
        Self::try_create(path, kind, width, backbone).map_err(|problem| DataError::new(path, problem))
    }

    fn try_create(path: &Path, kind: Kind, width: usize, backbone: Fingerprint) -> Result<Self, DataProblem> {
        let side = i32::try_from(width).ok().filter(|width| *width > 0);
        let side = side.ok_or_else(|| DataProblem::cell(0, HIDDEN, "from 1 to 2^31 values per token", width))?;
        let token = DataType::FixedSizeList(Field::new("item", DataType::Float16, false).into(), side);
        let hidden = Field::new(HIDDEN, DataType::List(Field::new("item", token, false).into()), false);
        let mut fields = match kind {
            Kind::Pages => {
                vec![Field::new("doc_id", DataType::Utf8, false), Field::new("page", DataType::UInt32, false)]
            }
            Kind::Queries => vec![Field::new("query", DataType::Utf8, false)],
        };
        fields.push(hidden);
        if kind == Kind::Pages {
            fields.push(Field::new("content_hash", DataType::Binary, true));
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let pairs = vec![
            KeyValue::new(KEY_VERSION.to_owned(), VERSION.to_owned()),
            KeyValue::new(KEY_BACKBONE.to_owned(), backbone.to_string()),
        ];
        // Hidden states hardly compress, and are read far more often than written.
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_created_by(concat!("colqwen-index ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_key_value_metadata(Some(pairs));
        let writer = ArrowWriter::try_new(WholeFile::create(path)?, schema.clone(), Some(properties.build()))?;
        Ok(Self {
            path: path.to_owned(),
            writer,
            schema,
            kind,
            width,
            waiting: Vec::new(),
            bytes: 0,
            seen: HashSet::new(),
        })
    }

    /// Adds a page or query; `content_hash` is that of a page's file.
    ///
    /// # Errors
    /// It was added before, is of the other kind or has another width; nothing of it is written then. Or the disk is full.
    pub fn write(&mut self, key: &Key, content_hash: Option<&[u8]>, states: HiddenStates) -> Result<(), DataError> {
        self.try_write(key, content_hash, states).map_err(|problem| DataError::new(&self.path, problem))
    }

    fn try_write(&mut self, key: &Key, hash: Option<&[u8]>, states: HiddenStates) -> Result<(), DataProblem> {
        let row = self.seen.len();
        if states.width() != self.width {
            let received = format!("{}, not {}, for {key}", states.width(), self.width);
            return Err(DataProblem::cell(row, HIDDEN, "as many values per token as all rows have", received));
        }
        let column = match (self.kind, key) {
            (Kind::Pages, Key::Page(_)) => "doc_id",
            (Kind::Queries, Key::Query(_)) => "query",
            _ => return Err(DataProblem::cell(row, HIDDEN, "pages only, or queries only", key)),
        };
        if !self.seen.insert(key.clone()) {
            return Err(DataProblem::cell(row, column, "each page or query once", format!("{key} again")));
        }
        self.bytes += size_of_val(states.values());
        self.waiting.push((key.clone(), hash.map(<[u8]>::to_vec), states));
        if self.bytes >= GROUP_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), DataProblem> {
        let rows = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        if rows.is_empty() {
            return Ok(());
        }
        let names = rows.iter().map(|(key, ..)| match key {
            Key::Page(page) => page.doc_id.as_str(),
            Key::Query(query) => query.as_str(),
        });
        let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(names))];
        if self.kind == Kind::Pages {
            let pages = rows.iter().filter_map(|(key, ..)| match key {
                Key::Page(page) => Some(page.page),
                Key::Query(_) => None,
            });
            columns.push(Arc::new(UInt32Array::from_iter_values(pages)));
        }
        columns.push(self.hidden(&rows)?);
        if self.kind == Kind::Pages {
            columns.push(Arc::new(BinaryArray::from_iter(rows.iter().map(|(_, hash, _)| hash.as_deref()))));
        }
        self.writer.write(&RecordBatch::try_new(self.schema.clone(), columns)?)?;
        Ok(self.writer.flush()?)
    }

    fn hidden(&self, rows: &[(Key, Option<Vec<u8>>, HiddenStates)]) -> Result<ArrayRef, DataProblem> {
        let values: Vec<f16> = rows.iter().flat_map(|(.., states)| states.values()).copied().collect();
        let item = Field::new("item", DataType::Float16, false);
        let values = Arc::new(Float16Array::from(values));
        let tokens = FixedSizeListArray::try_new(item.into(), self.width as i32, values, None)?;
        let item = Field::new("item", tokens_type(&tokens), false);
        let offsets = OffsetBuffer::<i32>::from_lengths(rows.iter().map(|(.., states)| states.tokens()));
        Ok(Arc::new(ListArray::try_new(item.into(), offsets, Arc::new(tokens), None)?))
    }

    /// Completes the file, flushes it to disk and gives it its name; returns the number of rows.
    ///
    /// # Errors
    /// The disk is full or the file cannot be renamed.
    pub fn finish(mut self) -> Result<usize, DataError> {
        let rows = self.seen.len();
        let path = self.path.clone();
        let finish = || {
            self.flush()?;
            Ok::<_, DataProblem>(self.writer.into_inner()?.finish()?)
        };
        finish().map_err(|problem| DataError::new(&path, problem))?;
        Ok(rows)
    }
}

fn tokens_type(tokens: &FixedSizeListArray) -> DataType {
    use arrow::array::Array;
    tokens.data_type().clone()
}
