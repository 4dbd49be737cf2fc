//! The format's own columns besides the embeddings: text, hashes, numbers and the page layout.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, ListArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, UInt64Type};
use arrow::error::ArrowError;
use colqwen_index_field::PageLayout;

use super::error::{Mismatch, Problem};
use super::schema::{FIRST_PATCH, GRID_COLS, GRID_ROWS, HEIGHT, TOKEN_PATCHES, WIDTH};

/// Whether a column type is raw bytes.
pub(super) fn is_binary(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    matches!(data_type, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
}

/// Whether a column type is a list of lists of integers.
pub(super) fn is_patch_lists(data_type: &DataType) -> bool {
    let item = |data_type: &DataType| match data_type {
        DataType::List(item) | DataType::LargeList(item) => Some(item.data_type().clone()),
        _ => None,
    };
    item(data_type).and_then(|inner| item(&inner)).is_some_and(|number| number.is_integer())
}

/// A column of text as plain utf8, if the batch has it.
pub(super) fn text(batch: &RecordBatch, column: &str) -> Result<Option<StringArray>, ArrowError> {
    let Some(array) = batch.column_by_name(column) else { return Ok(None) };
    Ok(cast(array, &DataType::Utf8)?.as_string_opt().cloned())
}

/// A column of bytes, if the batch has it.
pub(super) fn bytes(batch: &RecordBatch, column: &str) -> Result<Option<BinaryArray>, ArrowError> {
    let Some(array) = batch.column_by_name(column) else { return Ok(None) };
    Ok(cast(array, &DataType::Binary)?.as_binary_opt().cloned())
}

/// The text in `row`, which must not be null, empty or longer than `most` bytes.
pub(super) fn identifier(column: &StringArray, row: usize, most: usize) -> Result<String, Mismatch> {
    if column.is_null(row) {
        return Err(Mismatch::new(format!("text of 1 to {most} bytes"), "null"));
    }
    check_identifier(column.value(row), most)?;
    Ok(column.value(row).to_owned())
}

/// Refuses text that is empty or longer than `most` bytes.
pub(super) fn check_identifier(text: &str, most: usize) -> Result<(), Mismatch> {
    match text.len() {
        length if length == 0 || length > most => {
            Err(Mismatch::new(format!("text of 1 to {most} bytes"), format!("{length} bytes")))
        }
        _ => Ok(()),
    }
}

/// The text in `row`, if there is such a column and it is not null.
pub(super) fn optional_text(column: Option<&StringArray>, row: usize) -> Option<String> {
    column.filter(|column| column.is_valid(row)).map(|column| column.value(row).to_owned())
}

/// The bytes in `row`, if there is such a column and it is not null.
pub(super) fn optional_bytes(column: Option<&BinaryArray>, row: usize) -> Option<Vec<u8>> {
    column.filter(|column| column.is_valid(row)).map(|column| column.value(row).to_vec())
}

/// A column of integers of any width.
pub(super) struct Integers(ArrayRef);

impl Integers {
    /// The column, if the batch has it; its type was checked to be an integer.
    pub fn of(batch: &RecordBatch, column: &str) -> Result<Option<Self>, ArrowError> {
        let Some(array) = batch.column_by_name(column) else { return Ok(None) };
        // u64 alone does not fit i64, and stays as it is.
        let wide = if *array.data_type() == DataType::UInt64 { array.clone() } else { cast(array, &DataType::Int64)? };
        Ok(Some(Self(wide)))
    }

    /// The value in `row`, between `least` and the largest `T`; `None` for null.
    pub fn at<T: TryFrom<i128> + PartialOrd>(&self, row: usize, least: T) -> Result<Option<T>, Mismatch> {
        if self.0.is_null(row) {
            return Ok(None);
        }
        let value = match self.0.as_primitive_opt::<UInt64Type>() {
            Some(values) => i128::from(values.value(row)),
            None => i128::from(self.0.as_primitive::<Int64Type>().value(row)),
        };
        let bits = size_of::<T>() * 8;
        match T::try_from(value) {
            Ok(fitting) if fitting >= least => Ok(Some(fitting)),
            Ok(_) => Err(Mismatch::new(format!("a uint{bits} from 1"), value.to_string())),
            Err(_) => Err(Mismatch::new(format!("a uint{bits}"), value.to_string())),
        }
    }
}

/// The columns that a page's layout is read from.
pub(super) struct LayoutColumns {
    numbers: [(&'static str, Option<Integers>); 5],
    token_patches: Option<ListArray>,
}

impl LayoutColumns {
    pub fn of(batch: &RecordBatch) -> Result<Self, ArrowError> {
        let column = |name| Ok::<_, ArrowError>((name, Integers::of(batch, name)?));
        let numbers = [column(WIDTH)?, column(HEIGHT)?, column(GRID_ROWS)?, column(GRID_COLS)?, column(FIRST_PATCH)?];
        let list = |item: DataType| DataType::List(Field::new("item", item, true).into());
        let token_patches = match batch.column_by_name(TOKEN_PATCHES) {
            Some(array) => cast(array, &list(list(DataType::Int64)))?.as_list_opt().cloned(),
            None => None,
        };
        Ok(Self { numbers, token_patches })
    }

    /// The layout in `row`, which is row `file_row` of the file; `None` when every part of it is null or absent.
    pub fn at(&self, row: usize, file_row: u64) -> Result<Option<PageLayout>, Problem> {
        let [width, height, grid_rows, grid_cols, first_patch] = &self.numbers;
        let (width, height) = (number::<u32>(width, row, file_row)?, number::<u32>(height, row, file_row)?);
        let (rows, cols) = (number::<u16>(grid_rows, row, file_row)?, number::<u16>(grid_cols, row, file_row)?);
        let first = number::<u16>(first_patch, row, file_row)?;
        let token_patches = self.patches(row).map_err(|mismatch| mismatch.at(TOKEN_PATCHES, file_row))?;
        // Where pooled tokens name their patches, no token is "the first".
        let first = first.or(token_patches.as_ref().map(|_| 0));
        match (width, height, rows, cols, first) {
            (Some(width), Some(height), Some(grid_rows), Some(grid_cols), Some(first_patch)) => {
                Ok(Some(PageLayout { width, height, grid_rows, grid_cols, first_patch, token_patches }))
            }
            (None, None, None, None, None) => Ok(None),
            _ => {
                let missing = [
                    (WIDTH, width.is_none()),
                    (HEIGHT, height.is_none()),
                    (GRID_ROWS, rows.is_none()),
                    (GRID_COLS, cols.is_none()),
                    (FIRST_PATCH, first.is_none()),
                ];
                let column = missing.iter().find(|(_, absent)| *absent).map_or(WIDTH, |(name, _)| name);
                let expected = "a value, as other columns of the page's layout have one (give all of them or none)";
                Err(Mismatch::new(expected, "none").at(column, file_row))
            }
        }
    }

    fn patches(&self, row: usize) -> Result<Option<Vec<Vec<u16>>>, Mismatch> {
        let Some(column) = self.token_patches.as_ref().filter(|column| column.is_valid(row)) else { return Ok(None) };
        let tokens = column.value(row);
        let tokens = tokens.as_list::<i32>();
        let list = |token: usize| {
            let patches = tokens.value(token);
            let patches = patches.as_primitive::<Int64Type>();
            let patch = |patch: Option<i64>| {
                let received = || patch.map_or("null".to_owned(), |patch| patch.to_string());
                let fitting = patch.and_then(|patch| u16::try_from(patch).ok());
                fitting.ok_or_else(|| Mismatch::new("patch numbers of uint16", received()))
            };
            patches.iter().map(patch).collect::<Result<Vec<u16>, Mismatch>>()
        };
        // A null list says the same as an empty one: a token that stands for no patch.
        let lists = (0..tokens.len()).map(|token| if tokens.is_null(token) { Ok(Vec::new()) } else { list(token) });
        lists.collect::<Result<_, _>>().map(Some)
    }
}

fn number<T: TryFrom<i128> + PartialOrd + Default>(
    (name, column): &(&'static str, Option<Integers>),
    row: usize,
    file_row: u64,
) -> Result<Option<T>, Problem> {
    let Some(column) = column else { return Ok(None) };
    column.at(row, T::default()).map_err(|mismatch| mismatch.at(name, file_row))
}
