//! The one handle that an application keeps: plugin, segment cache, warmers and row numbers of an index.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use tantivy::index::IndexSettings;
use tantivy::schema::{Field, Schema};
use tantivy::{
    DocAddress, Document, Index, IndexReader, IndexWriter, Searcher, SegmentReader, TantivyDocument, TantivyError,
    Warmer,
};

use crate::cache::{ReaderWarmer, SegmentCache};
use crate::codes::CurrentCodebooks;
use crate::options::{LateField, late_fields};
use crate::plugin::{LateInteractionPlugin, component, open_segment_file};
use crate::query::reader_of;
use crate::rows::{RowCounter, row_field, with_row_field};
use crate::segment::EXTENSION;
use crate::summary::{SegmentSummary, summary};
use crate::value::encode_value;
use crate::{
    Error, Fingerprint, LateInteractionQuery, LateInteractionRescorer, MultiVector, Origin, PageLayout, PageVectors,
    QueryVectors, UnitLength,
};

/// How often a reader is made again when a merge removes a file under it.
const RELOAD_ATTEMPTS: usize = 10;

/// Late interaction for one tantivy index: creates or opens it, adds page vectors, makes readers and queries.
///
/// Clones share everything and are cheap. Keep a clone as long as you search: readers made by
/// [`reader`](Self::reader) hold their open vector files through it.
#[derive(Clone, Default)]
pub struct LateInteraction {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    codebooks: Arc<CurrentCodebooks>,
    cache: Arc<SegmentCache>,
    warmers: Mutex<Vec<Arc<ReaderWarmer>>>,
    served: OnceLock<Served>,
}

/// The index that a handle serves.
struct Served {
    index: Index,
    fields: Vec<LateField>,
    /// Row field and counter, where the schema has one.
    rows: Option<(Field, RowCounter)>,
    /// The known model of each field's pages, committed or about to be.
    models: Mutex<HashMap<Field, Fingerprint>>,
}

impl LateInteraction {
    /// A handle that serves no index yet; call [`create`](Self::create) or [`open`](Self::open).
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates an index in an empty directory. If `settings` sort it, a u64 fast field `_row` is added to the schema.
    ///
    /// # Errors
    /// The directory holds an index, the schema has no late-interaction field or uses `_row` for something else, or this
    /// handle serves another index.
    pub fn create(
        &self,
        directory: impl Into<Box<dyn tantivy::Directory>>,
        schema: Schema,
        settings: IndexSettings,
    ) -> Result<Index, Error> {
        let directory = directory.into();
        if late_fields(&schema)?.is_empty() {
            return Err(Error::NoField);
        }
        if self.shared.served.get().is_some() {
            return Err(Error::HandleInUse);
        }
        if Index::exists(&*directory).map_err(TantivyError::from)? {
            return Err(Error::IndexExists);
        }
        let reordered = settings.sort_by_field.is_some() || settings.manual_doc_id_mapping;
        let schema = if reordered { with_row_field(schema)? } else { schema };
        let plugin = Arc::new(LateInteractionPlugin::new(self.shared.codebooks.clone()));
        let index =
            Index::builder().schema(schema).settings(settings).register_plugin(plugin).open_or_create(directory)?;
        self.serve(index)
    }

    /// Opens an index that [`create`](Self::create) made.
    ///
    /// # Errors
    /// There is no index, it has no late-interaction field, it was created without this plugin, it is sorted but has no
    /// `_row` field, a segment file is damaged or of another version, or this handle serves another index.
    pub fn open(&self, directory: impl Into<Box<dyn tantivy::Directory>>) -> Result<Index, Error> {
        let mut index = Index::open(directory)?;
        let schema = index.schema();
        if late_fields(&schema)?.is_empty() {
            return Err(Error::NoField);
        }
        if let (Some(sort), None) = (&index.settings().sort_by_field, row_field(&schema)?) {
            return Err(Error::SortedWithoutRows { sort_field: sort.field.clone() });
        }
        if !index.load_metas()?.persisted_custom_extensions.iter().any(|known| known == EXTENSION) {
            return Err(Error::CreatedWithoutPlugin);
        }
        index.register_plugin(Arc::new(LateInteractionPlugin::new(self.shared.codebooks.clone())));
        self.serve(index)
    }

    fn serve(&self, index: Index) -> Result<Index, Error> {
        let schema = index.schema();
        let rows = match row_field(&schema)? {
            Some(field) => Some((field, RowCounter::new(&index)?)),
            None => None,
        };
        let fields = late_fields(&schema)?;
        let models = Mutex::new(committed_models(&index, &fields, &self.shared.codebooks)?);
        let served = Served { index: index.clone(), fields, rows, models };
        self.shared.served.set(served).map_err(|_| Error::HandleInUse)?;
        Ok(index)
    }

