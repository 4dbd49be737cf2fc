//! The segment plugin: writes and merges the vectors together with tantivy's own segment files.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use tantivy::index::{Segment, SegmentComponent, SegmentReader};
use tantivy::indexer::doc_id_mapping::{DocIdMapping, MappingType};
use tantivy::schema::document::{ErasedDocument, ErasedValue, ReferenceValueLeaf};
use tantivy::schema::{Field, Schema};
use tantivy::{DocId, PluginMergeContext, PluginWriter, PluginWriterContext, SegmentPlugin, TantivyError};

use crate::codes::CurrentCodebooks;
use crate::merge::FieldMerge;
use crate::options::{LateField, late_fields};
use crate::replacement::Replacement;
use crate::rows::{docs_by_row, row_field};
use crate::segment::{EXTENSION, EncodedPage, FieldTable, PageHead, SegmentFile, SegmentFileWriter};
use crate::spool::PageSpool;
use crate::value::FieldValue;
use crate::{Error, ROW_FIELD};

/// Keeps late-interaction fields in one file per segment. Registered by [`LateInteraction`](crate::LateInteraction).
#[derive(Debug)]
pub(crate) struct LateInteractionPlugin {
    codebooks: Arc<CurrentCodebooks>,
}

impl LateInteractionPlugin {
    pub fn new(codebooks: Arc<CurrentCodebooks>) -> Self {
        Self { codebooks }
    }
}

pub(crate) fn component() -> SegmentComponent {
    SegmentComponent::Custom(EXTENSION.to_owned())
}

/// Opens the file of a segment that a reader holds.
pub(crate) fn open_segment_file(reader: &SegmentReader) -> Result<SegmentFile, Error> {
    let segment = reader.segment_id().uuid_string();
    let file = match reader.open_read(component()) {
        Ok(file) => SegmentFile::open(segment, file)?,
        Err(tantivy::directory::error::OpenReadError::FileDoesNotExist(path)) => {
            return Err(Error::SegmentGone { path });
        }
        Err(error) => return Err(Error::Tantivy(error.into())),
    };
    match foreign_in(&file, reader)? {
        Some(problem) => Err(Error::SegmentFile { segment: file.segment().to_owned(), problem }),
        None => Ok(file),
    }
}

/// What a file holds that a segment cannot have, if it is the file of another segment or index under this one's name.
fn foreign_in(file: &SegmentFile, reader: &SegmentReader) -> Result<Option<String>, Error> {
    let known = late_fields(reader.schema())?;
    let foreign = |table: &FieldTable| {
        let (name, field) = (&table.name, known.iter().find(|late| late.field.field_id() == table.field_id));
        let Some(LateField { options, .. }) = field else {
            return Some(format!("it holds vectors of a field {name:?} that the schema does not have"));
        };
        let received = (table.dim, table.precision, table.keeps_f16);
        let expected = (options.dim(), options.precision(), options.keeps_f16());
        if received != expected {
            return Some(format!(
                "field {name:?}: the schema expects (dim, precision, f16 kept) {expected:?}, received {received:?}"
            ));
        }
        let documents = reader.max_doc();
        let beyond = table.pages.last().filter(|page| page.doc >= documents)?;
        Some(format!(
            "field {name:?}: expected vectors of documents below {documents}, received those of {}: is it the file of \
             another segment?",
            beyond.doc
        ))
    };
    Ok(file.fields().find_map(foreign))
}

impl SegmentPlugin for LateInteractionPlugin {
    fn extensions(&self) -> &[&str] {
        &[EXTENSION]
    }

    fn create_writer(&self, context: &PluginWriterContext) -> tantivy::Result<Box<dyn PluginWriter>> {
        let schema = context.segment.schema();
        let fields = late_fields(&schema).map_err(TantivyError::from)?;
        let row_field = row_field(&schema).map_err(TantivyError::from)?;
        let segment = context.segment;
        let file = SegmentFileWriter::create(segment.open_write(component())?, &fields)?;
        let fields = fields.into_iter().map(|late| (late.options.precision().depth().map(|_| PageSpool::new()), late));
        let codebooks = self.codebooks.clone();
        Ok(Box::new(LateInteractionWriter { file, fields: fields.collect(), codebooks, row_field, rows: Vec::new() }))
    }

    fn merge(&self, context: PluginMergeContext) -> tantivy::Result<()> {
        if let Some(replacement) = Replacement::take() {
            return replacement.merge(&context).map_err(TantivyError::from);
        }
        let fields = late_fields(context.schema).map_err(TantivyError::from)?;
        let open = |reader| open_segment_file(reader).map(Arc::new);
        let sources = context.readers.iter().map(open).collect::<Result<Vec<_>, _>>().map_err(TantivyError::from)?;
        let segment = context.target_segment;
        let mut target = SegmentFileWriter::create(segment.open_write(component())?, &fields)?;
        let order = merged_order(&context)?;
        for (at, field) in fields.iter().enumerate() {
            FieldMerge::new(field, &sources, &order, &self.codebooks)
                .write(at, &mut target)
                .map_err(TantivyError::from)?;
        }
        target.finish(Some)?;
        Ok(())
    }
}

