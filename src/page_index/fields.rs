//! The fields of a page index, and how a page becomes a tantivy document and a page again.

use colqwen_index_field::{LateInteraction, LateInteractionOptions, PageVectors};
use colqwen_index_ingest::embeddings::{FurtherColumn, FurtherKind, PageRecord, Value};
use tantivy::schema::{
    DateOptions, DateTimePrecision, FAST, Field, INDEXED, NumericOptions, OwnedValue, STORED, STRING,
};
use tantivy::schema::{Schema, TEXT};
use tantivy::{DateTime, TantivyDocument, Term};

use super::next_generation::PageToEncode;
use crate::Error;

/// What separates document and page in a page key; no file name holds it.
const KEY_SEPARATOR: char = '\u{1f}';

/// Upsert and delete term: `doc_id` U+001F page.
pub const PAGE_KEY: &str = "page_key";
/// The document of the page.
pub const DOC_ID: &str = "doc_id";
/// The page's number within its document, from 1.
pub const PAGE: &str = "page";
/// The page's text layer.
pub const TEXT_FIELD: &str = "text";
/// The file that the page can be rendered from again.
pub const SOURCE: &str = "source";
/// The hash of the file that the page was made from.
pub const CONTENT_HASH: &str = "content_hash";
/// The token embeddings.
pub const TOKENS: &str = "tokens";

const RESERVED: [&str; 8] =
    [PAGE_KEY, DOC_ID, PAGE, TEXT_FIELD, SOURCE, CONTENT_HASH, TOKENS, colqwen_index_field::ROW_FIELD];

/// The fields of a page index.
#[derive(Clone, Debug)]
pub struct PageFields {
    /// The field `PAGE_KEY`.
    pub page_key: Field,
    /// The field `DOC_ID`.
    pub doc_id: Field,
    /// The field `PAGE`.
    pub page: Field,
    /// The field `TEXT_FIELD`.
    pub text: Field,
    /// The field `SOURCE`.
    pub source: Field,
    /// The field `CONTENT_HASH`.
    pub content_hash: Field,
    /// The field `TOKENS`.
    pub tokens: Field,
    further: Vec<(FurtherColumn, Field)>,
}

/// The key of a page.
pub(super) fn page_key(doc_id: &str, page: u32) -> String {
    format!("{doc_id}{KEY_SEPARATOR}{page}")
}

impl PageFields {
    /// The schema of a new page index.
    pub(super) fn create(options: &LateInteractionOptions, further: &[FurtherColumn]) -> Result<(Schema, Self), Error> {
        let mut builder = Schema::builder();
        let numeric = NumericOptions::from(INDEXED | FAST | STORED);
        let page_key = builder.add_text_field(PAGE_KEY, STRING);
        let doc_id = builder.add_text_field(DOC_ID, STRING | FAST | STORED);
        let page = builder.add_u64_field(PAGE, numeric.clone());
        let text = builder.add_text_field(TEXT_FIELD, TEXT | STORED);
        let source = builder.add_text_field(SOURCE, STRING | STORED);
        let content_hash = builder.add_bytes_field(CONTENT_HASH, STORED);
        let tokens = options.add_to(&mut builder, TOKENS);
        let mut fields = Self { page_key, doc_id, page, text, source, content_hash, tokens, further: Vec::new() };
        for column in further {
            let name = column.name.as_str();
            if RESERVED.contains(&name) || fields.further.iter().any(|(known, _)| known.name == name) {
                return Err(Error::ReservedColumn { column: name.to_owned() });
            }
            let field = match column.kind {
                FurtherKind::U64 => builder.add_u64_field(name, numeric.clone()),
                FurtherKind::I64 => builder.add_i64_field(name, numeric.clone()),
                FurtherKind::F64 => builder.add_f64_field(name, numeric.clone()),
                FurtherKind::Bool => builder.add_bool_field(name, numeric.clone()),
                FurtherKind::Timestamp => {
                    let options = DateOptions::from(INDEXED | FAST | STORED);
                    builder.add_date_field(name, options.set_precision(DateTimePrecision::Microseconds))
                }
                FurtherKind::Str => builder.add_text_field(name, STRING | FAST | STORED),
            };
            fields.further.push((column.clone(), field));
        }
        Ok((builder.build(), fields))
    }

    /// Finds the fields in the schema of an open index.
    pub(super) fn of(schema: &Schema, further: &[FurtherColumn]) -> Result<Self, Error> {
        let field = |name: &str| schema.get_field(name);
        Ok(Self {
            page_key: field(PAGE_KEY)?,
            doc_id: field(DOC_ID)?,
            page: field(PAGE)?,
            text: field(TEXT_FIELD)?,
            source: field(SOURCE)?,
            content_hash: field(CONTENT_HASH)?,
            tokens: field(TOKENS)?,
            further: further
                .iter()
                .map(|column| Ok((column.clone(), field(&column.name)?)))
                .collect::<Result<_, tantivy::TantivyError>>()?,
        })
    }

    /// The further columns of the index.
    pub fn further_columns(&self) -> impl Iterator<Item = &FurtherColumn> {
        self.further.iter().map(|(column, _)| column)
    }

    /// Refuses columns that the index does not have in the same form.
    pub(super) fn check_columns(&self, columns: &[FurtherColumn]) -> Result<(), Error> {
        let describe =
            |column: &FurtherColumn| format!("{}{:?}", if column.list { "list of " } else { "" }, column.kind);
        for column in columns {
            let known = self.further_columns().find(|known| known.name == column.name);
            if known != Some(column) {
                return Err(Error::OtherColumn {
                    column: column.name.clone(),
                    received: describe(column),
                    expected: known.map_or("no such field".to_owned(), describe),
                });
            }
        }
        Ok(())
    }

