//! The `embeddings` column: nested Arrow lists on one side, `tokens x dim` values row by row on the other.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float16Array, Float32Array, GenericListArray, ListArray,
    OffsetSizeTrait,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float16Type, Float32Type};
use arrow::error::ArrowError;
use colqwen_index_field::MultiVector;
use half::f16;
use half::slice::HalfFloatSliceExt;
use half::vec::HalfFloatVecExt;

use super::error::Mismatch;
use super::schema::Precision;

/// The types that [`shape_of`] accepts, in words.
pub(super) const EXPECTED: &str =
    "list<fixed_size_list<float16 or float32, dim>> (or a list of lists of equal length of these)";

/// How a column of embeddings is nested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// Lists of vectors whose length is part of the type.
    Fixed(usize),
    /// Lists of lists, whose lengths have to be looked at.
    Ragged,
}

/// The shape of a column type, or `None` when it is no type of embeddings.
pub(super) fn shape_of(data_type: &DataType) -> Option<Shape> {
    let (DataType::List(token) | DataType::LargeList(token)) = data_type else { return None };
    let (value, shape) = match token.data_type() {
        DataType::FixedSizeList(value, dim) => {
            (value, Shape::Fixed(usize::try_from(*dim).ok().filter(|dim| *dim > 0)?))
        }
        DataType::List(value) | DataType::LargeList(value) => (value, Shape::Ragged),
        _ => return None,
    };
    matches!(value.data_type(), DataType::Float16 | DataType::Float32).then_some(shape)
}

/// The number of values in the first token of `row` of a [`Shape::Ragged`] column, if there is one.
pub(super) fn first_dim(column: &dyn Array, row: usize) -> Option<usize> {
    let tokens = row_of(column, row)?;
    let dim = match tokens.data_type() {
        _ if tokens.is_empty() => 0,
        DataType::List(_) => tokens.as_list::<i32>().value(0).len(),
        DataType::LargeList(_) => tokens.as_list::<i64>().value(0).len(),
        _ => 0,
    };
    (dim > 0).then_some(dim)
}

/// The values of one row, `tokens x dim`, widened to f32. The column's type was accepted by [`shape_of`].
pub(super) fn row_values(column: &dyn Array, row: usize, dim: usize) -> Result<Vec<f32>, Mismatch> {
    let expected = || format!("a list of vectors of {dim} values");
    let Some(tokens) = row_of(column, row) else { return Err(Mismatch::new(expected(), "null")) };
    if tokens.null_count() > 0 {
        return Err(Mismatch::new(expected(), "a null vector"));
    }
    let values = match tokens.data_type() {
        DataType::List(_) => flattened(tokens.as_list::<i32>(), dim)?,
        DataType::LargeList(_) => flattened(tokens.as_list::<i64>(), dim)?,
        _ => match tokens.as_fixed_size_list_opt() {
            Some(tokens) if usize::try_from(tokens.value_length()) == Ok(dim) => tokens.values().clone(),
            _ => return Err(Mismatch::new(expected(), tokens.data_type().to_string())),
        },
    };
    if values.null_count() > 0 {
        return Err(Mismatch::new(expected(), "a null value"));
    }
    if let Some(values) = values.as_primitive_opt::<Float16Type>() {
        let mut wide = vec![0.0; values.len()];
        values.values().convert_to_f32_slice(&mut wide);
        Ok(wide)
    } else if let Some(values) = values.as_primitive_opt::<Float32Type>() {
        Ok(values.values().to_vec())
    } else {
        Err(Mismatch::new(expected(), values.data_type().to_string()))
    }
}

fn row_of(column: &dyn Array, row: usize) -> Option<ArrayRef> {
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::LargeList(_) => Some(column.as_list_opt::<i64>()?.value(row)),
        _ => Some(column.as_list_opt::<i32>()?.value(row)),
    }
}

fn flattened<O: OffsetSizeTrait>(tokens: &GenericListArray<O>, dim: usize) -> Result<ArrayRef, Mismatch> {
    let offsets = tokens.value_offsets();
    if let Some((token, pair)) = offsets.windows(2).enumerate().find(|(_, pair)| (pair[1] - pair[0]).as_usize() != dim)
    {
        let received = format!("token {token} with {} values", (pair[1] - pair[0]).as_usize());
        return Err(Mismatch::new(format!("a list of vectors of {dim} values"), received));
    }
    let (first, last) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    Ok(tokens.values().slice(first, last - first))
}

/// Rows of embeddings on their way into a file.
pub(super) struct TokenBuffer {
    dim: i32,
    values: Values,
    offsets: Vec<i32>,
}

enum Values {
    F16(Vec<f16>),
    F32(Vec<f32>),
}

impl TokenBuffer {
    pub fn new(dim: i32, precision: Precision) -> Self {
        let values = match precision {
            Precision::F16 => Values::F16(Vec::new()),
            Precision::F32 => Values::F32(Vec::new()),
        };
        Self { dim, values, offsets: vec![0] }
    }

    /// The column as it is written: no level of it holds nulls.
    pub fn field(name: &str, dim: i32, precision: Precision) -> Field {
        Field::new(name, DataType::List(token_field(dim, precision.data_type())), false)
    }

    /// Adds one row, `tokens x dim` values; the caller has compared `dim`.
    pub fn push(&mut self, vectors: &MultiVector) {
        match &mut self.values {
            Values::F16(values) => values.extend(Vec::<f16>::from_f32_slice(vectors.values())),
            Values::F32(values) => values.extend_from_slice(vectors.values()),
        }
        let last = self.offsets.last().copied().unwrap_or(0);
        // At most 65,535 tokens a row, and a row group ends long before 2^31 of them.
        self.offsets.push(last + vectors.tokens() as i32);
    }

    /// Size of the values waiting here.
    pub fn bytes(&self) -> usize {
        match &self.values {
            Values::F16(values) => values.len() * 2,
            Values::F32(values) => values.len() * 4,
        }
    }

    /// The waiting rows as one array; the buffer is empty afterwards.
    pub fn take(&mut self) -> Result<ArrayRef, ArrowError> {
        let values: ArrayRef = match &mut self.values {
            Values::F16(values) => Arc::new(Float16Array::from(std::mem::take(values))),
            Values::F32(values) => Arc::new(Float32Array::from(std::mem::take(values))),
        };
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.offsets, vec![0]).into());
        let tokens = token_field(self.dim, values.data_type().clone());
        let value = Arc::new(Field::new("item", values.data_type().clone(), false));
        let vectors = FixedSizeListArray::try_new(value, self.dim, values, None)?;
        Ok(Arc::new(ListArray::try_new(tokens, offsets, Arc::new(vectors), None)?))
    }
}

fn token_field(dim: i32, value: DataType) -> FieldRef {
    Arc::new(Field::new("item", DataType::FixedSizeList(Arc::new(Field::new("item", value, false)), dim), false))
}
