//! What a vision tower that does not learn leaves of pages, computed once and kept as Parquet beside the run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use colqwen_index_ingest::colqwen2::{ColQwen2, HiddenStates};
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::data::PageId;
use colqwen_index_train::hidden::{HiddenCache, HiddenWriter, Key, Kind};

use super::CacheReport;
use super::caches::made_by;
use crate::Error;

/// The finished cache: for each page, merged patches x hidden_size.
#[derive(Debug)]
pub(super) struct VisionCache(HiddenCache);

impl VisionCache {
    /// The merged patches of a page.
    pub fn page(&self, page: &PageId) -> Result<Arc<HiddenStates>, TrainError> {
        self.0.get(&Key::Page(page.clone()))?.ok_or_else(|| TrainError::Missing {
            what: page.to_string(),
            place: self.0.path().display().to_string(),
            hint: "",
        })
    }
}

/// A cache that is being written, from one that an earlier run left as far as that fits.
pub(super) struct VisionWriter {
    path: PathBuf,
    memory: usize,
    earlier: Option<HiddenCache>,
    writer: HiddenWriter,
    report: CacheReport,
}

impl VisionWriter {
    /// Begins `folder/vision.parquet` for `model`; `memory` bytes of it are held later.
    pub fn new(folder: &Path, model: &ColQwen2, memory: usize) -> Result<Self, Error> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create it"))?;
        let path = folder.join("vision.parquet");
        let (tower, width) = (model.vision_fingerprint(), model.hidden_size());
        let earlier = made_by(tower, &path, Kind::Pages, width, memory);
        let writer = HiddenWriter::create(&path, Kind::Pages, width, tower).map_err(TrainError::from)?;
        Ok(Self { path, memory, earlier, writer, report: CacheReport::default() })
    }

    /// Takes a page over from the earlier cache; `false` if that does not hold it, or of another content of its file.
    pub fn keep(&mut self, page: &PageId, content_hash: &[u8; 32]) -> Result<bool, Error> {
        let key = Key::Page(page.clone());
        let Some(earlier) = &self.earlier else { return Ok(false) };
        if earlier.content_hash(&key) != Some(content_hash.as_slice()) {
            return Ok(false);
        }
        let Some(states) = earlier.get(&key).map_err(TrainError::from)? else { return Ok(false) };
        self.writer.write(&key, Some(content_hash), (*states).clone()).map_err(TrainError::from)?;
        self.report.pages_kept += 1;
        Ok(true)
    }

    /// Adds a page that was just computed.
    pub fn write(&mut self, page: &PageId, content_hash: &[u8; 32], merged: HiddenStates) -> Result<(), Error> {
        let key = Key::Page(page.clone());
        self.writer.write(&key, Some(content_hash), merged).map_err(TrainError::from)?;
        self.report.pages_computed += 1;
        Ok(())
    }

    /// Completes the file and opens it.
    pub fn finish(self) -> Result<(VisionCache, CacheReport), Error> {
        self.writer.finish().map_err(TrainError::from)?;
        let cache = HiddenCache::open(&self.path, self.memory).map_err(TrainError::from)?;
        Ok((VisionCache(cache), self.report))
    }
}
