//! Writing to a page index: upserts and deletes become visible together at each commit.

use colqwen_index_ingest::embeddings::PageRecord;
use serde::{Deserialize, Serialize};
use tantivy::directory::error::LockError;
use tantivy::index::SegmentId;
use tantivy::{IndexWriter, TantivyError};

use super::pointer::Pointer;
use super::{PageFields, PageIndex};
use crate::Error;

/// Memory of the writer's buffers, in bytes; vectors are streamed to disk and do not count.
const WRITER_MEMORY: usize = 100_000_000;

/// One thread makes one segment per commit; vectors are coded by all cores all the same.
const WRITER_THREADS: usize = 1;

/// What each commit says about itself.
#[derive(Clone, Copy, Default, Debug, Serialize, Deserialize)]
struct CommitPayload {
    /// Parts of embeddings up to this number are in the index.
    last_part: u64,
}

/// The only writer of a page index while it lives.
pub struct PageIndexWriter {
    writer: IndexWriter,
    handle: colqwen_index_field::LateInteraction,
    fields: PageFields,
    last_part: u64,
}

impl PageIndex {
    /// Opens the index for writing.
    ///
    /// # Errors
    /// Another process or writer has it open, or another generation was published meanwhile ([`Error::OtherGeneration`]).
    pub fn writer(&self) -> Result<PageIndexWriter, Error> {
        let writer = self.unchecked_writer()?;
        // Publishing takes the same lock, so from here on the generation in use stays what it is.
        let current = Pointer::read(&self.folder)?.map(|pointer| pointer.generation);
        match current {
            Some(current) if current != self.pointer.generation => {
                let (path, opened) = (self.folder.clone(), self.pointer.generation);
                Err(Error::OtherGeneration { path, opened, current })
            }
            _ => Ok(writer),
        }
    }

    /// Opens the generation in use for writing, after moving on to it if need be.
    ///
    /// # Errors
    /// As [`writer`](Self::writer) and [`reload`](Self::reload).
    pub fn current_writer(&mut self) -> Result<PageIndexWriter, Error> {
        loop {
            match self.writer() {
                Err(Error::OtherGeneration { .. }) => self.reload()?,
                outcome => return outcome,
            }
        }
    }

    /// Opens this generation for writing, in use or not.
    pub(super) fn unchecked_writer(&self) -> Result<PageIndexWriter, Error> {
        let writer =
            self.index.writer_with_num_threads(WRITER_THREADS, WRITER_MEMORY).map_err(|error| match error {
                TantivyError::LockFailure(LockError::LockBusy, _) => Error::Busy { path: self.folder.clone() },
                error => error.into(),
            })?;
        let last_part = self.last_part()?;
        Ok(PageIndexWriter { writer, handle: self.handle.clone(), fields: self.fields.clone(), last_part })
    }

    /// The number of the newest part of embeddings whose pages are committed.
    pub(crate) fn last_part(&self) -> Result<u64, Error> {
        let payload = self.index.load_metas()?.payload;
        // A commit that another program made says nothing; then all parts are looked at again, which changes nothing.
        Ok(payload.and_then(|text| serde_json::from_str::<CommitPayload>(&text).ok()).unwrap_or_default().last_part)
    }
}

impl PageIndexWriter {
    /// Adds a page, in place of the one with the same document and number if there is one.
    ///
    /// # Errors
    /// The vectors are refused (dimension, model), or tantivy fails.
    pub fn upsert(&mut self, page: &PageRecord) -> Result<(), Error> {
        let document = self.fields.document(&self.handle, page)?;
        self.writer.delete_term(self.fields.page_term(&page.doc_id, page.page));
        self.writer.add_document(document)?;
        Ok(())
    }

    /// Deletes all pages of a document.
    pub fn delete_document(&mut self, doc_id: &str) {
        self.writer.delete_term(self.fields.document_term(doc_id));
    }

    /// Deletes one page of a document.
    pub fn delete_page(&mut self, doc_id: &str, page: u32) {
        self.writer.delete_term(self.fields.page_term(doc_id, page));
    }

    /// Records with the next commit that parts of embeddings up to `part` are in the index.
    pub(crate) fn includes_part(&mut self, part: u64) {
        self.last_part = self.last_part.max(part);
    }

    /// Makes everything since the last commit durable and visible, all of it or nothing.
    ///
    /// # Errors
    /// Tantivy fails; the last commit stands.
    pub fn commit(&mut self) -> Result<(), Error> {
        let payload = serde_json::to_string(&CommitPayload { last_part: self.last_part })
            .map_err(|error| TantivyError::InternalError(error.to_string()))?;
        let mut prepared = self.writer.prepare_commit()?;
        prepared.set_payload(&payload);
        prepared.commit()?;
        Ok(())
    }

    /// Forgets everything since the last commit.
    ///
    /// # Errors
    /// Tantivy fails.
    pub fn rollback(&mut self) -> Result<(), Error> {
        self.handle.rollback(&mut self.writer)?;
        Ok(())
    }

    /// Merges the segments into one and closes the writer.
    ///
    /// # Errors
    /// The merge failed; the last commit stands.
    pub(crate) fn merge_all(mut self, segments: &[SegmentId]) -> Result<(), Error> {
        if !segments.is_empty() {
            self.writer.merge(segments).wait()?;
        }
        self.finish()
    }

    /// Waits for merges that run in the background, then closes the writer.
    ///
    /// # Errors
    /// A merge failed.
    pub fn finish(self) -> Result<(), Error> {
        self.writer.wait_merging_threads()?;
        Ok(())
    }
}
