//! Vectors that a merge takes from elsewhere instead of from the segments that it merges.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use tantivy::index::{SegmentId, SegmentReader};
use tantivy::schema::Field;
use tantivy::{DocId, PluginMergeContext, TantivyError};

use crate::codes::CurrentCodebooks;
use crate::merge::FieldMerge;
use crate::options::{LateField, late_fields};
use crate::plugin::{component, merged_order};
use crate::segment::{EncodedPage, PageHead, SegmentFile, SegmentFileWriter};
use crate::spool::PageSpool;
use crate::value::{FieldValue, encode_value};
use crate::{Error, PageVectors};

thread_local! {
    /// Tantivy takes the plugins of a merge from the index that the segments belong to, and gives no way to another one: the
    /// plugin that is there looks here, on the thread that merges, whether vectors are to be replaced.
    static IN_FORCE: RefCell<Option<Replacement>> = const { RefCell::new(None) };
}

/// What a merge asks for: a document of a segment.
pub(crate) struct Request {
    pub segment: SegmentId,
    pub doc: DocId,
}

/// The field whose vectors are replaced, and where they come from.
pub(crate) struct Replacement {
    pub field: Field,
    /// The files of the segments, opened before a merge of the old index can remove them.
    pub files: Vec<(SegmentId, Arc<SegmentFile>)>,
    pub ask: SyncSender<Request>,
    pub answers: Receiver<Option<PageVectors>>,
}

impl Replacement {
    /// Runs `merge`, on this thread, so that it takes vectors from here.
    pub fn during<T>(self, merge: impl FnOnce() -> T) -> T {
        IN_FORCE.set(Some(self));
        let merged = merge();
        IN_FORCE.set(None);
        merged
    }

    /// The replacement in force on this thread; whoever takes it writes the merged segment.
    pub fn take() -> Option<Self> {
        IN_FORCE.take()
    }

    /// Merges the segments, with new vectors in one field.
    pub fn merge(&self, context: &PluginMergeContext) -> Result<(), Error> {
        let fields = late_fields(context.schema)?;
        let files = context.readers.iter().map(|reader| self.file(reader)).collect::<Result<Vec<_>, _>>()?;
        let segment = context.target_segment;
        let mut target =
            SegmentFileWriter::create(segment.open_write(component()).map_err(TantivyError::from)?, &fields)?;
        let order = merged_order(context)?;
        let codebooks = CurrentCodebooks::default();
        for (at, late) in fields.iter().enumerate() {
            if late.field == self.field {
                let pages = order.iter().filter(|(_, source, doc)| has_vectors(&files[*source], late, *doc));
                let pages = pages.map(|(new_doc, source, doc)| (*new_doc, context.readers[*source].segment_id(), *doc));
                self.write(at, late, pages, &codebooks, &mut target)?;
            } else {
                FieldMerge::new(late, &files, &order, &codebooks).write(at, &mut target)?;
            }
        }
        Ok(target.finish(Some)?)
    }

    fn file(&self, reader: &SegmentReader) -> Result<Arc<SegmentFile>, Error> {
        let opened = self.files.iter().find(|(segment, _)| *segment == reader.segment_id());
        opened.map(|(_, file)| file.clone()).ok_or_else(|| {
            TantivyError::InternalError("a segment is merged that was not there before".to_owned()).into()
        })
    }

    /// Writes the new vectors of some pages, as a writer does that sees them for the first time. `pages`: new document, segment
    /// and document in the old index.
    fn write(
        &self,
        at: usize,
        late: &LateField,
        pages: impl Iterator<Item = (DocId, SegmentId, DocId)>,
        codebooks: &CurrentCodebooks,
        target: &mut SegmentFileWriter,
    ) -> Result<(), Error> {
        let mut spool = late.options.precision().depth().map(|_| PageSpool::new());
        for (new_doc, segment, doc) in pages {
            let Some(page) = self.vectors(Request { segment, doc })? else { continue };
            let bytes = encode_value(&page);
            let value = FieldValue::decode(&bytes).map_err(|_| Error::FieldValue {
                field: late.name.clone(),
                problem: "received vectors that cannot be written".to_owned(),
            })?;
            let tokens = page.vectors.tokens() as u16;
            let head = PageHead { doc: new_doc, tokens, origin: value.origin, layout: value.layout };
            match &mut spool {
                Some(spool) => spool.push(&head, value.vectors)?,
                None => target.push(at, &head, &EncodedPage::half(value.vectors))?,
            }
        }
        match spool {
            Some(spool) => Ok(spool.write(at, late, codebooks, target)?),
            None => Ok(()),
        }
    }

    fn vectors(&self, request: Request) -> Result<Option<PageVectors>, Error> {
        let stopped = || TantivyError::InternalError("nobody gives new vectors".to_owned());
        self.ask.send(request).map_err(|_| stopped())?;
        Ok(self.answers.recv().map_err(|_| stopped())?)
    }
}

fn has_vectors(file: &SegmentFile, late: &LateField, doc: DocId) -> bool {
    file.field(late.field).is_some_and(|table| table.place_of(doc).is_some())
}