    /// The term that a page is deleted by.
    pub(super) fn page_term(&self, doc_id: &str, page: u32) -> Term {
        Term::from_field_text(self.page_key, &page_key(doc_id, page))
    }

    /// The term that all pages of a document are deleted by.
    pub(super) fn document_term(&self, doc_id: &str) -> Term {
        Term::from_field_text(self.doc_id, doc_id)
    }

    /// A page as a tantivy document.
    pub(super) fn document(&self, handle: &LateInteraction, page: &PageRecord) -> Result<TantivyDocument, Error> {
        let mut document = TantivyDocument::new();
        document.add_text(self.page_key, page_key(&page.doc_id, page.page));
        document.add_text(self.doc_id, &page.doc_id);
        document.add_u64(self.page, u64::from(page.page));
        if let Some(text) = &page.text {
            document.add_text(self.text, text);
        }
        if let Some(source) = &page.source {
            document.add_text(self.source, source);
        }
        if let Some(hash) = &page.content_hash {
            document.add_bytes(self.content_hash, hash);
        }
        for (name, value) in &page.further {
            if let Some((_, field)) = self.further.iter().find(|(column, _)| column.name == *name) {
                add_value(&mut document, *field, value).map_err(|micros| Error::Time {
                    column: name.clone(),
                    doc_id: page.doc_id.clone(),
                    page: page.page,
                    micros,
                })?;
            }
        }
        handle.add(&mut document, self.tokens, &page.vectors)?;
        Ok(document)
    }

    /// Document and number of a stored page; `None` if the document is not a page of this index.
    pub(super) fn key_of(&self, document: &TantivyDocument) -> Option<(String, u32)> {
        let value = |field: Field| document.get_first(field).map(OwnedValue::from);
        match (value(self.doc_id)?, value(self.page)?) {
            (OwnedValue::Str(doc_id), OwnedValue::U64(page)) => Some((doc_id, u32::try_from(page).ok()?)),
            _ => None,
        }
    }

    /// What a stored page says of where its vectors come from; `None` if the document is not a page of this index.
    pub(super) fn page_to_encode(&self, document: &TantivyDocument) -> Option<PageToEncode> {
        let (doc_id, page) = self.key_of(document)?;
        let value = |field: Field| document.get_first(field).map(OwnedValue::from);
        let text = |field: Field| match value(field)? {
            OwnedValue::Str(text) => Some(text),
            _ => None,
        };
        let content_hash = match value(self.content_hash) {
            Some(OwnedValue::Bytes(bytes)) => Some(bytes),
            _ => None,
        };
        Some(PageToEncode { doc_id, page, source: text(self.source), content_hash })
    }

    /// A stored document and its vectors as a page; `None` if the document is not a page of this index.
    pub(super) fn page_of(&self, document: &TantivyDocument, vectors: PageVectors) -> Option<PageRecord> {
        let text = |field: Field| match document.get_first(field).map(OwnedValue::from)? {
            OwnedValue::Str(text) => Some(text),
            _ => None,
        };
        let OwnedValue::U64(page) = OwnedValue::from(document.get_first(self.page)?) else { return None };
        let mut record = PageRecord::new(text(self.doc_id)?, u32::try_from(page).ok()?, vectors);
        record.text = text(self.text);
        record.source = text(self.source);
        record.content_hash = match document.get_first(self.content_hash).map(OwnedValue::from) {
            Some(OwnedValue::Bytes(bytes)) => Some(bytes),
            _ => None,
        };
        for (column, field) in &self.further {
            let mut values: Vec<Value> = document.get_all(*field).filter_map(|value| value_of(value.into())).collect();
            if column.list && !values.is_empty() {
                record.further.push((column.name.clone(), Value::List(values)));
            } else if let Some(value) = values.pop() {
                record.further.push((column.name.clone(), value));
            }
        }
        Some(record)
    }
}

/// Adds a value; a time that tantivy's 64-bit nanoseconds cannot hold is given back.
fn add_value(document: &mut TantivyDocument, field: Field, value: &Value) -> Result<(), i64> {
    match value {
        Value::U64(value) => document.add_u64(field, *value),
        Value::I64(value) => document.add_i64(field, *value),
        Value::F64(value) => document.add_f64(field, *value),
        Value::Bool(value) => document.add_bool(field, *value),
        Value::TimestampMicros(micros) => {
            let nanos = micros.checked_mul(1000).ok_or(*micros)?;
            document.add_date(field, DateTime::from_timestamp_nanos(nanos));
        }
        Value::Str(text) => document.add_text(field, text),
        Value::List(values) => values.iter().try_for_each(|value| add_value(document, field, value))?,
    }
    Ok(())
}

fn value_of(stored: OwnedValue) -> Option<Value> {
    Some(match stored {
        OwnedValue::U64(value) => Value::U64(value),
        OwnedValue::I64(value) => Value::I64(value),
        OwnedValue::F64(value) => Value::F64(value),
        OwnedValue::Bool(value) => Value::Bool(value),
        OwnedValue::Date(date) => Value::TimestampMicros(date.into_timestamp_micros()),
        OwnedValue::Str(text) => Value::Str(text),
        _ => return None,
    })
}
