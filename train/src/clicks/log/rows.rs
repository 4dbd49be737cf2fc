//! Parquet with the columns of the JSON lines, one row per record; columns of other kinds are null or not there.

use std::fs::File;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt32Type, UInt64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::{FileRead, Position};
use crate::Error;
use crate::clicks::record::{Click, Impression, Record, RecordProblem, ShownPage, Time, VERSION, View, one_query};
use crate::data::columns::{Structs, text};
use crate::data::{DataError, DataProblem, PageId};

const SHOWN: &str = "list<struct<doc_id utf8, page uint32, rank uint32, score float32>>";

/// Reads the records of a file, unless it is known as a whole.
pub(super) fn read(path: &Path, known: &[Position], records: &mut Vec<Record>) -> Result<FileRead, Error> {
    let mut read = FileRead::new(path);
    let mut hasher = blake3::Hasher::new();
    read.position.bytes =
        File::open(path).and_then(|mut file| io::copy(&mut file, &mut hasher)).map_err(Error::io(path))?;
    read.position.blake3 = hasher.finalize().to_hex().to_string();
    let same = |known: &&Position| (known.bytes, &known.blake3) == (read.position.bytes, &read.position.blake3);
    if let Some(known) = known.iter().find(same) {
        (read.from, read.position.lines) = (read.position.bytes, known.lines);
        return Ok(read);
    }
    // The Parquet library panics on some damaged bytes where an error is due.
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| read_rows(path, &mut read, records)));
    let damaged = || DataProblem::Parquet(ParquetError::General("the data is damaged".to_owned()));
    outcome.unwrap_or_else(|_| Err(damaged())).map_err(|problem| DataError::new(path, problem))?;
    Ok(read)
}

fn read_rows(path: &Path, read: &mut FileRead, records: &mut Vec<Record>) -> Result<(), DataProblem> {
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()? {
        let batch = batch?;
        let columns = Columns::of(&batch)?;
        for row in 0..batch.num_rows() {
            read.position.lines += 1;
            read.take(read.position.lines, columns.record(row), records);
        }
    }
    Ok(())
}

/// A column; nulls if it is not there, which its rows are then told if they need it.
fn column(batch: &RecordBatch, name: &str) -> ArrayRef {
    batch.column_by_name(name).cloned().unwrap_or_else(|| new_null_array(&DataType::Null, batch.num_rows()))
}

fn refuse(array: &dyn Array, column: &str, expected: &'static str) -> DataProblem {
    DataProblem::ColumnType { column: column.to_owned(), expected, received: array.data_type().to_string() }
}

/// A column as numbers; values that do not fit become null, so that only their rows are bad.
fn number(array: &dyn Array, name: &str, to: &DataType, expected: &'static str) -> Result<ArrayRef, DataProblem> {
    let fits = array.data_type().is_numeric() || *array.data_type() == DataType::Null;
    if fits { Ok(cast(array, to)?) } else { Err(refuse(array, name, expected)) }
}

/// Moments as text, or as timestamps that know their zone.
enum Times {
    Text(StringArray),
    Micros(ArrayRef),
}

impl Times {
    fn of(array: &dyn Array) -> Result<Self, DataProblem> {
        match array.data_type() {
            DataType::Timestamp(_, Some(_)) => {
                let to = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
                Ok(Self::Micros(cast(array, &to)?))
            }
            DataType::Timestamp(_, None) => Err(refuse(array, "time", "utf8, or timestamp with a time zone")),
            _ => Ok(Self::Text(text(array, "time")?)),
        }
    }

