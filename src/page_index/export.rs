//! A page index into a Parquet file, the reverse of import.

use std::path::Path;

use colqwen_index_field::Precision as Stored;
use colqwen_index_ingest::embeddings::{PageFileOptions, PageRecord, PageWriter, Precision};
use tantivy::{DocAddress, Searcher, TantivyDocument};

use super::PageIndex;
use crate::Error;

impl PageIndex {
    /// Writes all live pages to a file, with text, layout and further columns. `progress` is told the number of pages
    /// done, and stops the export by returning `false`; nothing is left behind then.
    ///
    /// # Errors
    /// The file cannot be written, or the index is damaged.
    pub fn export(&self, file: &Path, mut progress: impl FnMut(u64) -> bool) -> Result<u64, Error> {
        let searcher = self.searcher();
        let segments = self.handle.segments(&searcher)?;
        let precision = match self.precision()? {
            Stored::F16 => Precision::F16,
            _ => Precision::F32,
        };
        let mut options = PageFileOptions::new(self.dim());
        options.precision = precision;
        // A file takes its model from the index only if all pages have it.
        let mut origins = segments.iter().flat_map(|segment| &segment.fields).flat_map(|field| &field.origins);
        let first = origins.next().copied().unwrap_or_default();
        options.origin = if origins.all(|origin| *origin == first) { first } else { Default::default() };
        options.query_format = self.model().map(|model| model.query_format.clone());
        options.further = self.fields.further_columns().cloned().collect();
        options.pooled = self.any_pooled(&searcher)?;
        options.pool_factors = self.pages_by_pool_factor()?.into_keys().collect();
        let mut writer = PageWriter::create(file, options)?;
        let mut pages = 0;
        for page in self.pages(&searcher) {
            writer.write(&page?)?;
            pages += 1;
            if !progress(pages) {
                return Err(Error::Interrupted);
            }
        }
        writer.finish()?;
        Ok(pages)
    }

    /// All live pages of a snapshot, in the order of the index.
    pub fn pages<'a>(&'a self, searcher: &'a Searcher) -> impl Iterator<Item = Result<PageRecord, Error>> + 'a {
        live_addresses(searcher).filter_map(|address| self.page_at(searcher, address).transpose())
    }

    fn page_at(&self, searcher: &Searcher, address: DocAddress) -> Result<Option<PageRecord>, Error> {
        let Some(vectors) = self.handle.page(searcher, self.fields.tokens, address)? else { return Ok(None) };
        let document: TantivyDocument = searcher.doc(address)?;
        Ok(self.fields.page_of(&document, vectors))
    }

    fn any_pooled(&self, searcher: &Searcher) -> Result<bool, Error> {
        for address in live_addresses(searcher) {
            let layout = self.handle.layout(searcher, self.fields.tokens, address)?;
            if layout.is_some_and(|layout| layout.token_patches.is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

pub(super) fn live_addresses(searcher: &Searcher) -> impl Iterator<Item = DocAddress> + '_ {
    (0..)
        .zip(searcher.segment_readers())
        .flat_map(|(segment, reader)| reader.doc_ids_alive().map(move |doc| DocAddress::new(segment, doc)))
}