/// The live documents of a merge in their new order: new document, source, document in the source.
pub(crate) fn merged_order(context: &PluginMergeContext) -> tantivy::Result<Vec<(DocId, usize, DocId)>> {
    let alive = context
        .readers
        .iter()
        .enumerate()
        .flat_map(|(source, reader)| reader.doc_ids_alive().map(move |doc| (source, doc)));
    if context.doc_id_mapping.mapping_type() != MappingType::Shuffled {
        return Ok(alive.zip(0..).map(|((source, doc), new_doc)| (new_doc, source, doc)).collect());
    }
    let new_docs = docs_by_row(context.target_segment)?;
    let rows = context
        .readers
        .iter()
        .map(|reader| reader.fast_fields().column_opt::<u64>(ROW_FIELD))
        .collect::<tantivy::Result<Vec<_>>>()?;
    let mut order = Vec::with_capacity(new_docs.len());
    for (source, doc) in alive {
        // Documents without vectors have no row, and nothing to copy.
        if let Some(row) = rows[source].as_ref().and_then(|column| column.first(doc)) {
            let new_doc = new_docs.get(&row).ok_or_else(|| TantivyError::from(Error::RowLost { row }))?;
            order.push((*new_doc, source, doc));
        }
    }
    order.sort_unstable();
    Ok(order)
}

/// Streams the vectors of one new segment to its file; those to be coded wait for the codebook in a spool.
struct LateInteractionWriter {
    file: SegmentFileWriter,
    fields: Vec<(Option<PageSpool>, LateField)>,
    codebooks: Arc<CurrentCodebooks>,
    row_field: Option<Field>,
    /// Documents with vectors and their rows, in sorted indexes.
    rows: Vec<(DocId, u64)>,
}

impl PluginWriter for LateInteractionWriter {
    fn add_document(&mut self, doc: DocId, document: &dyn ErasedDocument, _schema: &Schema) -> tantivy::Result<()> {
        let mut row = None;
        let mut seen = vec![false; self.fields.len()];
        for (field, value) in document.erased_fields() {
            if Some(field) == self.row_field {
                if let ErasedValue::Leaf(ReferenceValueLeaf::U64(value)) = value {
                    row = Some(value);
                }
                continue;
            }
            let Some(at) = self.fields.iter().position(|(_, late)| late.field == field) else { continue };
            let (spool, late) = &mut self.fields[at];
            let refuse = |problem: &str| Error::FieldValue { field: late.name.clone(), problem: problem.to_owned() };
            let ErasedValue::Leaf(ReferenceValueLeaf::Custom(bytes)) = value else {
                return Err(
                    refuse("received a value of another type, expected one made by LateInteraction::add").into()
                );
            };
            let value = FieldValue::decode(bytes)
                .map_err(|_| refuse("received malformed bytes, expected a value made by LateInteraction::add"))?;
            if value.dim != late.options.dim() {
                let (received, expected) = (value.dim, late.options.dim());
                return Err(Error::Dim { field: late.name.clone(), received, expected }.into());
            }
            if std::mem::replace(&mut seen[at], true) {
                return Err(Error::TwoValues { field: late.name.clone() }.into());
            }
            let tokens = (value.vectors.len() / (value.dim * 2)) as u16;
            let head = PageHead { doc, tokens, origin: value.origin, layout: value.layout };
            match spool {
                Some(spool) => spool.push(&head, value.vectors)?,
                None => self.file.push(at, &head, &EncodedPage::half(value.vectors))?,
            }
        }
        if let (Some(row), true) = (row, seen.contains(&true)) {
            self.rows.push((doc, row));
        }
        Ok(())
    }

    fn serialize(mut self: Box<Self>, segment: &Segment, order: Option<&DocIdMapping>) -> tantivy::Result<()> {
        for (at, (spool, late)) in self.fields.drain(..).enumerate() {
            if let Some(spool) = spool {
                spool.write(at, &late, &self.codebooks, &mut self.file)?;
            }
        }
        if order.is_none() {
            return Ok(self.file.finish(Some)?);
        }
        let new_docs = docs_by_row(segment)?;
        let rows: HashMap<DocId, u64> = self.rows.into_iter().collect();
        Ok(self.file.finish(|doc| new_docs.get(rows.get(&doc)?).copied())?)
    }

    fn mem_usage(&self) -> usize {
        let spooled: usize = self.fields.iter().flat_map(|(spool, _)| spool).map(PageSpool::mem_usage).sum();
        spooled + self.file.table_bytes() + self.rows.capacity() * size_of::<(DocId, u64)>()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
