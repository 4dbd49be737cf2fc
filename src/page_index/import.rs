//! Parquet files of token embeddings into a page index.

use std::path::Path;

use colqwen_index_field::LateInteractionOptions;
use colqwen_index_ingest::embeddings::PageReader;

use super::{PageFields, PageIndex, PageIndexOptions, PageIndexWriter};
use crate::Error;

/// Pages that are committed at once: an interrupted import keeps whole commits, and running it again repeats the rest.
const PAGES_PER_COMMIT: u64 = 20_000;

/// What an import did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ImportReport {
    /// Files read.
    pub files: u64,
    /// Pages added or replaced.
    pub pages: u64,
    /// Their tokens.
    pub tokens: u64,
}

impl PageIndexOptions {
    /// Refuses files that an index with these options could not take together, before it is created in `folder`.
    ///
    /// # Errors
    /// Another dimension or columns, a column with the name of another field, or files of two models.
    pub fn check_files(&self, folder: &Path, readers: &[PageReader]) -> Result<(), Error> {
        let (_, fields) = PageFields::create(&LateInteractionOptions::new(self.dim), &self.further)?;
        let mut model = self.model.as_ref().map(|model| model.page_fingerprint);
        for reader in readers {
            check_dim(reader, self.dim, folder)?;
            fields.check_columns(reader.further_columns())?;
            if let Some(received) = reader.origin().fingerprint() {
                let expected = *model.get_or_insert(received);
                if expected != received {
                    return Err(Error::MixedModels { path: reader.path().to_owned(), expected, received });
                }
            }
        }
        Ok(())
    }
}

fn check_dim(reader: &PageReader, expected: usize, folder: &Path) -> Result<(), Error> {
    if reader.dim() == expected {
        return Ok(());
    }
    let what = reader.path().display().to_string();
    Err(Error::Dim { what, received: reader.dim(), index: folder.to_owned(), expected })
}

impl PageIndex {
    /// Imports open page files in order; a page that stands in the index already is replaced. `progress` is told the number
    /// of pages done, and stops the import by returning `false`.
    ///
    /// # Errors
    /// A file is refused before anything of it is added, or a row when it is reached; commits made until then stand.
    pub fn import(
        &mut self,
        readers: Vec<PageReader>,
        mut progress: impl FnMut(u64) -> bool,
    ) -> Result<ImportReport, Error> {
        let mut report = ImportReport::default();
        let mut writer = self.current_writer()?;
        readers.iter().try_for_each(|reader| self.check_file(reader))?;
        let factor = readers.iter().flat_map(|reader| &reader.metadata().pool_factors).copied().max();
        if let Some(factor) = factor.filter(|_| !self.has_pooled()) {
            self.record_pool_factor(factor)?;
        }
        for reader in readers {
            report.files += 1;
            for page in reader {
                let page = page?;
                writer.upsert(&page)?;
                report.pages += 1;
                report.tokens += page.vectors.vectors.tokens() as u64;
                if report.pages % PAGES_PER_COMMIT == 0 {
                    writer.commit()?;
                }
                if !progress(report.pages) {
                    writer.commit()?;
                    return Err(Error::Interrupted);
                }
            }
        }
        self.close(writer)?;
        Ok(report)
    }

    /// Commits, waits for merges and loads the result.
    ///
    /// # Errors
    /// Tantivy fails; the last commit stands.
    pub fn close(&mut self, mut writer: PageIndexWriter) -> Result<(), Error> {
        writer.commit()?;
        writer.finish()?;
        self.reload()
    }

    /// Refuses a file whose dimension, model or columns are not those of the index.
    fn check_file(&self, reader: &PageReader) -> Result<(), Error> {
        check_dim(reader, self.dim(), &self.folder)?;
        if let Some(fingerprint) = reader.origin().fingerprint() {
            self.check_model(fingerprint)?;
        }
        self.fields.check_columns(reader.further_columns())
    }
}
