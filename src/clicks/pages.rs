//! Which pages of an index are the same, and which pages of a log it no longer holds.

use std::collections::BTreeMap;

use colqwen_index_train::clicks::visits::Canonical;
use colqwen_index_train::data::PageId;

use crate::training::first_copies;
use crate::{Error, PageIndex};

/// The first of each set of near-identical pages stands for all of them.
pub struct Pages {
    first: BTreeMap<PageId, PageId>,
    merged: usize,
}

impl Pages {
    /// Reads all live pages of an index.
    pub fn of(index: &PageIndex) -> Result<Self, Error> {
        let first = first_copies(index)?;
        let merged = first.iter().filter(|(page, first)| page != first).count();
        Ok(Self { first, merged })
    }

    /// A hash of which pages there are and which of them are the same.
    pub fn digest(&self) -> String {
        let mut hash = blake3::Hasher::new();
        for (page, first) in &self.first {
            hash.update(format!("{page}\n{first}\n").as_bytes());
        }
        hash.finalize().to_hex().to_string()
    }

    /// Whether a page is among them.
    pub fn holds(&self, page: &PageId) -> bool {
        self.first.contains_key(page)
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
