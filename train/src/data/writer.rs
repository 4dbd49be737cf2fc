//! Writing training data.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, ListArray, RecordBatch, StringArray, StructArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use colqwen_index_ingest::whole_file::WholeFile;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::error::{DataError, DataProblem};
use super::{KEY_FINGERPRINT, KEY_GENERATION, KEY_VERSION, PageId, Question, TrainingData, VERSION};

/// Queries per row group.
const GROUP_ROWS: usize = 8192;

/// Writes a whole file; it appears under its name complete or not at all.
///
/// # Errors
/// The folder cannot be written to, or the disk is full.
pub fn write(path: impl AsRef<Path>, data: &TrainingData) -> Result<(), DataError> {
    let path = path.as_ref();
    try_write(path, data).map_err(|problem| DataError::new(path, problem))
}

fn try_write(path: &Path, data: &TrainingData) -> Result<(), DataProblem> {
    let mut pairs = vec![KeyValue::new(KEY_VERSION.to_owned(), VERSION.to_owned())];
    if let Some(mined) = &data.mined_from {
        pairs.push(KeyValue::new(KEY_GENERATION.to_owned(), mined.generation.clone()));
        let fingerprint = mined.page_fingerprint.map(|fingerprint| fingerprint.to_string());
        pairs.extend(fingerprint.map(|text| KeyValue::new(KEY_FINGERPRINT.to_owned(), text)));
    }
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("colqwen-index ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(pairs));
    let file = WholeFile::create(path)?;
    let mut writer = ArrowWriter::try_new(file, schema(), Some(properties.build()))?;
    for questions in data.questions.chunks(GROUP_ROWS) {
        writer.write(&rows(questions)?)?;
        writer.flush()?;
    }
    Ok(writer.into_inner()?.finish()?)
}

fn positive_fields() -> Fields {
    Fields::from(vec![
        Field::new("doc_id", DataType::Utf8, false),
        Field::new("page", DataType::UInt32, false),
        Field::new("weight", DataType::Float32, false),
    ])
}

fn negative_fields() -> Fields {
    Fields::from(vec![
        Field::new("doc_id", DataType::Utf8, false),
        Field::new("page", DataType::UInt32, false),
        Field::new("score", DataType::Float32, true),
        Field::new("origin", DataType::Utf8, true),
    ])
}

fn list_field(name: &str, fields: Fields) -> Field {
    Field::new(name, DataType::List(Field::new("item", DataType::Struct(fields), false).into()), false)
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("query_id", DataType::Utf8, false),
        Field::new("query", DataType::Utf8, false),
        list_field("positives", positive_fields()),
        list_field("negatives", negative_fields()),
        Field::new("group", DataType::Utf8, true),
    ]))
}

fn rows(questions: &[Question]) -> Result<RecordBatch, DataProblem> {
    let text =
        |of: fn(&Question) -> &str| Arc::new(StringArray::from_iter_values(questions.iter().map(of))) as ArrayRef;
    let positives: Vec<_> = questions.iter().flat_map(|question| &question.positives).collect();
    let weights = Float32Array::from_iter_values(positives.iter().map(|positive| positive.weight));
    let mut parts = pages(positives.iter().map(|positive| &positive.page));
    parts.push(Arc::new(weights));
    let positives = lists(questions.iter().map(|question| question.positives.len()), positive_fields(), parts)?;

    let negatives: Vec<_> = questions.iter().flat_map(|question| &question.negatives).collect();
    let mut parts = pages(negatives.iter().map(|negative| &negative.page));
    parts.push(Arc::new(Float32Array::from_iter(negatives.iter().map(|negative| negative.score))));
    parts.push(Arc::new(StringArray::from_iter(negatives.iter().map(|negative| negative.origin.as_deref()))));
    let negatives = lists(questions.iter().map(|question| question.negatives.len()), negative_fields(), parts)?;

    let groups: ArrayRef = Arc::new(StringArray::from_iter(questions.iter().map(|question| question.group.as_deref())));
    let columns =
        vec![text(|question| &question.query_id), text(|question| &question.query), positives, negatives, groups];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn pages<'a>(pages: impl Iterator<Item = &'a PageId> + Clone) -> Vec<ArrayRef> {
    vec![
        Arc::new(StringArray::from_iter_values(pages.clone().map(|page| page.doc_id.as_str()))),
        Arc::new(UInt32Array::from_iter_values(pages.map(|page| page.page))),
    ]
}

fn lists(lengths: impl Iterator<Item = usize>, fields: Fields, parts: Vec<ArrayRef>) -> Result<ArrayRef, DataProblem> {
    let entries = parts.first().map_or(0, |part| part.len());
    let structs = StructArray::try_new_with_length(fields.clone(), parts, None, entries)?;
    let item = Field::new("item", DataType::Struct(fields), false);
    let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(item.into(), offsets, Arc::new(structs), None)?))
}
