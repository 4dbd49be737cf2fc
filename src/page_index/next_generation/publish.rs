//! From encoded pages to the generation in use.

use std::collections::BTreeSet;
use std::fs;

use colqwen_index_field::{PageVectors, StoredPage, reencode};
use tantivy::directory::MmapDirectory;
use tantivy::index::SegmentId;
use tantivy::store::StoreReader;
use tantivy::{TantivyDocument, TantivyError};

use super::super::generations::{remove_parts, sync_folder};
use super::super::lease::LeasedDirectory;
use super::super::pointer::{Pointer, RECORD_FILE};
use super::super::{EMBEDDINGS_FOLDER, KeepGenerations, PageIndex, Published, generation_folder, seconds_now};
use super::{EncodePages, GENERATIONS_FOLDER, MERGED_FILE, NextGeneration, PLAN_FILE, UNPUBLISHED_FILE};
use crate::Error;

type PageKey = (String, u32);

impl NextGeneration {
    /// Encodes what is missing, builds the new index, carries over what changed meanwhile, and puts it to use. `index` then stands
    /// on the new generation. Only the last part holds the lock against other writers.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), or the index is being written to ([`Error::Busy`]). The generation in use serves on as it was,
    /// and publishing again, also by another process after a crash, goes on.
    pub fn publish(
        mut self,
        index: &mut PageIndex,
        encoder: &mut dyn EncodePages,
        keep: KeepGenerations,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Published, Error> {
        index.reload()?;
        self.encode(index, encoder, progress)?;
        self.check_disk(index)?;
        let without_vectors = self.merge(index)?;
        let writer = index.current_writer()?;
        index.reload()?;
        // What came since is little: it is encoded while nobody writes.
        self.encode(index, encoder, progress)?;
        let mut published = self.carry_over(index, &without_vectors)?;
        published.lost =
            self.lost.iter().map(|((doc_id, page), problem)| format!("{doc_id} page {page}: {problem}")).collect();
        self.swap(index, &published)?;
        drop(writer);
        index.reload()?;
        index.remove_old(published, keep)
    }

    /// Builds the new index of the last commit and what is encoded of it, as [`publish`](Self::publish) will find it, so that it
    /// can be looked at before anything is decided.
    pub(crate) fn build(&mut self, index: &PageIndex) -> Result<(), Error> {
        self.check_disk(index)?;
        self.merge(index)?;
        Ok(())
    }

    /// What was built, to be searched: its pages are coded as they will be stored. To be dropped before it is published or given
    /// up.
    pub(crate) fn built(&self, index: &PageIndex) -> Result<PageIndex, Error> {
        self.open_draft(index, self.number)
    }

    fn open_draft(&self, index: &PageIndex, number: u32) -> Result<PageIndex, Error> {
        let pointer = Pointer {
            generation: number,
            model: Some(self.model.clone()),
            pages_of: None,
            created: Some(seconds_now()),
            previous: Some(index.generation()),
            ..index.pointer.clone()
        };
        let gone = || Error::io(&self.draft, "open it")(std::io::ErrorKind::NotFound.into());
        let directory = LeasedDirectory::open(&self.draft)?.ok_or_else(gone)?;
        PageIndex::open_generation(&index.folder, pointer, directory)
    }

    /// Merges the last commit into the draft, unless an earlier run did; returns the pages that have no vectors in it, as they
    /// were committed after all others were encoded.
    fn merge(&mut self, index: &PageIndex) -> Result<BTreeSet<PageKey>, Error> {
        let mark = self.draft.join(MERGED_FILE);
        if let Some(without) = fs::read(&mark).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
            return Ok(without);
        }
        self.clear_index()?;
        let directory = MmapDirectory::open(&self.draft).map_err(TantivyError::from)?;
        let mut without = BTreeSet::new();
        let mut stored: Option<(SegmentId, StoreReader)> = None;
        reencode(&index.index, directory, index.fields.tokens, |page| {
            let vectors = self.new_vectors(index, page, &mut stored)?;
            if let (key, None) = &vectors {
                without.insert(key.clone());
            }
            Ok::<_, Error>(vectors.1)
        })?;
        let text = serde_json::to_vec(&without)
            .map_err(|error| Error::Pointer { path: mark.clone(), problem: error.to_string() })?;
        fs::write(&mark, text).map_err(Error::io(&mark, "write it"))?;
        Ok(without)
    }

