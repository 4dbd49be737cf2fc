//! Reading training data.

use std::collections::HashSet;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use arrow::array::{Array, PrimitiveArray, RecordBatch, StringArray};
use arrow::datatypes::{Float32Type, UInt32Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;

use super::columns::{Structs, numbers, text};
use super::error::{DataError, DataProblem};
use super::{
    KEY_FINGERPRINT, KEY_GENERATION, KEY_VERSION, MinedFrom, NegativePage, PageId, PositivePage, Question,
    TrainingData, VERSION,
};

/// The most bytes a `query_id` or `doc_id` may have.
const MAX_ID_BYTES: usize = 65_000;
const POSITIVES: &str = "list<struct<doc_id utf8, page uint32, weight float32>>";
const NEGATIVES: &str = "list<struct<doc_id utf8, page uint32, score float32, origin utf8>>";

/// Reads a whole file.
///
/// # Errors
/// The file cannot be read or is damaged, is of an unknown version, lacks `query_id` or `query` or has a column in another
/// type, or a value cannot be right. The message names file, column and row.
pub fn read(path: impl AsRef<Path>) -> Result<TrainingData, DataError> {
    let path = path.as_ref();
    // The Parquet library panics on some damaged bytes where an error is due.
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| try_read(path)));
    let damaged = || DataProblem::Parquet(ParquetError::General("the data is damaged".to_owned()));
    outcome.unwrap_or_else(|_| Err(damaged())).map_err(|problem| DataError::new(path, problem))
}

fn try_read(path: &Path) -> Result<TrainingData, DataProblem> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let pairs = builder.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    let mined_from = mined_from(&pairs)?;
    let mut questions = Vec::new();
    for batch in builder.build()? {
        read_batch(&batch?, &mut questions)?;
    }
    let mut seen = HashSet::new();
    if let Some(row) = questions.iter().position(|question| !seen.insert(question.query_id.as_str())) {
        let received = format!("{:?} again", questions[row].query_id);
        return Err(DataProblem::cell(row, "query_id", "a name that no earlier row has", received));
    }
    Ok(TrainingData { questions, mined_from })
}

fn mined_from(pairs: &[KeyValue]) -> Result<Option<MinedFrom>, DataProblem> {
    let value = |key: &str| pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
    if let Some(received) = value(KEY_VERSION).filter(|version| version != VERSION) {
        return Err(DataProblem::Version { expected: VERSION, received });
    }
    let Some(generation) = value(KEY_GENERATION) else { return Ok(None) };
    let fingerprint = |text: String| {
        let refuse = |_| DataProblem::Metadata {
            key: KEY_FINGERPRINT,
            expected: "64 hexadecimal digits",
            received: text.clone(),
        };
        text.parse().map_err(refuse)
    };
    let page_fingerprint = value(KEY_FINGERPRINT).map(fingerprint).transpose()?;
    Ok(Some(MinedFrom { generation, page_fingerprint }))
}

fn read_batch(batch: &RecordBatch, questions: &mut Vec<Question>) -> Result<(), DataProblem> {
    let needed = |column: &str| {
        batch.column_by_name(column).ok_or_else(|| {
            let schema = batch.schema();
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            DataProblem::MissingColumn { column: column.to_owned(), expected: "utf8", received: names.join(", ") }
        })
    };
    let (ids, queries) = (text(needed("query_id")?, "query_id")?, text(needed("query")?, "query")?);
    let groups = batch.column_by_name("group").map(|array| text(array, "group")).transpose()?;
    let positives = batch.column_by_name("positives").map(|array| Structs::of(array, "positives", POSITIVES));
    let positives = positives.transpose()?.map(Positives::of).transpose()?;
    let negatives = batch.column_by_name("negatives").map(|array| Structs::of(array, "negatives", NEGATIVES));
    let negatives = negatives.transpose()?.map(Negatives::of).transpose()?;
    let first = questions.len();
    for row in 0..batch.num_rows() {
        let at = first + row;
        questions.push(Question {
            query_id: identifier(&ids, row, at, "query_id")?,
            query: given(&queries, row, at, "query")?.to_owned(),
            positives: positives.as_ref().map_or(Ok(Vec::new()), |positives| positives.row(row, at))?,
            negatives: negatives.as_ref().map_or(Ok(Vec::new()), |negatives| negatives.row(row, at))?,
            group: groups.as_ref().and_then(|groups| optional(groups, row)),
        });
    }
    Ok(())
}

