//! The next generation of an index, of another model: encoded and built beside the one in use, then published.
//!
//! ```text
//! DIR/generations/NNNNNN.building/embeddings/   pages as the new model encodes them, part by part: what a killed run keeps
//! DIR/generations/NNNNNN.building/              the new index, merged from the old one with the new vectors
//! DIR/generations/NNNNNN/                       the same under its name; in use as soon as `current` says so
//! ```
//! The old generation serves, and takes pages and deletions, until the last step, which holds the writer's lock: what changed
//! meanwhile is carried over, then `current` is replaced.

mod disk;
mod encoded;
mod publish;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use colqwen_index_field::{Origin, PageVectors, Precision};
use colqwen_index_ingest::embeddings::{PageFileOptions, PageRecord};
use tantivy::{TantivyDocument, TantivyError};

use super::generations::{GENERATIONS_FOLDER, bytes_in, draft_folder, generation_folders, names_in};
use super::pointer::Pointer;
use super::{EMBEDDINGS_FOLDER, PageIndex, RecordedModel, generation_folder};
use crate::Error;

use encoded::EncodedPages;

/// Which model a generation is built for, as long as it is being built.
const PLAN_FILE: &str = "plan.json";
/// Marks a draft whose index is merged; names the pages that are in it without vectors.
const MERGED_FILE: &str = "merged.json";
/// Marks a generation that has its name and was not in use yet.
pub(super) const UNPUBLISHED_FILE: &str = "unpublished";
/// Locked while a generation is built.
const LOCK_FILE: &str = "building.lock";

/// A page whose vectors are to be made anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageToEncode {
    /// The document.
    pub doc_id: String,
    /// The page within it, from 1.
    pub page: u32,
    /// The file that the page can be rendered from again.
    pub source: Option<String>,
    /// The hash of the content that the stored vectors were made from; it also says how they were pooled.
    pub content_hash: Option<Vec<u8>>,
}

/// Makes the vectors of the next generation: from files rendered again, from hidden states, or from wherever they come.
pub trait EncodePages {
    /// How many pages are worth encoding together.
    fn at_once(&self) -> usize {
        1
    }

    /// The vectors of each page, in order, of the model that the generation is built for. A text in place of vectors says why
    /// this page cannot be encoded.
    ///
    /// # Errors
    /// No page can be encoded any more: the build ends, and what was encoded is kept.
    fn encode(&mut self, pages: &[PageToEncode]) -> Result<Vec<Result<PageVectors, String>>, Error>;
}

/// What becomes of pages that cannot be encoded again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LostPages {
    /// The build ends with the first of them.
    #[default]
    Refuse,
    /// They are not in the new generation.
    LeaveOut,
}

/// How the next generation is built.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Bytes of the disk that stay free.
    pub disk_reserve: u64,
    /// What becomes of pages that cannot be encoded again.
    pub lost: LostPages,
    /// Set from elsewhere to stop: what is encoded is kept.
    pub stop: Arc<AtomicBool>,
}

/// A generation that is being built, by this process alone. Dropped, it stays for a later run to go on with.
pub struct NextGeneration {
    number: u32,
    /// The folder it is built in.
    draft: PathBuf,
    model: RecordedModel,
    options: BuildOptions,
    encoded: EncodedPages,
    /// Pages that could not be encoded, and why.
    lost: BTreeMap<(String, u32), String>,
    _lock: File,
}

