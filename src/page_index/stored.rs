//! What an index holds of its pages: where each stands, its text, its vectors.

use colqwen_index_field::PageVectors;
use tantivy::schema::Value;
use tantivy::{DocAddress, Searcher, TantivyDocument};

use super::PageIndex;
use super::export::live_addresses;
use crate::Error;

/// A live page without its vectors.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredText {
    /// The document.
    pub doc_id: String,
    /// The page within it, from 1.
    pub page: u32,
    /// Where it stands in the searcher.
    pub address: DocAddress,
    /// Its text layer.
    pub text: Option<String>,
}

impl PageIndex {
    /// All live pages of a snapshot, in the order of the index, without their vectors.
    pub fn texts<'a>(&'a self, searcher: &'a Searcher) -> impl Iterator<Item = Result<StoredText, Error>> + 'a {
        live_addresses(searcher).filter_map(|address| self.text_at(searcher, address).transpose())
    }

    fn text_at(&self, searcher: &Searcher, address: DocAddress) -> Result<Option<StoredText>, Error> {
        let document: TantivyDocument = searcher.doc(address)?;
        let text = |field| document.get_first(field).and_then(|value| value.as_str()).map(str::to_owned);
        let page = document.get_first(self.fields.page).and_then(|value| value.as_u64());
        let (Some(doc_id), Some(page)) = (text(self.fields.doc_id), page.and_then(|page| u32::try_from(page).ok()))
        else {
            return Ok(None);
        };
        Ok(Some(StoredText { doc_id, page, address, text: text(self.fields.text) }))
    }

    /// The vectors of the page at an address of the snapshot, `tokens x dim`, as they were decoded from what is stored.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn page_vectors(&self, searcher: &Searcher, address: DocAddress) -> Result<Option<PageVectors>, Error> {
        Ok(self.handle.page(searcher, self.fields.tokens, address)?)
    }
}
