//! Two caches as the source of a training.

use std::collections::HashMap;
use std::sync::Arc;

use colqwen_index_field::Fingerprint;
use colqwen_index_ingest::colqwen2::HiddenStates;

use super::{HiddenCache, Key, Kind};
use crate::Error;
use crate::data::PageId;
use crate::trainer::Source;

/// The hidden states of queries and pages, made by one backbone.
#[derive(Debug)]
pub struct HiddenSource {
    queries: HiddenCache,
    pages: Option<HiddenCache>,
}

impl HiddenSource {
    /// Puts a cache of queries and one of pages together.
    ///
    /// # Errors
    /// One of them was not made by the model with this backbone, or holds the other kind.
    pub fn new(queries: HiddenCache, pages: HiddenCache, backbone: Fingerprint) -> Result<Self, Error> {
        let source = Self { queries, pages: Some(pages) };
        source.check(backbone)?;
        Ok(source)
    }

    /// Queries alone, where pages do not learn.
    ///
    /// # Errors
    /// As [`HiddenSource::new`].
    pub fn of_queries(queries: HiddenCache, backbone: Fingerprint) -> Result<Self, Error> {
        let source = Self { queries, pages: None };
        source.check(backbone)?;
        Ok(source)
    }

    fn check(&self, backbone: Fingerprint) -> Result<(), Error> {
        let pages = self.pages.iter().map(|pages| (pages, Kind::Pages));
        for (cache, kind) in pages.chain([(&self.queries, Kind::Queries)]) {
            if cache.kind() != kind {
                return Err(Error::shape("cache of hidden states", format!("{kind:?}"), format!("{:?}", cache.kind())));
            }
            if cache.backbone() != backbone {
                let expected = format!("those of the backbone {}", backbone.short());
                return Err(Error::shape("hidden states", expected, format!("those of {}", cache.backbone().short())));
            }
        }
        Ok(())
    }

    /// Pages whose states are the same to the last bit, each with the number of its kind; pages that are like no other are
    /// left out. Reads the whole cache of pages.
    ///
    /// # Errors
    /// The cache is damaged or gone.
    pub fn copies(&self) -> Result<HashMap<PageId, u64>, Error> {
        let mut kinds: HashMap<[u8; 32], Vec<PageId>> = HashMap::new();
        let Some(cache) = &self.pages else { return Ok(HashMap::new()) };
        for key in cache.keys_as_stored() {
            let Key::Page(page) = key else { continue };
            let states = self.find(cache, key)?;
            let mut hasher = blake3::Hasher::new();
            states.values().chunks(4096).for_each(|values| {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                hasher.update(&bytes);
            });
            kinds.entry(*hasher.finalize().as_bytes()).or_default().push(page.clone());
        }
        let alike = kinds.into_values().filter(|pages| pages.len() > 1).zip(0..);
        Ok(alike.flat_map(|(pages, kind)| pages.into_iter().map(move |page| (page, kind))).collect())
    }

    fn find(&self, cache: &HiddenCache, key: &Key) -> Result<Arc<HiddenStates>, Error> {
        cache.get(key)?.ok_or_else(|| Error::Missing {
            what: key.to_string(),
            place: cache.path().display().to_string(),
            hint: "; the cache was made for other data, delete it to have it made anew",
        })
    }
}

impl Source for HiddenSource {
    type Item = Arc<HiddenStates>;

    fn query(&self, query: &str) -> Result<Self::Item, Error> {
        self.find(&self.queries, &Key::Query(query.to_owned()))
    }

    fn page(&self, page: &PageId) -> Result<Self::Item, Error> {
        match &self.pages {
            Some(pages) => self.find(pages, &Key::Page(page.clone())),
            None => Err(Error::Missing { what: page.to_string(), place: "a source of queries alone".into(), hint: "" }),
        }
    }
}
