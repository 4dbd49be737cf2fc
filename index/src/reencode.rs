//! A new index with new vectors: everything else is merged over from the old one as it is, fields that are not stored too.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tantivy::directory::Directory;
use tantivy::directory::error::OpenReadError;
use tantivy::index::{Segment, SegmentReader};
use tantivy::indexer::merge_filtered_segments;
use tantivy::schema::Field;
use tantivy::{DocId, Index, TantivyError};

use crate::options::{LateField, late_fields};
use crate::plugin::open_segment_file;
use crate::replacement::{Replacement, Request};
use crate::segment::EXTENSION;
use crate::{Error, Origin, PageVectors};

/// How often the segments are opened again when a merge of the old index removes a file in between.
const OPEN_ATTEMPTS: usize = 10;

/// A document that has vectors and is to get new ones.
#[derive(Clone, Copy)]
pub struct StoredPage<'a> {
    /// Its segment in the old index, for fast and stored fields.
    pub segment: &'a SegmentReader,
    /// The document within it.
    pub doc: DocId,
}

/// What [`reencode`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reencoded {
    /// Documents that have new vectors.
    pub pages: u64,
    /// Their tokens.
    pub tokens: u64,
    /// The model of the new vectors, where it is known.
    pub origin: Origin,
}

/// Builds a new index in the empty directory `out` from the last commit of `index`: one segment without deleted documents, with
/// all fields as they are, stored or not, but for `field`, whose vectors `vectors` gives anew. It is asked once for each live
/// document that has vectors in `field`, in the order of the new index, on the thread of the caller; `None` leaves the document
/// without vectors. One page at a time is in memory; those to be coded wait in a temporary file (2 bytes a value). Other
/// late-interaction fields and plugins are merged as always. Open the result with
/// [`LateInteraction::open`](crate::LateInteraction::open).
///
/// `index` may be written to meanwhile; what is committed after the call began is not in the new index. Until everything is
/// written, `LateInteraction::open` refuses what is in `out`: after a failure, empty it and begin anew.
///
/// # Errors
/// `vectors` fails ([`Error::Replacement`]) or gives vectors of another dimension or of two models, `field` is no
/// late-interaction field, `out` holds an index, a plugin of the index is not registered, or tantivy fails.
pub fn reencode<E: Into<Box<dyn StdError + Send + Sync>>>(
    index: &Index,
    out: impl Into<Box<dyn Directory>>,
    field: Field,
    mut vectors: impl FnMut(StoredPage<'_>) -> Result<Option<PageVectors>, E>,
) -> Result<Reencoded, Error> {
    let out = out.into();
    let late = late_field(index, field)?;
    check_plugins(index)?;
    if Index::exists(&*out).map_err(TantivyError::from)? {
        return Err(Error::IndexExists);
    }
    for attempt in 1.. {
        let mut asked = false;
        let outcome = merge(index, out.box_clone(), &late, |page| {
            asked = true;
            vectors(page).map_err(Into::into)
        });
        match outcome {
            Err(error) if !asked && attempt < OPEN_ATTEMPTS && is_gone(&error) => {}
            outcome => return outcome,
        }
    }
    Ok(Reencoded::default())
}

fn late_field(index: &Index, field: Field) -> Result<LateField, Error> {
    let schema = index.schema();
    let known = late_fields(&schema)?.into_iter().find(|late| late.field == field);
    known.ok_or_else(|| {
        let entry = schema.fields().find(|(known, _)| *known == field).map(|(_, entry)| entry.name().to_owned());
        Error::NotLateInteraction { field: entry.unwrap_or_else(|| format!("#{}", field.field_id())) }
    })
}

/// Whether a file of a segment was not there: a merge replaced the segment after it was listed.
fn is_gone(error: &Error) -> bool {
    matches!(
        error,
        Error::SegmentGone { .. } | Error::Tantivy(TantivyError::OpenReadError(OpenReadError::FileDoesNotExist(_)))
    )
}

/// Merges the last commit of `index` into `out`. The merge runs on a thread of its own and asks this one for vectors, so that
/// `vectors` may borrow and need not be `Send`.
fn merge(
    index: &Index,
    out: Box<dyn Directory>,
    late: &LateField,
    mut vectors: impl FnMut(StoredPage<'_>) -> Result<Option<PageVectors>, Box<dyn StdError + Send + Sync>>,
) -> Result<Reencoded, Error> {
    let segments = index.searchable_segments()?;
    let readers = segments.iter().map(SegmentReader::open).collect::<Result<Vec<_>, _>>()?;
    if readers.iter().all(|reader| reader.num_docs() == 0) {
        create_empty(index, out)?;
        return Ok(Reencoded::default());
    }
    let file = |reader: &SegmentReader| Ok((reader.segment_id(), Arc::new(open_segment_file(reader)?)));
    let files = readers.iter().map(file).collect::<Result<Vec<_>, Error>>()?;
    let (ask, requests) = sync_channel(0);
    let (answer, answers) = sync_channel(0);
    let replacement = Replacement { field: late.field, files, ask, answers };
    thread::scope(|scope| {
        let merging = scope.spawn(move || replacement.during(|| merge_into(&segments, out)));
        let answered = answer_all(&requests, answer, &readers, late, &mut vectors);
        drop(requests);
        let merged = merging.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A refused page ends the merge: its own reason is the one to tell.
        let reencoded = answered?;
        merged?;
        Ok(reencoded)
    })
}

fn merge_into(segments: &[Segment], out: Box<dyn Directory>) -> Result<(), Error> {
    let settings = segments.first().map(|segment| segment.index().settings().clone()).unwrap_or_default();
    let every_live_document = segments.iter().map(|_| None).collect();
    merge_filtered_segments(segments, settings, every_live_document, out)?;
    Ok(())
}

/// Gives the merge the vectors that it asks for, until it is done.
fn answer_all(
    requests: &Receiver<Request>,
    answer: SyncSender<Option<PageVectors>>,
    readers: &[SegmentReader],
    late: &LateField,
    vectors: &mut impl FnMut(StoredPage<'_>) -> Result<Option<PageVectors>, Box<dyn StdError + Send + Sync>>,
) -> Result<Reencoded, Error> {
    let mut reencoded = Reencoded::default();
    while let Ok(Request { segment: id, doc }) = requests.recv() {
        let Some(segment) = readers.iter().find(|reader| reader.segment_id() == id) else { break };
        let refuse = |source| Error::Replacement { segment: id.uuid_string(), doc, source };
        let page = vectors(StoredPage { segment, doc }).map_err(refuse)?;
        if let Some(page) = &page {
            reencoded.count(page, late)?;
        }
        if answer.send(page).is_err() {
            break;
        }
    }
    Ok(reencoded)
}

impl Reencoded {
    /// Checks a page and counts it.
    fn count(&mut self, page: &PageVectors, late: &LateField) -> Result<(), Error> {
        let (received, expected) = (page.vectors.dim(), late.options.dim());
        if received != expected {
            return Err(Error::Dim { field: late.name.clone(), received, expected });
        }
        if let Some(layout) = &page.layout {
            layout.check(page.vectors.tokens())?;
        }
        match (self.origin, page.origin) {
            (Origin::Model(expected), Origin::Model(received)) if expected != received => {
                return Err(Error::OtherPageModel { field: late.name.clone(), expected, received });
            }
            (Origin::Unknown, origin) => self.origin = origin,
            _ => {}
        }
        self.pages += 1;
        self.tokens += page.vectors.tokens() as u64;
        Ok(())
    }
}

/// Refuses an index whose plugins are not all there: what they keep would be lost.
fn check_plugins(index: &Index) -> Result<(), Error> {
    let recorded = index.load_metas()?.persisted_custom_extensions;
    if !recorded.iter().any(|extension| extension == EXTENSION) {
        return Err(Error::CreatedWithoutPlugin);
    }
    let is_registered =
        |wanted: &str| index.custom_plugins().iter().any(|plugin| plugin.extensions().contains(&wanted));
    let missing: Vec<_> = recorded.into_iter().filter(|wanted| !is_registered(wanted)).collect();
    if missing.is_empty() { Ok(()) } else { Err(TantivyError::MissingPlugin(missing.join(", ")).into()) }
}

/// An index without documents, which no merge makes.
fn create_empty(index: &Index, out: Box<dyn Directory>) -> Result<(), Error> {
    let mut builder = Index::builder().schema(index.schema()).settings(index.settings().clone());
    for plugin in index.custom_plugins() {
        builder = builder.register_plugin(plugin.clone());
    }
    builder.open_or_create(out)?;
    Ok(())
}
