//! Hidden states of all queries and pages of a training, computed where no earlier run left them.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use colqwen_index_ingest::colqwen2::{ColQwen2, HiddenStates};
use colqwen_index_ingest::encoder::{Encoder, EncoderError};
use colqwen_index_ingest::page::Document;
use colqwen_index_ingest::pooling::PoolFactor;
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::data::{PageId, TrainingData};
use colqwen_index_train::hidden::{HiddenCache, HiddenSource, HiddenWriter, Key, Kind};

use super::pages::{Wanted, open_documents};
use super::{LostPages, Pages, Preparation};
use crate::Error;
use crate::indexing::hidden::parts_in;

/// Queries that go through the model together.
const QUERIES_AT_ONCE: usize = 32;

/// What was computed, and what an earlier run had left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheReport {
    /// Pages that went through the model.
    pub pages_computed: usize,
    /// Pages whose states were there.
    pub pages_kept: usize,
    /// Queries that went through the model.
    pub queries_computed: usize,
    /// Queries whose states were there.
    pub queries_kept: usize,
}

/// The hidden states of everything that `data` names, from `folder/pages.parquet` and `folder/queries.parquet`. Pages come
/// from their files, or from what `index --keep-hidden` left; what is missing in the caches, was made by another backbone or from another content of the file is
/// computed. Without `pages` the source has queries alone. `memory` bytes of each cache are held. Pages that cannot be found,
/// rendered or encoded go to `lost`, and are then missing in the source.
///
/// # Errors
/// The first lost page, if none may be lost; the disk is full; or `progress` breaks the work off, which keeps what was computed.
pub fn hidden_source(
    folder: &Path,
    model: &ColQwen2,
    data: &TrainingData,
    pages: Option<Pages<'_>>,
    memory: usize,
    lost: &mut LostPages,
    progress: impl FnMut(Preparation<'_>) -> ControlFlow<()>,
) -> Result<(HiddenSource, CacheReport), Error> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder, "create it"))?;
    let kept = match pages {
        Some(Pages::Index(index)) => parts_in(&index.hidden_folder())?.into_iter().map(|(_, path)| path).collect(),
        _ => Vec::new(),
    };
    let mut making =
        Making { folder, model, memory, kept, backbone: model.backbone_fingerprint(), report: CacheReport::default() };
    let queries = making.queries(data)?;
    let source = match pages {
        None => HiddenSource::of_queries(queries, making.backbone)?,
        Some(pages) => {
            let documents = open_documents(pages, &data.pages(), lost)?;
            HiddenSource::new(queries, making.pages(&documents, lost, progress)?, making.backbone)?
        }
    };
    Ok((source, making.report))
}

/// The cache at `path`, if it can be read and holds this kind of states, of this width, of the model part with this identity.
pub(super) fn made_by(
    part: crate::Fingerprint,
    path: &Path,
    kind: Kind,
    width: usize,
    memory: usize,
) -> Option<HiddenCache> {
    let cache = HiddenCache::open(path, memory).ok()?;
    (cache.backbone() == part && cache.kind() == kind && cache.width() == width).then_some(cache)
}

struct Making<'a> {
    folder: &'a Path,
    model: &'a ColQwen2,
    memory: usize,
    /// Hidden states that indexing kept, part by part.
    kept: Vec<PathBuf>,
    backbone: crate::Fingerprint,
    report: CacheReport,
}

