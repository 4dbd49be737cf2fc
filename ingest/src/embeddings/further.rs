//! Further columns: what a page carries besides the format's own columns, and how the index can store it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, TimeUnit, UInt64Type};
use arrow::error::ArrowError;

use serde::{Deserialize, Serialize};

use super::error::{Mismatch, Problem};

const EXPECTED: &str = "integers, floats, bool, timestamps, utf8, or a list of one of these";

/// The kinds of values that a further column can hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FurtherKind {
    /// Unsigned integers of any width, read as 64 bits.
    U64,
    /// Signed integers of any width, read as 64 bits.
    I64,
    /// Floats of any width, read as 64 bits.
    F64,
    /// true or false.
    Bool,
    /// Timestamps of any unit, as microseconds since 1970 in UTC. A timestamp without a zone counts as UTC; what is
    /// finer than a microsecond is cut off.
    Timestamp,
    /// Text.
    Str,
}

impl FurtherKind {
    fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Self::U64,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Self::I64,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Self::F64,
            DataType::Boolean => Self::Bool,
            DataType::Timestamp(_, _) => Self::Timestamp,
            other if is_text(other) => Self::Str,
            _ => return None,
        })
    }

    /// The type that is read into memory; timestamps keep their unit until [`FurtherReader::at`].
    fn read_as(self) -> DataType {
        match self {
            Self::U64 => DataType::UInt64,
            Self::I64 | Self::Timestamp => DataType::Int64,
            Self::F64 => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Str => DataType::Utf8,
        }
    }

    pub(super) fn written_as(self) -> DataType {
        match self {
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            other => other.read_as(),
        }
    }
}

/// Whether a column type is text, in any of Arrow's encodings.
pub(super) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// A column beyond the format's own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FurtherColumn {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub kind: FurtherKind,
    /// Whether each row holds a list of such values.
    pub list: bool,
}

impl FurtherColumn {
    /// A column with one value (or none) per row.
    pub fn one(name: impl Into<String>, kind: FurtherKind) -> Self {
        Self { name: name.into(), kind, list: false }
    }

    /// A column with a list of values (or none) per row.
    pub fn many(name: impl Into<String>, kind: FurtherKind) -> Self {
        Self { name: name.into(), kind, list: true }
    }

    /// The column that a field of a file is read as.
    pub(super) fn of(field: &Field) -> Result<Self, Problem> {
        let (scalar, list) = match field.data_type() {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                (item.data_type(), true)
            }
            scalar => (scalar, false),
        };
        match FurtherKind::of(scalar) {
            Some(kind) => Ok(Self { name: field.name().clone(), kind, list }),
            None => Err(Problem::ColumnType {
                column: field.name().clone(),
                expected: EXPECTED,
                received: field.data_type().to_string(),
            }),
        }
    }

    /// The field that this column is written as.
    pub(super) fn field(&self) -> Field {
        Field::new(&self.name, self.typed(self.kind.written_as()), true)
    }

    fn typed(&self, scalar: DataType) -> DataType {
        if self.list { DataType::List(Arc::new(Field::new("item", scalar, true))) } else { scalar }
    }
}

/// A value of a further column.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// An unsigned integer.
    U64(u64),
    /// A signed integer.
    I64(i64),
    /// A float.
    F64(f64),
    /// true or false.
    Bool(bool),
    /// Microseconds since 1970-01-01 00:00 UTC.
    TimestampMicros(i64),
    /// Text.
    Str(String),
    /// The values of a list column, without its nulls.
    List(Vec<Value>),
}

/// Reads one further column.
pub(super) struct FurtherReader {
    pub column: FurtherColumn,
    unit: TimeUnit,
}

impl FurtherReader {
    pub fn new(field: &Field) -> Result<Self, Problem> {
        let scalar = match field.data_type() {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => item.data_type(),
            scalar => scalar,
        };
        let unit = if let DataType::Timestamp(unit, _) = scalar { *unit } else { TimeUnit::Microsecond };
        Ok(Self { column: FurtherColumn::of(field)?, unit })
    }

    /// A batch of the column in the one type per kind that [`FurtherReader::at`] looks into.
    pub fn prepare(&self, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        cast(array, &self.column.typed(self.column.kind.read_as()))
    }

    /// The value in `row` of a prepared batch; `None` for null.
    pub fn at(&self, prepared: &ArrayRef, row: usize) -> Result<Option<Value>, Mismatch> {
        if prepared.is_null(row) {
            return Ok(None);
        }
        if !self.column.list {
            return self.scalar(prepared, row).map(Some);
        }
        let items = prepared.as_list::<i32>().value(row);
        let present = (0..items.len()).filter(|item| items.is_valid(*item));
        Ok(Some(Value::List(present.map(|item| self.scalar(&items, item)).collect::<Result<_, _>>()?)))
    }

    fn scalar(&self, array: &ArrayRef, at: usize) -> Result<Value, Mismatch> {
        Ok(match self.column.kind {
            FurtherKind::U64 => Value::U64(array.as_primitive::<UInt64Type>().value(at)),
            FurtherKind::I64 => Value::I64(array.as_primitive::<Int64Type>().value(at)),
            FurtherKind::F64 => Value::F64(array.as_primitive::<Float64Type>().value(at)),
            FurtherKind::Bool => Value::Bool(array.as_boolean().value(at)),
            FurtherKind::Str => Value::Str(array.as_string::<i32>().value(at).to_owned()),
            FurtherKind::Timestamp => {
                let raw = array.as_primitive::<Int64Type>().value(at);
                let micros = match self.unit {
                    TimeUnit::Second => raw.checked_mul(1_000_000),
                    TimeUnit::Millisecond => raw.checked_mul(1000),
                    TimeUnit::Microsecond => Some(raw),
                    TimeUnit::Nanosecond => Some(raw.div_euclid(1000)),
                };
                let received = || format!("{raw} in units of {:?}", self.unit);
                Value::TimestampMicros(
                    micros.ok_or_else(|| Mismatch::new("a time of 64-bit microseconds", received()))?,
                )
            }
        })
    }
}
