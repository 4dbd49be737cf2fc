//! Further columns on their way into a file.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, StringArray, TimestampMicrosecondArray,
    UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::Field;
use arrow::error::ArrowError;

use super::error::Mismatch;
use super::further::{FurtherColumn, FurtherKind, Value};

impl Value {
    /// The kind of a single value; `None` for a list.
    pub fn kind(&self) -> Option<FurtherKind> {
        Some(match self {
            Self::U64(_) => FurtherKind::U64,
            Self::I64(_) => FurtherKind::I64,
            Self::F64(_) => FurtherKind::F64,
            Self::Bool(_) => FurtherKind::Bool,
            Self::TimestampMicros(_) => FurtherKind::Timestamp,
            Self::Str(_) => FurtherKind::Str,
            Self::List(_) => return None,
        })
    }
}

impl FurtherColumn {
    /// Whether `value` can be written here. A list column takes a single value for a list of one.
    pub(super) fn check(&self, value: &Value) -> Result<(), Mismatch> {
        let fits = match value {
            Value::List(items) => self.list && items.iter().all(|item| item.kind() == Some(self.kind)),
            single => single.kind() == Some(self.kind),
        };
        let expected = || format!("{}{:?}", if self.list { "a list of " } else { "" }, self.kind);
        if fits { Ok(()) } else { Err(Mismatch::new(expected(), format!("{value:?}"))) }
    }
}

/// The values of one further column that wait to become part of a row group.
pub(super) struct FurtherBuilder {
    column: FurtherColumn,
    /// One per row, checked by [`FurtherColumn::check`].
    rows: Vec<Option<Value>>,
}

impl FurtherBuilder {
    pub fn new(column: FurtherColumn) -> Self {
        Self { column, rows: Vec::new() }
    }

    /// Adds a row: this column's value among those of a page, or null.
    pub fn push(&mut self, values: &[(String, Value)]) {
        let value = values.iter().find(|(name, _)| *name == self.column.name);
        self.rows.push(value.map(|(_, value)| value.clone()));
    }

    /// The waiting rows as one array; nothing waits afterwards.
    pub fn take(&mut self) -> Result<ArrayRef, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        if !self.column.list {
            return Ok(scalars(self.column.kind, rows));
        }
        let nulls: NullBuffer = rows.iter().map(Option::is_some).collect();
        let lists: Vec<Vec<Option<Value>>> = rows
            .into_iter()
            .map(|row| match row {
                Some(Value::List(items)) => items.into_iter().map(Some).collect(),
                Some(single) => vec![Some(single)],
                None => Vec::new(),
            })
            .collect();
        let offsets = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
        let items = scalars(self.column.kind, lists.into_iter().flatten().collect());
        let item = Arc::new(Field::new("item", items.data_type().clone(), true));
        Ok(Arc::new(ListArray::try_new(item, offsets, items, Some(nulls))?))
    }
}

fn scalars(kind: FurtherKind, values: Vec<Option<Value>>) -> ArrayRef {
    /// An array of the values of one variant; others were refused when they were added.
    macro_rules! of {
        ($variant:ident, $array:ty) => {
            values
                .into_iter()
                .map(|value| match value {
                    Some(Value::$variant(value)) => Some(value),
                    _ => None,
                })
                .collect::<$array>()
        };
    }
    match kind {
        FurtherKind::U64 => Arc::new(of!(U64, UInt64Array)),
        FurtherKind::I64 => Arc::new(of!(I64, Int64Array)),
        FurtherKind::F64 => Arc::new(of!(F64, Float64Array)),
        FurtherKind::Bool => Arc::new(of!(Bool, BooleanArray)),
        FurtherKind::Str => Arc::new(of!(Str, StringArray)),
        FurtherKind::Timestamp => Arc::new(of!(TimestampMicros, TimestampMicrosecondArray).with_timezone("UTC")),
    }
}
