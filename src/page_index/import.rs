//! Parquet files of token embeddings into a page index.

use std::path::Path;

use colqwen_index_ingest::embeddings::{FurtherColumn, PageReader, ReadOptions};

use super::{PageIndex, PageIndexWriter};
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

impl PageIndex {
    /// Imports page files in order; a page that stands in the index already is replaced. `progress` is told the number
    /// of pages done, and stops the import by returning `false`.
    ///
    /// # Errors
    /// A file is refused before anything of it is added, or a row when it is reached; commits made until then stand.
    pub fn import(
        &mut self,
        files: &[impl AsRef<Path>],
        options: ReadOptions,
        mut progress: impl FnMut(u64) -> bool,
    ) -> Result<ImportReport, Error> {
        let mut report = ImportReport::default();
        let mut readers = Vec::new();
        for file in files {
            let reader = PageReader::open_with(file, options)?;
            self.check_file(&reader)?;
            readers.push(reader);
        }
        let mut writer = self.writer()?;
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
        if reader.dim() != self.dim() {
            return Err(Error::Dim {
                what: reader.path().display().to_string(),
                received: reader.dim(),
                index: self.folder.clone(),
                expected: self.dim(),
            });
        }
        if let Some(fingerprint) = reader.origin().fingerprint() {
            self.check_model(fingerprint)?;
        }
        let columns: Vec<FurtherColumn> = reader.further_columns().to_vec();
        self.fields.check_columns(&columns)
    }
}
