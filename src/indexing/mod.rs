//! From folders of PDFs and pictures into a page index: planned, encoded, stored, and resumed after any interruption.
//!
//! Rendering, encoding and storing overlap: one thread renders the next pages, the caller's thread encodes, a third one
//! writes. Finished pages reach a Parquet part first; when the part is renamed into place they are committed to the
//! index, at least every 60 seconds or 256 pages. After a crash, parts that no commit includes are taken into the index
//! instead of being encoded again. A changed file replaces all its pages in one commit.

#[cfg(feature = "train")]
pub(crate) mod hidden;
#[cfg(not(feature = "train"))]
#[path = "no_hidden.rs"]
mod hidden;
mod parts;
mod pipeline;
mod plan;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use colqwen_index_ingest::pooling::PoolFactor;

use crate::model::Model;
use crate::{Error, PageIndex};

use hidden::HiddenParts;
use parts::Parts;
use plan::{FileTask, Plan};

pub use plan::find_files;

/// What to do with a file or page that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnError {
    /// Report it by name and go on with the others.
    #[default]
    Skip,
    /// End the run; what was finished is kept.
    Fail,
}

/// How files are indexed.
#[derive(Clone, Debug, Default)]
pub struct IndexingOptions {
    /// What to do with a file or page that cannot be read.
    pub on_error: OnError,
    /// Delete documents of the index that were not found under the given paths.
    pub prune: bool,
    /// Where to keep the embeddings: a folder of its own, or nowhere.
    pub embeddings: KeepEmbeddings,
    /// Keep the hidden states of pages in the folder of the index (`hidden/`), so that its projection can be trained without
    /// encoding them again: 2 bytes for each of a token's hidden values, some megabytes per page.
    pub keep_hidden: bool,
    /// By how much the tokens of a page are pooled; `None` for the factor that the index records, else 1. Pages of the
    /// given paths that were pooled by another factor are encoded again.
    pub pool_factor: Option<PoolFactor>,
    /// Set from elsewhere to stop: the page under way is finished and kept.
    pub stop: Arc<AtomicBool>,
}

/// Where the token embeddings are kept as Parquet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum KeepEmbeddings {
    /// In the folder of the index.
    #[default]
    InIndex,
    /// In another folder.
    In(PathBuf),
    /// Not at all: an interrupted run loses what was not committed.
    No,
}

/// What happens while files are indexed.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The work is known.
    Planned {
        /// Files that need work.
        files: u64,
        /// Their pages that are not in the index yet.
        pages: u64,
        /// Files that stand in the index as they are.
        unchanged: u64,
    },
    /// A page is encoded.
    Page {
        /// Its document.
        doc_id: &'a str,
    },
    /// A file or page is left out.
    Skipped {
        /// Why, naming the file.
        problem: &'a str,
    },
}

/// What a run did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IndexingReport {
    /// Pages encoded in this run.
    pub encoded: u64,
    /// Pages taken from parts that an interrupted run left.
    pub resumed: u64,
    /// Files that stood in the index as they are.
    pub unchanged: u64,
    /// Documents deleted because their files are gone.
    pub pruned: u64,
    /// Files and pages that could not be read, each with its reason.
    pub skipped: Vec<String>,
}

impl PageIndex {
    fn hidden_parts(&self, model: &Model) -> Result<HiddenParts, Error> {
        let missing = || Error::NoHiddenStates { model: model.name.clone() };
        HiddenParts::open(self.hidden_folder(), model.encoder.backbone().ok_or_else(missing)?)
    }

    /// Indexes PDFs, pictures and folders of them. The id of a document is its path relative to the folder argument it
    /// came from, `/`-separated; a file argument is called by its name.
    ///
    /// # Errors
    /// Nothing to index, two files of one id, a model that is not the index's, another writer, a full disk, or
    /// [`Error::Interrupted`] after `options.stop`. Whatever happens, running the same call again goes on where this one ended.
    pub fn index_files(
        &mut self,
        paths: &[PathBuf],
        model: &Model,
        options: &IndexingOptions,
        mut progress: impl FnMut(Progress<'_>),
    ) -> Result<IndexingReport, Error> {
        if model.encoder.dim() != self.dim() {
            return Err(Error::Dim {
                what: format!("model {}", model.name),
                received: model.encoder.dim(),
                index: self.folder().to_owned(),
                expected: self.dim(),
            });
        }
        let mut report = IndexingReport::default();
        let mut writer = self.current_writer()?;
        // Only the one writer may sweep up after others, and it starts from what they committed last.
        self.reload()?;
        let folder = match &options.embeddings {
            KeepEmbeddings::InIndex => Some(self.embeddings_folder()),
            KeepEmbeddings::In(folder) => Some(folder.clone()),
            KeepEmbeddings::No => None,
        };
        self.record_model(model.recorded())?;
        let factor = options.pool_factor.unwrap_or(self.pool_factor());
        self.record_pool_factor(factor)?;
        let parts = folder.map(|folder| Parts::open(folder, self.last_part()?)).transpose()?;
        let mut held = Vec::new();
        if let Some(parts) = &parts {
            held = parts.resume(self, &mut writer, &mut report)?;
            self.reload()?;
        }
        let mut plan = Plan::new(self, paths, options, factor, &mut report)?;
        plan.reuse(&held);
        report.skipped.iter().for_each(|problem| progress(Progress::Skipped { problem }));
        progress(Progress::Planned {
            files: plan.tasks.len() as u64,
            pages: plan.tasks.iter().map(|task| task.pages.len() as u64).sum(),
            unchanged: report.unchanged,
        });
        if options.prune {
            for doc_id in plan.vanished(self)? {
                writer.delete_document(&doc_id);
                report.pruned += 1;
            }
            writer.commit()?;
        }
        let hidden = if options.keep_hidden { Some(self.hidden_parts(model)?) } else { None };
        let mut store = store::Store::new(writer, parts, hidden, held, model, factor);
        let outcome = pipeline::run(&plan.tasks, model, factor, options, &mut store, &mut report, &mut progress);
        let closed = store.close(outcome.is_ok());
        self.reload()?;
        outcome?;
        closed?;
        if options.stop.load(Ordering::SeqCst) {
            return Err(Error::Interrupted);
        }
        Ok(report)
    }
}