impl Making<'_> {
    /// The cache that an earlier run left, if this model made it. One that cannot be read is made anew.
    fn earlier(&self, path: &Path, kind: Kind, memory: usize) -> Option<HiddenCache> {
        made_by(self.backbone, path, kind, self.model.hidden_size(), memory)
    }

    fn open(&self, path: &Path) -> Result<HiddenCache, Error> {
        Ok(HiddenCache::open(path, self.memory).map_err(TrainError::from)?)
    }

    fn writer(&self, path: &Path, kind: Kind) -> Result<HiddenWriter, Error> {
        Ok(HiddenWriter::create(path, kind, self.model.hidden_size(), self.backbone).map_err(TrainError::from)?)
    }

    fn queries(&mut self, data: &TrainingData) -> Result<HiddenCache, Error> {
        let path = self.folder.join("queries.parquet");
        let mut texts: Vec<&str> = data.questions.iter().map(|question| question.query.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        let earlier = self.earlier(&path, Kind::Queries, self.memory);
        let key = |text: &str| Key::Query(text.to_owned());
        let has = |text: &&str| earlier.as_ref().is_some_and(|cache| cache.has(&key(text)));
        let (kept, missing): (Vec<&str>, Vec<&str>) = texts.into_iter().partition(has);
        self.report.queries_kept = kept.len();
        self.report.queries_computed = missing.len();
        if missing.is_empty() && earlier.is_some() {
            return self.open(&path);
        }
        let mut writer = self.writer(&path, Kind::Queries)?;
        for text in kept {
            copy(&mut writer, earlier.as_ref(), &key(text), None)?;
        }
        for texts in missing.chunks(QUERIES_AT_ONCE) {
            for (text, states) in texts.iter().zip(self.model.hidden_queries(texts)?) {
                writer.write(&key(text), None, states).map_err(TrainError::from)?;
            }
        }
        writer.finish().map_err(TrainError::from)?;
        self.open(&path)
    }

    fn pages(
        &mut self,
        documents: &[Wanted],
        lost: &mut LostPages,
        mut progress: impl FnMut(Preparation<'_>) -> ControlFlow<()>,
    ) -> Result<HiddenCache, Error> {
        let path = self.folder.join("pages.parquet");
        let own = self.earlier(&path, Kind::Pages, self.memory);
        let complete = own.is_some();
        // What indexing kept, the last part first: read once from beginning to end, so little of it is held.
        let kept = self.kept.iter().rev().filter_map(|part| self.earlier(part, Kind::Pages, 0));
        let earlier: Vec<HiddenCache> = own.into_iter().chain(kept).collect();
        let current = |document: &Document, page: &PageId| {
            let key = Key::Page(page.clone());
            let hash = document.content_hash();
            // The index tells pooled pages by their hash, which hidden states do not depend on.
            let is = |cache: &&HiddenCache| {
                cache
                    .content_hash(&key)
                    .is_some_and(|found| PoolFactor::of_content_hash(found).content_hash(&hash) == found)
            };
            earlier.iter().find(is)
        };
        let all = || documents.iter().flat_map(|(document, pages)| pages.iter().map(move |page| (document, page)));
        self.report.pages_kept = all().filter(|(document, page)| current(document, page).is_some()).count();
        self.report.pages_computed = all().count() - self.report.pages_kept;
        // Whoever breaks off is heard at the first page.
        let _ = progress(Preparation::Planned { pages: self.report.pages_computed });
        let in_own =
            |(document, page): (&Document, &PageId)| current(document, page).is_some_and(|cache| cache.path() == path);
        if complete && all().all(in_own) {
            return self.open(&path);
        }
        let mut writer = self.writer(&path, Kind::Pages)?;
        // First what is there, so that a run which breaks off loses nothing.
        for (document, page) in all() {
            if let Some(cache) = current(document, page) {
                copy(&mut writer, Some(cache), &Key::Page(page.clone()), Some(&document.content_hash()))?;
            }
        }
        let mut flow = ControlFlow::Continue(());
        for (document, pages) in documents {
            let missing: Vec<&PageId> = pages.iter().filter(|page| current(document, page).is_none()).collect();
            flow = self.compute(&mut writer, document, &missing, lost, &mut progress)?;
            if flow.is_break() {
                break;
            }
        }
        writer.finish().map_err(TrainError::from)?;
        if flow.is_break() { Err(Error::Interrupted) } else { self.open(&path) }
    }

    fn compute(
        &self,
        writer: &mut HiddenWriter,
        document: &Document,
        pages: &[&PageId],
        lost: &mut LostPages,
        progress: &mut impl FnMut(Preparation<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let (hash, budget) = (document.content_hash(), self.model.page_budget());
        let mut reader = document.reader();
        for pages in pages.chunks(self.model.pages_at_once()) {
            let (mut images, mut rendered) = (Vec::with_capacity(pages.len()), Vec::with_capacity(pages.len()));
            for page in pages {
                match reader.page(page.page, &budget) {
                    Ok(found) => {
                        images.push(found.image);
                        rendered.push(*page);
                    }
                    Err(error) => lost.lose(page, error)?,
                }
            }
            let mut flow = ControlFlow::Continue(());
            // Where the model refuses one, each by itself, to learn which it is.
            let at_once = self.model.hidden_pages(&images).map(|states| states.into_iter().map(Ok).collect());
            let states: Vec<Result<HiddenStates, EncoderError>> = at_once.unwrap_or_else(|_| {
                let alone = |image| Ok(self.model.hidden_pages(std::slice::from_ref(image))?.remove(0));
                images.iter().map(alone).collect()
            });
            for (page, states) in rendered.into_iter().zip(states) {
                let states = match states {
                    Ok(states) => states,
                    Err(error) => {
                        lost.lose(page, error)?;
                        continue;
                    }
                };
                writer.write(&Key::Page(page.clone()), Some(&hash), states).map_err(TrainError::from)?;
                flow = progress(Preparation::Page { doc_id: &page.doc_id });
            }
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Takes a page, whose file has this content hash, or a query over from an earlier cache.
fn copy(
    writer: &mut HiddenWriter,
    from: Option<&HiddenCache>,
    key: &Key,
    content_hash: Option<&[u8; 32]>,
) -> Result<(), Error> {
    let Some(cache) = from else { return Ok(()) };
    if let Some(states) = cache.get(key).map_err(TrainError::from)? {
        let hash = content_hash.map(<[u8; 32]>::as_slice);
        writer.write(key, hash, (*states).clone()).map_err(TrainError::from)?;
    }
    Ok(())
}