    fn get(&self, row: usize) -> Result<Time, RecordProblem> {
        match self {
            Self::Text(texts) => needed(texts, row, "time")?.parse(),
            Self::Micros(micros) if micros.is_valid(row) => {
                Time::from_micros(micros.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            Self::Micros(_) => Err(missing("time")),
        }
    }
}

fn missing(what: &str) -> RecordProblem {
    RecordProblem(format!("{what}: expected a value in range, received none"))
}

fn optional(texts: &StringArray, row: usize) -> Option<String> {
    texts.is_valid(row).then(|| texts.value(row).to_owned())
}

fn needed(texts: &StringArray, row: usize, what: &str) -> Result<String, RecordProblem> {
    optional(texts, row).ok_or_else(|| missing(what))
}

fn small(numbers: &ArrayRef, row: usize, what: &str) -> Result<u32, RecordProblem> {
    let numbers = numbers.as_primitive::<UInt32Type>();
    if numbers.is_valid(row) { Ok(numbers.value(row)) } else { Err(missing(what)) }
}

struct Columns {
    v: ArrayRef,
    kind: StringArray,
    id: StringArray,
    time: Times,
    session: StringArray,
    query: StringArray,
    query_hmac: StringArray,
    shown: Option<Shown>,
    generation: StringArray,
    query_fingerprint: StringArray,
    randomised: Option<BooleanArray>,
    impression: StringArray,
    rank: ArrayRef,
    dwell_ms: ArrayRef,
    dwell_given: ArrayRef,
    depth: ArrayRef,
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self, DataProblem> {
        let texts = |name: &str| text(&column(batch, name), name);
        let small = |name: &str| number(&column(batch, name), name, &DataType::UInt32, "uint32");
        let randomised = column(batch, "randomised");
        let randomised = match randomised.data_type() {
            DataType::Boolean => Some(randomised.as_boolean().clone()),
            DataType::Null => None,
            _ => return Err(refuse(&randomised, "randomised", "boolean")),
        };
        let generation = column(batch, "generation");
        let generation = match generation.data_type() {
            other if other.is_integer() => cast(&generation, &DataType::Utf8)?.as_string::<i32>().clone(),
            _ => text(&generation, "generation")?,
        };
        if batch.column_by_name("kind").is_none() {
            let schema = batch.schema();
            let received: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let received = received.join(", ");
            return Err(DataProblem::MissingColumn { column: "kind".to_owned(), expected: "utf8", received });
        }
        let dwell = column(batch, "dwell_ms");
        Ok(Self {
            v: small("v")?,
            kind: texts("kind")?,
            id: texts("id")?,
            time: Times::of(&column(batch, "time"))?,
            session: texts("session")?,
            query: texts("query")?,
            query_hmac: texts("query_hmac")?,
            shown: batch.column_by_name("shown").map(Shown::of).transpose()?,
            generation,
            query_fingerprint: texts("query_fingerprint")?,
            randomised,
            impression: texts("impression")?,
            rank: small("rank")?,
            dwell_ms: number(&dwell, "dwell_ms", &DataType::UInt64, "uint64")?,
            dwell_given: number(&dwell, "dwell_ms", &DataType::Int64, "uint64")?,
            depth: small("depth")?,
        })
    }

    fn record(&self, row: usize) -> Result<Record, RecordProblem> {
        let version = small(&self.v, row, "v")?;
        if version != VERSION {
            return Err(RecordProblem(format!("v: expected 1, received {version}")));
        }
        let record = match needed(&self.kind, row, "kind")?.as_str() {
            "impression" => Record::Impression(self.impression(row)?),
            "click" => Record::Click(self.click(row)?),
            "view" => Record::View(View {
                impression: needed(&self.impression, row, "impression")?,
                depth: small(&self.depth, row, "depth")?,
            }),
            other => {
                return Err(RecordProblem(format!("kind: expected impression, click or view, received {other:?}")));
            }
        };
        record.checked()
    }

    fn impression(&self, row: usize) -> Result<Impression, RecordProblem> {
        Ok(Impression {
            id: needed(&self.id, row, "id")?,
            time: self.time.get(row)?,
            session: needed(&self.session, row, "session")?,
            query: one_query(optional(&self.query, row), optional(&self.query_hmac, row))?,
            shown: self.shown.as_ref().ok_or_else(|| missing("shown"))?.row(row)?,
            generation: optional(&self.generation, row),
            query_fingerprint: optional(&self.query_fingerprint, row),
            randomised: self.randomised.as_ref().is_some_and(|column| column.is_valid(row) && column.value(row)),
        })
    }

    fn click(&self, row: usize) -> Result<Click, RecordProblem> {
        let (dwell, given) = (self.dwell_ms.as_primitive::<UInt64Type>(), self.dwell_given.as_primitive::<Int64Type>());
        if dwell.is_null(row) && given.is_valid(row) {
            return Err(RecordProblem(format!("dwell_ms: expected 0 or more, received {}", given.value(row))));
        }
        Ok(Click {
            impression: needed(&self.impression, row, "impression")?,
            time: self.time.get(row)?,
            rank: small(&self.rank, row, "rank")?,
            dwell_ms: dwell.is_valid(row).then(|| dwell.value(row)),
        })
    }
}

struct Shown {
    structs: Structs,
    doc_id: StringArray,
    page: ArrayRef,
    rank: ArrayRef,
    score: Option<ArrayRef>,
}

impl Shown {
    fn of(array: &ArrayRef) -> Result<Self, DataProblem> {
        let structs = Structs::of(array, "shown", SHOWN)?;
        let small =
            |part: &str| number(structs.needed(part, "uint32")?, &structs.name(part), &DataType::UInt32, "uint32");
        let score = |array: &ArrayRef| number(array, &structs.name("score"), &DataType::Float32, "float32");
        Ok(Self {
            doc_id: text(structs.needed("doc_id", "utf8")?, &structs.name("doc_id"))?,
            page: small("page")?,
            rank: small("rank")?,
            score: structs.part("score").map(score).transpose()?,
            structs,
        })
    }

    fn row(&self, row: usize) -> Result<Vec<ShownPage>, RecordProblem> {
        let page = |entry: usize| {
            let page = PageId {
                doc_id: needed(&self.doc_id, entry, "shown.doc_id")?,
                page: small(&self.page, entry, "shown.page")?,
            };
            let score = self.score.as_ref().map(|score| score.as_primitive::<Float32Type>());
            let score = score.filter(|score| score.is_valid(entry)).map(|score| score.value(entry));
            Ok(ShownPage { page, rank: small(&self.rank, entry, "shown.rank")?, score })
        };
        self.structs.entries(row).map(page).collect()
    }
}