impl PageIndex {
    /// Begins the next generation, whose pages `model` makes, or goes on with one that was begun for the same model. One that was
    /// begun for another model is given up.
    ///
    /// # Errors
    /// Another process is building one, the disk has no room for it, or a file of an earlier run is damaged.
    pub fn next_generation(&self, model: RecordedModel, options: BuildOptions) -> Result<NextGeneration, Error> {
        let generations = self.folder.join(GENERATIONS_FOLDER);
        let path = generations.join(LOCK_FILE);
        let lock = OpenOptions::new().append(true).create(true).open(&path).map_err(Error::io(&path, "open it"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::BeingBuilt { path: self.folder.clone() }),
            Err(TryLockError::Error(cause)) => return Err(Error::Io { path, action: "lock it", cause }),
        }
        self.take_back_unpublished()?;
        let number = self.next_number()?;
        let draft = draft_folder(&self.folder, number);
        self.take_up_draft(&draft, &model)?;
        let mut files = PageFileOptions::new(self.dim());
        files.origin = Origin::Model(model.page_fingerprint);
        files.query_format = Some(model.query_format.clone());
        (files.pooled, files.pool_factors) = (true, self.pages_by_pool_factor()?.into_keys().collect());
        let encoded = EncodedPages::open(draft.join(EMBEDDINGS_FOLDER), files)?;
        let next = NextGeneration { number, draft, model, options, encoded, lost: BTreeMap::new(), _lock: lock };
        next.check_disk(self)?;
        Ok(next)
    }

    /// A generation that got its name and was never in use, as its run was killed in between, is a draft again.
    fn take_back_unpublished(&self) -> Result<(), Error> {
        let current = Pointer::read(&self.folder)?.map(|pointer| pointer.generation);
        for number in generation_folders(&self.folder)? {
            let folder = generation_folder(&self.folder, number);
            let mark = folder.join(UNPUBLISHED_FILE);
            if !mark.exists() {
                continue;
            }
            if Some(number) == current {
                fs::remove_file(&mark).map_err(Error::io(&mark, "remove it"))?;
            } else {
                let draft = draft_folder(&self.folder, number);
                fs::rename(&folder, &draft).map_err(Error::io(&folder, "rename it"))?;
            }
        }
        Ok(())
    }

    /// Makes `draft` of one that was begun for the same model, or anew; removes all others.
    fn take_up_draft(&self, draft: &Path, model: &RecordedModel) -> Result<(), Error> {
        let generations = self.folder.join(GENERATIONS_FOLDER);
        let drafts = names_in(&generations)?.into_iter().filter(|name| name.ends_with(".building"));
        let mut drafts: Vec<PathBuf> = drafts.map(|name| generations.join(name)).collect();
        let same = |draft: &PathBuf| {
            let plan = fs::read(draft.join(PLAN_FILE)).ok();
            let plan: Option<RecordedModel> = plan.and_then(|plan| serde_json::from_slice(&plan).ok());
            plan.is_some_and(|plan| plan.page_fingerprint == model.page_fingerprint)
        };
        let begun = drafts.iter().position(same).map(|at| drafts.remove(at));
        for other in drafts {
            fs::remove_dir_all(&other).map_err(Error::io(&other, "remove what an earlier run left"))?;
        }
        if let Some(begun) = begun.filter(|begun| begun != draft) {
            fs::rename(&begun, draft).map_err(Error::io(&begun, "rename it"))?;
        }
        fs::create_dir_all(draft).map_err(Error::io(draft, "create it"))?;
        let plan = draft.join(PLAN_FILE);
        let text = serde_json::to_vec(model)
            .map_err(|error| Error::Pointer { path: plan.clone(), problem: error.to_string() })?;
        fs::write(&plan, text).map_err(Error::io(&plan, "write it"))
    }
}

