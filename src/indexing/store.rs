//! Keeps finished pages: into a part, and when the part is safe on disk, into the index.

use std::time::{Duration, Instant};

use colqwen_index_ingest::colqwen2::HiddenStates;
use colqwen_index_ingest::embeddings::{PageFileOptions, PageReader, PageRecord, PageWriter};
use colqwen_index_ingest::pooling::PoolFactor;

use super::FileTask;
use super::hidden::HiddenParts;
use super::parts::{HeldPage, Parts};
use crate::Error;
use crate::model::Model;
use crate::page_index::PageIndexWriter;

/// A commit is made after this many pages,
const PAGES_PER_COMMIT: u64 = 256;
/// or after this much time, whichever comes first: it is what a killed run loses at most.
const TIME_PER_COMMIT: Duration = Duration::from_secs(60);

pub(super) struct Store {
    writer: PageIndexWriter,
    parts: Option<Parts>,
    hidden: Option<HiddenParts>,
    held: Vec<HeldPage>,
    options: PageFileOptions,
    /// The part being written, and its number.
    part: Option<(PageWriter, u64)>,
    /// The newest finished part that the next commit includes.
    finished_part: Option<u64>,
    pages: u64,
    since: Instant,
    /// Between the first and the last page of a file that replaces an earlier content, nothing is committed.
    replacing: bool,
}

impl Store {
    pub fn new(
        writer: PageIndexWriter,
        parts: Option<Parts>,
        hidden: Option<HiddenParts>,
        held: Vec<HeldPage>,
        model: &Model,
        factor: PoolFactor,
    ) -> Self {
        let mut options = PageFileOptions::new(model.encoder.dim()).pooled_by(factor);
        options.origin = Some(model.encoder.page_fingerprint()).into();
        options.query_format = Some(model.encoder.query_format().to_owned());
        Self {
            writer,
            parts,
            hidden,
            held,
            options,
            part: None,
            finished_part: None,
            pages: 0,
            since: Instant::now(),
            replacing: false,
        }
    }

    /// Prepares for the pages of a file; returns how many were taken from an interrupted run.
    pub fn begin_file(&mut self, task: &FileTask) -> Result<u64, Error> {
        if !task.replaces {
            return Ok(0);
        }
        // Parts of a replacement hold nothing else, so that a later run can tell whether to show them.
        self.flush()?;
        self.replacing = true;
        self.writer.delete_document(&task.doc_id);
        self.restore_held(task)
    }

    fn restore_held(&mut self, task: &FileTask) -> Result<u64, Error> {
        let Some(parts) = &self.parts else { return Ok(0) };
        let mut numbers: Vec<u64> = self
            .held
            .iter()
            .filter(|held| held.doc_id == task.doc_id && held.content_hash == task.content_hash)
            .map(|held| held.part)
            .collect();
        numbers.dedup();
        let mut restored = 0;
        for number in numbers {
            for page in PageReader::open(parts.path(number))? {
                let page = page?;
                if page.doc_id == task.doc_id && page.content_hash.as_deref() == Some(task.content_hash.as_slice()) {
                    self.writer.upsert(&page)?;
                    restored += 1;
                }
            }
            self.finished_part = self.finished_part.max(Some(number));
        }
        Ok(restored)
    }

    /// Keeps one page, and commits if it is time.
    pub fn page(&mut self, page: &PageRecord, states: Option<HiddenStates>) -> Result<(), Error> {
        if let (Some(hidden), Some(states)) = (&mut self.hidden, states) {
            hidden.page(page, states)?;
        }
        if let Some(parts) = &mut self.parts {
            let (part, _) = match &mut self.part {
                Some(part) => part,
                none => {
                    let number = parts.take_number();
                    none.insert((PageWriter::create(parts.path(number), self.options.clone())?, number))
                }
            };
            part.write(page)?;
        }
        self.writer.upsert(page)?;
        self.pages += 1;
        if self.pages >= PAGES_PER_COMMIT || self.since.elapsed() >= TIME_PER_COMMIT {
            self.flush()?;
        }
        Ok(())
    }

    /// All pages of the file were kept.
    pub fn end_file(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.replacing) {
            self.flush()?;
        }
        Ok(())
    }

    /// Renames the part into place, then commits its pages.
    fn flush(&mut self) -> Result<(), Error> {
        // First: a page that stands in the index is not encoded again.
        self.hidden.as_mut().map_or(Ok(()), HiddenParts::flush)?;
        if let Some((part, number)) = self.part.take() {
            part.finish()?;
            self.finished_part = Some(number);
        }
        (self.pages, self.since) = (0, Instant::now());
        if !self.replacing {
            if let Some(number) = self.finished_part {
                self.writer.includes_part(number);
            }
            self.writer.commit()?;
        }
        Ok(())
    }

    /// Keeps what is finished; a replacement that is not complete stays in its part for the next run.
    pub fn close(mut self, complete: bool) -> Result<(), Error> {
        self.flush()?;
        if self.replacing {
            self.writer.rollback()?;
        }
        // After a failure there is no time to wait for merges.
        if complete { self.writer.finish() } else { Ok(()) }
    }
}