    fn served(&self) -> Result<&Served, Error> {
        self.shared.served.get().ok_or(Error::HandleUnused)
    }

    /// A reader whose searchers have their vector files open before anybody searches them, so that merges never take a
    /// file from under a query. Keep the reader as long as you use its searchers: without it their files are closed, and
    /// [`Error::SegmentGone`] is what a searcher gets whose segment was merged since.
    ///
    /// # Errors
    /// Tantivy cannot open a segment.
    pub fn reader(&self, index: &Index) -> Result<IndexReader, Error> {
        let warmer = Arc::new(ReaderWarmer::new(self.shared.cache.clone()));
        let weak: Weak<dyn Warmer> = Arc::downgrade(&(warmer.clone() as Arc<dyn Warmer>));
        let reader: IndexReader = retrying(index, || index.reader_builder().warmers(vec![weak.clone()]).try_into())?;
        let mut warmers = self.shared.warmers.lock().unwrap_or_else(PoisonError::into_inner);
        // A reader holds its warmer weakly: without any, the reader is gone.
        warmers.retain(|warmer| Arc::weak_count(warmer) > 0);
        warmers.push(warmer);
        Ok(reader)
    }

    /// Reloads a reader to the last commit, again if a merge removes a segment in between.
    ///
    /// # Errors
    /// Tantivy cannot open a segment.
    pub fn reload(&self, reader: &IndexReader) -> Result<(), Error> {
        retrying(reader.searcher().index(), || reader.reload())
    }

    /// Adds page vectors to a document, in f16. Checks everything before tantivy sees the document, as an error inside
    /// an index writer would end it.
    ///
    /// # Errors
    /// `field` is no late-interaction field or has another dimension, the document already has a value for it, the page's
    /// layout does not fit its tokens, or its model is known and is not that of the index.
    pub fn add(&self, document: &mut TantivyDocument, field: Field, page: &PageVectors) -> Result<(), Error> {
        let served = self.served()?;
        let late = served.late_field(field)?;
        let (received, expected) = (page.vectors.dim(), late.options.dim());
        if received != expected {
            return Err(Error::Dim { field: late.name.clone(), received, expected });
        }
        if document.get_first(field).is_some() {
            return Err(Error::TwoValues { field: late.name.clone() });
        }
        // Whoever made it without `with_layout` has not checked it.
        if let Some(layout) = &page.layout {
            layout.check(page.vectors.tokens())?;
        }
        if let Origin::Model(received) = page.origin {
            let mut models = served.models.lock().unwrap_or_else(PoisonError::into_inner);
            let expected = *models.entry(field).or_insert(received);
            if expected != received {
                return Err(Error::OtherPageModel { field: late.name.clone(), expected, received });
            }
        }
        if let Some((row, counter)) = &served.rows {
            // A document with two late-interaction fields keeps one row.
            if document.get_first(*row).is_none() {
                document.add_u64(*row, counter.next());
            }
        }
        document.add_custom(field, &encode_value(page));
        Ok(())
    }

    /// Rolls a writer back to the last commit, and forgets the model of pages that were added since.
    ///
    /// # Errors
    /// Tantivy cannot roll back or read the last commit.
    pub fn rollback<D: Document>(&self, writer: &mut IndexWriter<D>) -> Result<u64, Error> {
        let served = self.served()?;
        let opstamp = writer.rollback()?;
        let models = committed_models(&served.index, &served.fields, &self.shared.codebooks)?;
        *served.models.lock().unwrap_or_else(PoisonError::into_inner) = models;
        Ok(opstamp)
    }

    /// The known model of a field's pages, committed or added since; `None` while there are no pages of a known model.
    ///
    /// # Errors
    /// The handle serves no index, or `field` is no late-interaction field.
    pub fn model(&self, field: Field) -> Result<Option<Fingerprint>, Error> {
        let served = self.served()?;
        served.late_field(field)?;
        Ok(served.models.lock().unwrap_or_else(PoisonError::into_inner).get(&field).copied())
    }

    /// A query for the pages of `field` that are nearest to `vectors` by MaxSim.
    pub fn query(&self, field: Field, vectors: QueryVectors) -> LateInteractionQuery {
        LateInteractionQuery::new(self.shared.cache.clone(), field, vectors)
    }

    /// Ranks the hits of any other query, by BM25 say, anew by their MaxSim with `vectors`.
    pub fn rescorer(&self, field: Field, vectors: QueryVectors) -> LateInteractionRescorer {
        LateInteractionRescorer::new(self.shared.cache.clone(), field, vectors)
    }

