//! Columns of a record batch, brought to the types that the schema names.

use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray, StringArray, StructArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field};

use super::error::DataProblem;

/// `array` as `to`; a value that does not fit is an error.
fn cast(array: &dyn Array, to: &DataType, column: &str, expected: &'static str) -> Result<ArrayRef, DataProblem> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    if !arrow::compute::can_cast_types(array.data_type(), to) {
        let received = array.data_type().to_string();
        return Err(DataProblem::ColumnType { column: column.to_owned(), expected, received });
    }
    Ok(cast_with_options(array, to, &options)?)
}

/// Text as plain utf8.
pub(crate) fn text(array: &dyn Array, column: &str) -> Result<StringArray, DataProblem> {
    const EXPECTED: &str = "utf8";
    let is_text = |found: &DataType| matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let fits = match array.data_type() {
        DataType::Dictionary(_, values) => is_text(values),
        // What a program writes that has seen no value.
        DataType::Null => true,
        other => is_text(other),
    };
    if !fits {
        let received = array.data_type().to_string();
        return Err(DataProblem::ColumnType { column: column.to_owned(), expected: EXPECTED, received });
    }
    Ok(cast(array, &DataType::Utf8, column, EXPECTED)?.as_string::<i32>().clone())
}

/// Numbers as type `T`.
pub(crate) fn numbers<T: ArrowPrimitiveType>(
    array: &dyn Array,
    column: &str,
    expected: &'static str,
) -> Result<PrimitiveArray<T>, DataProblem> {
    if !(array.data_type().is_numeric() || *array.data_type() == DataType::Null) {
        let received = array.data_type().to_string();
        return Err(DataProblem::ColumnType { column: column.to_owned(), expected, received });
    }
    Ok(cast(array, &T::DATA_TYPE, column, expected)?.as_primitive::<T>().clone())
}

/// A column of lists of structs.
pub(crate) struct Structs {
    column: &'static str,
    lists: ListArray,
    structs: StructArray,
}

impl Structs {
    pub fn of(array: &dyn Array, column: &'static str, expected: &'static str) -> Result<Self, DataProblem> {
        let refuse = || {
            let received = array.data_type().to_string();
            DataProblem::ColumnType { column: column.to_owned(), expected, received }
        };
        let item = match array.data_type() {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => item,
            _ => return Err(refuse()),
        };
        if !matches!(item.data_type(), DataType::Struct(_)) {
            return Err(refuse());
        }
        let to = DataType::List(Field::new("item", item.data_type().clone(), true).into());
        let lists = cast(array, &to, column, expected)?.as_list::<i32>().clone();
        let structs = lists.values().as_struct_opt().ok_or_else(refuse)?.clone();
        Ok(Self { column, lists, structs })
    }

    /// The entries of a row; none for a null list.
    pub fn entries(&self, row: usize) -> std::ops::Range<usize> {
        if self.lists.is_null(row) {
            return 0..0;
        }
        let offsets = self.lists.value_offsets();
        offsets[row] as usize..offsets[row + 1] as usize
    }

    /// Whether an entry is null.
    pub fn is_null(&self, entry: usize) -> bool {
        self.structs.is_null(entry)
    }

    /// The name of a part, as messages call it.
    pub fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.column)
    }

    /// A part of the structs, if they have it.
    pub fn part(&self, part: &str) -> Option<&ArrayRef> {
        self.structs.column_by_name(part)
    }

    /// A part that must be there.
    pub fn needed(&self, part: &str, expected: &'static str) -> Result<&ArrayRef, DataProblem> {
        self.part(part).ok_or_else(|| {
            let received = self.structs.column_names().join(", ");
            DataProblem::MissingColumn { column: self.name(part), expected, received }
        })
    }
}
