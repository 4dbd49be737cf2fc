//! What a page index holds, for people and for machines.

use std::collections::BTreeMap;

use colqwen_index_field::SegmentSummary;
use colqwen_index_ingest::pooling::PoolFactor;
use tantivy::collector::DocSetCollector;

use tantivy::schema::Value;
use tantivy::{DocAddress, Searcher, TantivyDocument};

use super::{PageIndex, RecordedModel};
use crate::Error;

/// The number of a stored page, and the hash of the content that it was made from.
pub type StoredPage = (u32, Option<Vec<u8>>);

/// The file that a stored page came from, and the hash of the content that it was made from.
pub type PageSource = (Option<String>, Option<Vec<u8>>);

/// What a page index holds.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Live pages.
    pub pages: u64,
    /// Documents with at least one live page.
    pub documents: u64,
    /// Values per token.
    pub dim: usize,
    /// The generation in use.
    pub generation: u32,
    /// The model that was recorded.
    pub model: Option<RecordedModel>,
    /// Parts of embeddings up to this number are in the index.
    pub last_part: u64,
    /// By which factor indexing pools tokens unless told otherwise.
    pub pool_factor: PoolFactor,
    /// How many live pages were pooled by which factor, as their content hashes record it; 1 also where nothing is known.
    pub pages_by_pool_factor: BTreeMap<PoolFactor, u64>,
    /// Each segment.
    pub segments: Vec<SegmentSummary>,
}

impl PageIndex {
    /// Sums up the index; with `verify` all vectors are read and their checksums compared.
    ///
    /// # Errors
    /// A file is damaged.
    pub fn inspect(&self, verify: bool) -> Result<Inspection, Error> {
        let searcher = self.searcher();
        if verify {
            self.handle.verify(&searcher)?;
        }
        Ok(Inspection {
            pages: searcher.num_docs(),
            documents: self.doc_ids()?.len() as u64,
            dim: self.dim(),
            generation: self.pointer.generation,
            model: self.model().cloned(),
            last_part: self.last_part()?,
            pool_factor: self.pool_factor(),
            pages_by_pool_factor: self.pages_by_pool_factor()?,
            segments: self.handle.segments(&searcher)?,
        })
    }

    /// How many live pages were pooled by which factor; 1 also where nothing is known of it.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn pages_by_pool_factor(&self) -> Result<BTreeMap<PoolFactor, u64>, Error> {
        let searcher = self.searcher();
        let mut pages = BTreeMap::new();
        if !self.has_pooled() {
            // Spares an index without pooled pages the reading of all its documents.
            pages.insert(PoolFactor::NONE, searcher.num_docs());
            return Ok(pages);
        }
        for reader in searcher.segment_readers() {
            let documents = reader.get_store_reader(1).map_err(tantivy::TantivyError::from)?;
            for doc in reader.doc_ids_alive() {
                let document: TantivyDocument = documents.get(doc)?;
                let hash = document.get_first(self.fields.content_hash).and_then(|value| value.as_bytes());
                *pages.entry(hash.map_or(PoolFactor::NONE, PoolFactor::of_content_hash)).or_default() += 1;
            }
        }
        Ok(pages)
    }

    /// The ids of all documents with at least one live page, in order.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn doc_ids(&self) -> Result<std::collections::BTreeSet<String>, Error> {
        let searcher = self.searcher();
        let mut ids = std::collections::BTreeSet::new();
        for reader in searcher.segment_readers() {
            let Some(column) = reader.fast_fields().str(super::fields::DOC_ID)? else { continue };
            let mut ordinals: Vec<u64> =
                reader.doc_ids_alive().flat_map(|doc| column.term_ords(doc).collect::<Vec<_>>()).collect();
            ordinals.sort_unstable();
            ordinals.dedup();
            for ordinal in ordinals {
                let mut id = String::new();
                column.ord_to_str(ordinal, &mut id).map_err(tantivy::TantivyError::from)?;
                ids.insert(id);
            }
        }
        Ok(ids)
    }

    /// The live pages of a document by number: the file each came from, and its content hash.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn sources_of(&self, doc_id: &str) -> Result<BTreeMap<u32, PageSource>, Error> {
        let searcher = self.searcher();
        let query = tantivy::query::TermQuery::new(
            self.fields.document_term(doc_id),
            tantivy::schema::IndexRecordOption::Basic,
        );
        let mut pages = BTreeMap::new();
        for address in searcher.search(&query, &DocSetCollector)? {
            let document: TantivyDocument = searcher.doc(address)?;
            let number = document.get_first(self.fields.page).and_then(|value| value.as_u64());
            let Some(number) = number.and_then(|number| u32::try_from(number).ok()) else { continue };
            let source = document.get_first(self.fields.source).and_then(|value| value.as_str().map(str::to_owned));
            let hash = document.get_first(self.fields.content_hash);
            pages.insert(number, (source, hash.and_then(|value| value.as_bytes().map(<[u8]>::to_vec))));
        }
        Ok(pages)
    }

    /// Where each live page of a snapshot stands, by document and number.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn places(&self, searcher: &Searcher) -> Result<BTreeMap<(String, u32), DocAddress>, Error> {
        let mut places = BTreeMap::new();
        for (segment, reader) in (0..).zip(searcher.segment_readers()) {
            let fast = reader.fast_fields();
            let (ids, pages) = (fast.str(super::fields::DOC_ID)?, fast.u64(super::fields::PAGE)?);
            let Some(ids) = ids else { continue };
            for doc in reader.doc_ids_alive() {
                let (Some(ordinal), Some(page)) = (ids.term_ords(doc).next(), pages.first(doc)) else { continue };
                let mut id = String::new();
                ids.ord_to_str(ordinal, &mut id).map_err(tantivy::TantivyError::from)?;
                places.insert((id, page as u32), DocAddress::new(segment, doc));
            }
        }
        Ok(places)
    }

    /// The live pages of a document: page number and content hash.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn pages_of(&self, doc_id: &str) -> Result<Vec<StoredPage>, Error> {
        let searcher = self.searcher();
        let term = self.fields.document_term(doc_id);
        let query = tantivy::query::TermQuery::new(term, tantivy::schema::IndexRecordOption::Basic);
        let mut pages = Vec::new();
        for address in searcher.search(&query, &DocSetCollector)? {
            let document: TantivyDocument = searcher.doc(address)?;
            let number = document.get_first(self.fields.page).and_then(|value| value.as_u64());
            let hash =
                document.get_first(self.fields.content_hash).and_then(|value| value.as_bytes().map(<[u8]>::to_vec));
            pages.extend(number.and_then(|number| u32::try_from(number).ok()).map(|number| (number, hash)));
        }
        pages.sort_unstable();
        Ok(pages)
    }
}