    /// The vectors of one document as they are stored, at the highest precision; `None` if it has none in `field`.
    ///
    /// # Errors
    /// The searcher has no such document, or the segment's file is gone or damaged.
    pub fn page(&self, searcher: &Searcher, field: Field, address: DocAddress) -> Result<Option<PageVectors>, Error> {
        let file = self.shared.cache.get(reader_of(searcher, address)?)?;
        let Some(table) = file.field(field) else { return Ok(None) };
        let Some(place) = table.place_of(address.doc_id) else { return Ok(None) };
        let page = &table.pages[place];
        let vectors = MultiVector::try_new(table.dim, file.values(field, place)?, UnitLength::Any)?;
        let stored = PageVectors::new(vectors).with_origin(table.origins[usize::from(page.origin)]);
        Ok(Some(match file.layout(table, page)? {
            Some(layout) => stored.with_layout(layout)?,
            None => stored,
        }))
    }

    /// Where the tokens of one document lie on its page, where that was recorded.
    ///
    /// # Errors
    /// The searcher has no such document, or the segment's file is gone or damaged.
    pub fn layout(&self, searcher: &Searcher, field: Field, address: DocAddress) -> Result<Option<PageLayout>, Error> {
        let file = self.shared.cache.get(reader_of(searcher, address)?)?;
        let Some(table) = file.field(field) else { return Ok(None) };
        table.page_of(address.doc_id).map_or(Ok(None), |page| file.layout(table, page))
    }

    /// What each segment of a searcher holds of each late-interaction field.
    ///
    /// # Errors
    /// A segment's file is gone or damaged.
    pub fn segments(&self, searcher: &Searcher) -> Result<Vec<SegmentSummary>, Error> {
        let files = self.shared.cache.all(searcher)?;
        Ok(files.iter().zip(searcher.segment_readers()).map(|(file, reader)| summary(file, reader)).collect())
    }

    /// Lets the next large segment that is written or merged train a new codebook for `field`: after the pages have changed
    /// in kind, or to describe all of them by one. Pages in 8 bits, in f16, or with an f16 copy get new codes when they are
    /// merged; pages in 4 or 2 bits alone keep theirs, as coarse codes would lose again what they lost once.
    ///
    /// # Errors
    /// The handle serves no index, or `field` is no late-interaction field.
    pub fn retrain(&self, field: Field) -> Result<(), Error> {
        self.served()?.late_field(field)?;
        self.shared.codebooks.retrain(field);
        Ok(())
    }

    /// Reads the vectors of all segments of a searcher and compares their checksums.
    ///
    /// # Errors
    /// The first file that is damaged, by segment.
    pub fn verify(&self, searcher: &Searcher) -> Result<(), Error> {
        self.shared.cache.all(searcher)?.iter().try_for_each(|file| file.verify())
    }
}

impl Served {
    fn late_field(&self, field: Field) -> Result<&LateField, Error> {
        self.fields.iter().find(|late| late.field == field).ok_or_else(|| {
            let schema = self.index.schema();
            let known = schema.fields().find(|(known, _)| *known == field).map(|(_, entry)| entry.name().to_owned());
            Error::NotLateInteraction { field: known.unwrap_or_else(|| format!("#{}", field.field_id())) }
        })
    }
}

impl fmt::Debug for LateInteraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateInteraction")
            .field("fields", &self.shared.served.get().map(|served| &served.fields))
            .finish()
    }
}

/// Opens segments again when a merge has removed one of them in between.
fn retrying<T>(index: &Index, open: impl Fn() -> tantivy::Result<T>) -> Result<T, Error> {
    // Where a committed segment lacks its file, another attempt cannot succeed.
    let complete = || {
        let segments = index.searchable_segments();
        segments.is_ok_and(|segments| segments.iter().all(|segment| segment.open_read(component()).is_ok()))
    };
    let mut attempt = 1;
    loop {
        match open() {
            Err(_) if attempt < RELOAD_ATTEMPTS && complete() => attempt += 1,
            outcome => return Ok(outcome?),
        }
    }
}

/// The known model of each field's live pages; the newest codebook of each field becomes the current one.
fn committed_models(
    index: &Index,
    fields: &[LateField],
    codebooks: &CurrentCodebooks,
) -> Result<HashMap<Field, Fingerprint>, Error> {
    let mut models = HashMap::new();
    for segment in index.searchable_segments()? {
        let reader = SegmentReader::open(&segment)?;
        let file = open_segment_file(&reader)?;
        for late in fields {
            let Some(table) = file.field(late.field) else { continue };
            file.blocks(late.field).iter().for_each(|block| codebooks.seed(late.field, &block.codebook));
            let live = table.pages.iter().filter(|page| !reader.is_deleted(page.doc));
            let mut origins = live.map(|page| table.origins[usize::from(page.origin)]);
            if let Some(model) = origins.find_map(Origin::fingerprint) {
                models.insert(late.field, model);
            }
        }
    }
    Ok(models)
}