fn given<'a>(column: &'a StringArray, row: usize, at: usize, name: &str) -> Result<&'a str, DataProblem> {
    if column.is_null(row) { Err(DataProblem::cell(at, name, "text", "null")) } else { Ok(column.value(row)) }
}

fn optional(column: &StringArray, row: usize) -> Option<String> {
    column.is_valid(row).then(|| column.value(row).to_owned())
}

fn identifier(column: &StringArray, row: usize, at: usize, name: &str) -> Result<String, DataProblem> {
    let text = given(column, row, at, name)?;
    if text.is_empty() || text.len() > MAX_ID_BYTES {
        return Err(DataProblem::cell(at, name, "text of 1 to 65000 bytes", format!("{} bytes", text.len())));
    }
    Ok(text.to_owned())
}

/// The part of both lists that names pages.
struct Pages {
    structs: Structs,
    doc_id: StringArray,
    page: PrimitiveArray<UInt32Type>,
}

impl Pages {
    fn of(structs: Structs) -> Result<Self, DataProblem> {
        let doc_id = text(structs.needed("doc_id", "utf8")?, &structs.name("doc_id"))?;
        let page = numbers(structs.needed("page", "uint32")?, &structs.name("page"), "uint32")?;
        Ok(Self { structs, doc_id, page })
    }

    fn entry(&self, entry: usize, at: usize) -> Result<PageId, DataProblem> {
        if self.structs.is_null(entry) {
            return Err(DataProblem::cell(at, &self.structs.name("item"), "a page", "null"));
        }
        let doc_id = identifier(&self.doc_id, entry, at, &self.structs.name("doc_id"))?;
        match self.page.is_valid(entry).then(|| self.page.value(entry)) {
            Some(page) if page > 0 => Ok(PageId { doc_id, page }),
            other => {
                let received = other.map_or("null".to_owned(), |page| page.to_string());
                Err(DataProblem::cell(at, &self.structs.name("page"), "a number from 1", received))
            }
        }
    }
}

struct Positives {
    pages: Pages,
    weight: Option<PrimitiveArray<Float32Type>>,
}

impl Positives {
    fn of(structs: Structs) -> Result<Self, DataProblem> {
        let weight = structs.part("weight").map(|array| numbers(array, &structs.name("weight"), "float32"));
        Ok(Self { weight: weight.transpose()?, pages: Pages::of(structs)? })
    }

    fn row(&self, row: usize, at: usize) -> Result<Vec<PositivePage>, DataProblem> {
        let entry = |entry: usize| {
            let weight = self.weight.as_ref().filter(|weight| weight.is_valid(entry));
            let weight = weight.map_or(1.0, |weight| weight.value(entry));
            if !(weight > 0.0 && weight.is_finite()) {
                return Err(DataProblem::cell(at, "positives.weight", "a number above 0", weight));
            }
            Ok(PositivePage { page: self.pages.entry(entry, at)?, weight })
        };
        self.pages.structs.entries(row).map(entry).collect()
    }
}

struct Negatives {
    pages: Pages,
    score: Option<PrimitiveArray<Float32Type>>,
    origin: Option<StringArray>,
}

impl Negatives {
    fn of(structs: Structs) -> Result<Self, DataProblem> {
        let score = structs.part("score").map(|array| numbers(array, &structs.name("score"), "float32"));
        let origin = structs.part("origin").map(|array| text(array, &structs.name("origin")));
        Ok(Self { score: score.transpose()?, origin: origin.transpose()?, pages: Pages::of(structs)? })
    }

    fn row(&self, row: usize, at: usize) -> Result<Vec<NegativePage>, DataProblem> {
        let entry = |entry: usize| {
            let score = self.score.as_ref().filter(|score| score.is_valid(entry)).map(|score| score.value(entry));
            let origin = self.origin.as_ref().and_then(|origin| optional(origin, entry));
            Ok(NegativePage { page: self.pages.entry(entry, at)?, score, origin })
        };
        self.pages.structs.entries(row).map(entry).collect()
    }
}
