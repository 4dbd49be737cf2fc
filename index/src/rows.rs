//! The row field of sorted indexes.
//!
//! Tantivy reorders the documents of a sorted index when it writes and merges segments, and tells a plugin neither the
//! old nor the new order. So each document with vectors carries a unique number in a u64 fast field, which stands in the
//! new order in the segment's fast-field file; looking it up there gives each page its new document id.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tantivy::columnar::{Column, ColumnarReader, DynamicColumn};
use tantivy::index::SegmentComponent;
use tantivy::schema::{FAST, Field, FieldType, Schema};
use tantivy::{Index, Segment};

use crate::Error;

/// The name of the row field that [`LateInteraction::create`](crate::LateInteraction::create) adds.
pub const ROW_FIELD: &str = "_row";

/// The schema with a row field at its end, unless it has one already.
pub(crate) fn with_row_field(schema: Schema) -> Result<Schema, Error> {
    if row_field(&schema)?.is_some() {
        return Ok(schema);
    }
    let mut builder = Schema::builder();
    for (_, entry) in schema.fields() {
        builder.add_field(entry.clone());
    }
    builder.add_u64_field(ROW_FIELD, FAST);
    Ok(builder.build())
}

/// The row field of a schema, if it has one; a field of that name but another type is an error.
pub(crate) fn row_field(schema: &Schema) -> Result<Option<Field>, Error> {
    let Ok(field) = schema.get_field(ROW_FIELD) else {
        return Ok(None);
    };
    match schema.get_field_entry(field).field_type() {
        FieldType::U64(options) if options.is_fast() => Ok(Some(field)),
        other => Err(Error::RowFieldType { received: other.value_type().name().to_owned() }),
    }
}

/// Hands out row numbers.
#[derive(Debug)]
pub(crate) struct RowCounter(AtomicU64);

impl RowCounter {
    /// Begins above every committed row and above the clock in nanoseconds, which no writer can outrun: rows handed out
    /// but never committed by an earlier handle are not handed out again.
    pub fn new(index: &Index) -> Result<Self, Error> {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        let mut next = clock;
        for segment in index.searchable_segments()? {
            if let Some(rows) = row_column(&segment)? {
                next = next.max(rows.max_value().saturating_add(1));
            }
        }
        Ok(Self(AtomicU64::new(next)))
    }

    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// The row column of a segment whose fast fields are written; `None` where no document has a row.
pub(crate) fn row_column(segment: &Segment) -> Result<Option<Column<u64>>, tantivy::TantivyError> {
    let columns = ColumnarReader::open(segment.open_read(SegmentComponent::FastFields)?)?;
    for handle in columns.read_columns(ROW_FIELD)? {
        if let DynamicColumn::U64(column) = handle.open()? {
            return Ok(Some(column));
        }
    }
    Ok(None)
}

/// From row number to document id, in a segment whose fast fields are written.
pub(crate) fn docs_by_row(segment: &Segment) -> Result<HashMap<u64, u32>, tantivy::TantivyError> {
    let Some(rows) = row_column(segment)? else {
        return Ok(HashMap::new());
    };
    Ok((0..rows.num_docs()).filter_map(|doc| Some((rows.first(doc)?, doc))).collect())
}
