//! Pages encoded again from hidden states that were kept: one matmul each, for a model that shares the backbone.

use std::collections::BTreeMap;
use std::path::PathBuf;

use colqwen_index_field::{Origin, PageVectors};
use colqwen_index_ingest::pooling::PoolFactor;
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::data::PageId;
use colqwen_index_train::hidden::{HiddenCache, Key, Kind};
use tantivy::{DocAddress, Searcher};

use super::caches::made_by;
use crate::indexing::hidden::parts_in;
use crate::model::Model;
use crate::page_index::{EncodePages, PageToEncode, SourcePages};
use crate::{Error, PageIndex};

/// Projects the hidden states of pages that `index --keep-hidden` left ([`PageIndex::hidden_folder`]), if the model has the
/// backbone that made them; renders and encodes all other pages, and those that are pooled, from their sources.
pub struct Reprojection<'m> {
    model: &'m Model,
    kept: Option<Kept>,
    sources: SourcePages<'m>,
}

/// The states, and the index, which says what stands where on the pages.
struct Kept {
    states: Vec<HiddenCache>,
    index: PageIndex,
    searcher: Searcher,
    places: BTreeMap<(String, u32), DocAddress>,
}

impl<'m> Reprojection<'m> {
    /// Of the pages of `index`, for `model`.
    ///
    /// # Errors
    /// The index cannot be opened once more, or its folder not be listed.
    pub fn new(index: &PageIndex, model: &'m Model) -> Result<Self, Error> {
        Ok(Self { model, kept: Kept::open(index, model)?, sources: SourcePages::new(model) })
    }

    fn project(&self, page: &PageToEncode) -> Result<Option<PageVectors>, Error> {
        let unpooled = page.content_hash.as_deref().filter(|hash| PoolFactor::of_content_hash(hash).is_none());
        let (Some(kept), Some(hash)) = (&self.kept, unpooled) else { return Ok(None) };
        let key = Key::Page(PageId::new(page.doc_id.clone(), page.page));
        let Some(cache) = kept.states.iter().find(|cache| cache.content_hash(&key) == Some(hash)) else {
            return Ok(None);
        };
        let Some(states) = cache.get(&key).map_err(TrainError::from)? else { return Ok(None) };
        // A page that came since has its states, but no place here.
        let Some(at) = kept.places.get(&(page.doc_id.clone(), page.page)) else { return Ok(None) };
        let stored = kept.index.page_vectors(&kept.searcher, *at)?;
        let Some(stored) = stored.filter(|stored| stored.vectors.tokens() == states.tokens()) else { return Ok(None) };
        let origin = Origin::Model(self.model.encoder.page_fingerprint());
        Ok(Some(PageVectors { vectors: self.model.encoder.project(&states)?, origin, layout: stored.layout }))
    }
}

impl Kept {
    /// What was kept of the pages of `index` by the backbone of `model`, if anything.
    fn open(index: &PageIndex, model: &Model) -> Result<Option<Self>, Error> {
        let parts = parts_in(&index.hidden_folder())?;
        // Fingerprints of backbones take a look at all weights.
        let Some(backbone) = (!parts.is_empty()).then(|| model.encoder.backbone()).flatten() else { return Ok(None) };
        let of_backbone =
            |(_, path): &(u64, PathBuf)| made_by(backbone.fingerprint, path, Kind::Pages, backbone.hidden_size, 0);
        // The last part first, as it has the pages that were encoded again.
        let states: Vec<HiddenCache> = parts.iter().rev().filter_map(of_backbone).collect();
        if states.is_empty() {
            return Ok(None);
        }
        let index = PageIndex::open(index.folder())?;
        let searcher = index.searcher();
        let places = index.places(&searcher)?;
        Ok(Some(Self { states, index, searcher, places }))
    }
}

impl EncodePages for Reprojection<'_> {
    fn at_once(&self) -> usize {
        self.sources.at_once()
    }

    fn encode(&mut self, pages: &[PageToEncode]) -> Result<Vec<Result<PageVectors, String>>, Error> {
        let projected = pages.iter().map(|page| self.project(page)).collect::<Result<Vec<_>, Error>>()?;
        let rest: Vec<PageToEncode> = pages
            .iter()
            .zip(&projected)
            .filter(|(_, vectors)| vectors.is_none())
            .map(|(page, _)| page.clone())
            .collect();
        let mut rendered = if rest.is_empty() { Vec::new() } else { self.sources.encode(&rest)? }.into_iter();
        let missing = || Err("the model gave no vectors".to_owned());
        Ok(projected
            .into_iter()
            .map(|vectors| vectors.map_or_else(|| rendered.next().unwrap_or_else(missing), Ok))
            .collect())
    }
}