impl NextGeneration {
    /// The number that it will have, unless another one is published before.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Live pages that are not encoded yet.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn missing(&self, index: &PageIndex) -> Result<u64, Error> {
        Ok(self.missing_pages(index)?.len() as u64)
    }

    /// Encodes the live pages that are not encoded yet and keeps them: at least every 256 pages or 60 seconds, looked at after
    /// each batch, they are safe from a crash. `progress` is told how many of how many are done.
    ///
    /// # Errors
    /// A page cannot be encoded and may not be left out, `encoder` fails or gives vectors of another model, the disk is full, or
    /// [`Error::Interrupted`] after `options.stop`. Running it again goes on.
    pub fn encode(
        &mut self,
        index: &PageIndex,
        encoder: &mut dyn EncodePages,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Error> {
        let waiting = self.missing_pages(index)?;
        let (mut done, total) = (0, waiting.len() as u64);
        let outcome = waiting.chunks(encoder.at_once().max(1)).try_for_each(|batch| {
            if self.options.stop.load(Ordering::SeqCst) {
                return Err(Error::Interrupted);
            }
            self.encode_batch(batch, index, encoder)?;
            done += batch.len() as u64;
            progress(done, total);
            Ok(())
        });
        // What was encoded is kept, whatever ended the run.
        self.encoded.flush()?;
        outcome
    }

    fn encode_batch(
        &mut self,
        batch: &[PageToEncode],
        index: &PageIndex,
        encoder: &mut dyn EncodePages,
    ) -> Result<(), Error> {
        let vectors = encoder.encode(batch)?;
        let unexpected = |what, received: String, expected: String| Error::NewVectors { what, received, expected };
        if vectors.len() != batch.len() {
            let (received, expected) = (vectors.len().to_string(), batch.len().to_string());
            return Err(unexpected("pages encoded together", received, expected));
        }
        for (page, vectors) in batch.iter().zip(vectors) {
            let vectors = match vectors {
                Ok(vectors) => vectors,
                Err(problem) => {
                    self.lose(page, problem)?;
                    continue;
                }
            };
            let model = Origin::Model(self.model.page_fingerprint);
            if vectors.origin != model {
                return Err(unexpected("model of new vectors", vectors.origin.to_string(), model.to_string()));
            }
            if vectors.vectors.dim() != index.dim() {
                let (received, expected) = (vectors.vectors.dim().to_string(), index.dim().to_string());
                return Err(unexpected("dim of new vectors", received, expected));
            }
            let mut record = PageRecord::new(page.doc_id.clone(), page.page, vectors);
            (record.source, record.content_hash) = (page.source.clone(), page.content_hash.clone());
            self.encoded.keep(&record)?;
        }
        Ok(())
    }

    fn lose(&mut self, page: &PageToEncode, problem: String) -> Result<(), Error> {
        let (doc_id, number) = (page.doc_id.clone(), page.page);
        if self.options.lost == LostPages::Refuse {
            return Err(Error::PageLost { doc_id, page: number, problem });
        }
        self.lost.insert((doc_id, number), problem);
        Ok(())
    }

    /// The live pages that are neither encoded nor known to be lost, in the order of the index.
    fn missing_pages(&self, index: &PageIndex) -> Result<Vec<PageToEncode>, Error> {
        let mut missing = Vec::new();
        for reader in index.searcher().segment_readers() {
            let documents = reader.get_store_reader(1).map_err(TantivyError::from)?;
            for doc in reader.doc_ids_alive() {
                let document: TantivyDocument = documents.get(doc)?;
                let Some(page) = index.fields.page_to_encode(&document) else { continue };
                let key = (page.doc_id.clone(), page.page);
                if !self.lost.contains_key(&key) && !self.encoded.has(&key, page.content_hash.as_deref()) {
                    missing.push(page);
                }
            }
        }
        Ok(missing)
    }

    /// Refuses to begin what would fill the disk: the new index, as large as the old one, the embeddings, and the temporary file in
    /// which vectors wait to be coded.
    fn check_disk(&self, index: &PageIndex) -> Result<(), Error> {
        let segments = index.handle.segments(&index.searcher())?;
        let fields = segments.iter().flat_map(|segment| &segment.fields);
        let tokens: u64 = fields.map(|field| field.tokens).sum();
        let halves = tokens * index.dim() as u64 * 2;
        let folder = generation_folder(&index.folder, index.pointer.pages_generation());
        let old = bytes_in(&folder).saturating_sub(bytes_in(&folder.join(EMBEDDINGS_FOLDER)));
        let written = bytes_in(&self.draft);
        let needed = (old + halves).saturating_sub(written).saturating_add(self.options.disk_reserve);
        disk::check(&index.folder, "the next generation", needed)?;
        if index.precision()? == Precision::F16 {
            return Ok(());
        }
        disk::check(&std::env::temp_dir(), "vectors that wait to be coded", halves)
    }

    /// Gives the generation up and removes what was made of it.
    ///
    /// # Errors
    /// The folder cannot be removed.
    pub fn discard(self) -> Result<(), Error> {
        fs::remove_dir_all(&self.draft).map_err(Error::io(&self.draft, "remove it"))
    }
}