    fn new_vectors(
        &mut self,
        index: &PageIndex,
        page: StoredPage<'_>,
        stored: &mut Option<(SegmentId, StoreReader)>,
    ) -> Result<(PageKey, Option<PageVectors>), Error> {
        let segment = page.segment.segment_id();
        let documents = match stored {
            Some((opened, documents)) if *opened == segment => documents,
            other => {
                let documents = page.segment.get_store_reader(1).map_err(TantivyError::from)?;
                &mut other.insert((segment, documents)).1
            }
        };
        let document: TantivyDocument = documents.get(page.doc)?;
        let Some(page) = index.fields.page_to_encode(&document) else { return Ok(Default::default()) };
        let key = (page.doc_id, page.page);
        let vectors = self.encoded.vectors(&key, page.content_hash.as_deref())?;
        Ok((key, vectors))
    }

    /// Removes what an interrupted merge left: all files that are not embeddings.
    fn clear_index(&self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.draft).map_err(Error::io(&self.draft, "list it"))? {
            let path = entry.map_err(Error::io(&self.draft, "list it"))?.path();
            if path.is_file() && path.file_name().is_some_and(|name| name != PLAN_FILE) {
                fs::remove_file(&path).map_err(Error::io(&path, "remove what an interrupted run left"))?;
            }
        }
        Ok(())
    }

    /// Brings the draft to the pages that `index` has now, which nobody else writes to.
    fn carry_over(&mut self, index: &PageIndex, without_vectors: &BTreeSet<PageKey>) -> Result<Published, Error> {
        let previous = index.generation();
        self.number = index.next_number()?;
        let next = self.open_draft(index, self.number)?;
        let (now, built) = (index.page_digests()?, next.page_digests()?);
        let searcher = index.searcher();
        let mut writer = next.unchecked_writer()?;
        let mut published = Published { generation: self.number, previous, ..Published::default() };
        for (key, (digest, address)) in now.iter().filter(|(key, _)| !self.lost.contains_key(*key)) {
            let is_there = built.get(key).is_some_and(|(other, _)| other == digest) && !without_vectors.contains(key);
            if is_there {
                continue;
            }
            let document: TantivyDocument = searcher.doc(*address)?;
            let Some(page) = index.fields.page_to_encode(&document) else { continue };
            let vectors = self.encoded.vectors(key, page.content_hash.as_deref())?;
            // All pages were encoded just now.
            let Some(record) = vectors.and_then(|vectors| index.fields.page_of(&document, vectors)) else { continue };
            writer.upsert(&record)?;
            published.carried_over += 1;
        }
        for (doc_id, page) in built.keys() {
            let key = (doc_id.clone(), *page);
            if !now.contains_key(&key) {
                published.deleted += 1;
            } else if !self.lost.contains_key(&key) {
                continue;
            }
            writer.delete_page(doc_id, *page);
        }
        writer.includes_part(self.encoded.last_part());
        writer.commit()?;
        writer.finish()?;
        next.handle.reload(&next.reader)?;
        published.pages = next.searcher().num_docs();
        next.pointer.write_record(&self.draft)?;
        Ok(published)
    }

    /// Gives the draft its name and lets `current` point to it.
    fn swap(&self, index: &PageIndex, published: &Published) -> Result<(), Error> {
        let generations = index.folder.join(GENERATIONS_FOLDER);
        let folder = generation_folder(&index.folder, published.generation);
        let mark = |file: &str| folder.join(file);
        let draft_mark = self.draft.join(UNPUBLISHED_FILE);
        fs::write(&draft_mark, "").map_err(Error::io(&draft_mark, "write it"))?;
        sync_folder(&self.draft)?;
        fs::rename(&self.draft, &folder).map_err(Error::io(&folder, "give the new generation its name"))?;
        sync_folder(&generations)?;
        index.keep_record()?;
        let record = Pointer::read_record(&folder)?;
        let damaged = || Error::Pointer { path: mark(RECORD_FILE), problem: "it is gone".to_owned() };
        record.ok_or_else(damaged)?.write(&index.folder)?;
        // From here on it is in use; what follows only tidies up.
        for file in [UNPUBLISHED_FILE, MERGED_FILE, PLAN_FILE] {
            fs::remove_file(mark(file)).map_err(Error::io(&mark(file), "remove it"))?;
        }
        // An index that kept no embeddings keeps none.
        if !index.embeddings_folder().exists() {
            remove_parts(&folder.join(EMBEDDINGS_FOLDER))?;
        }
        Ok(())
    }
}
