//! Which pages of an index are the same, and which pages of a log it no longer holds.

use std::collections::HashMap;

use colqwen_index_train::clicks::visits::Canonical;
use colqwen_index_train::data::PageId;

use crate::{Error, PageIndex};

/// Letters and digits of a text layer that is compared; pages with less are told apart by their vectors.
const ENOUGH_TEXT: usize = 40;

/// The first of each set of near-identical pages stands for all of them.
pub struct Pages {
    first: HashMap<PageId, PageId>,
    merged: usize,
}

impl Pages {
    /// Reads all live pages of an index. Near-identical are pages with the same letters and digits in the same order, case
    /// and everything between them aside, or, where there is hardly any text, with the same vectors.
    pub fn of(index: &PageIndex) -> Result<Self, Error> {
        let searcher = index.searcher();
        let mut known: HashMap<blake3::Hash, PageId> = HashMap::new();
        let (mut first, mut merged) = (HashMap::new(), 0);
        let mut pages: Vec<_> = index.texts(&searcher).collect::<Result<_, _>>()?;
        pages.sort_by(|one, other| (&one.doc_id, one.page).cmp(&(&other.doc_id, other.page)));
        for page in pages {
            let id = PageId::new(page.doc_id, page.page);
            let text: String =
                page.text.iter().flat_map(|text| text.chars()).filter(|letter| letter.is_alphanumeric()).collect();
            let mut hash = blake3::Hasher::new();
            if text.chars().count() >= ENOUGH_TEXT {
                hash.update(text.to_lowercase().as_bytes());
            } else if let Some(vectors) = index.page_vectors(&searcher, page.address)? {
                vectors.vectors.values().iter().for_each(|value| {
                    hash.update(&value.to_le_bytes());
                });
            }
            let representative = known.entry(hash.finalize()).or_insert_with(|| id.clone()).clone();
            merged += usize::from(representative != id);
            first.insert(id, representative);
        }
        Ok(Self { first, merged })
    }

    /// The page that stands for a page of a log.
    pub fn canonical(&self, page: &PageId) -> Canonical {
        self.first.get(page).map_or(Canonical::Deleted, |first| Canonical::Page(first.clone()))
    }

    /// Maps a ranking to the pages that stand for its own, each once.
    pub fn ranking(&self, ranking: impl IntoIterator<Item = PageId>) -> Vec<PageId> {
        let mut seen = std::collections::HashSet::new();
        let canonical = |page: PageId| self.first.get(&page).cloned().unwrap_or(page);
        ranking.into_iter().map(canonical).filter(|page| seen.insert(page.clone())).collect()
    }

    /// All pages.
    pub fn count(&self) -> usize {
        self.first.len()
    }

    /// Pages for which another one stands.
    pub fn merged(&self) -> usize {
        self.merged
    }
}
