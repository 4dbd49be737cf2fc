//! Keeps the hidden states of pages as they are encoded, in numbered parts, for training the projection later.
//!
//! A part is finished before the commit that includes its pages, so that every page of the index has its states; a page that was
//! encoded again stands in several parts, of which readers take the last with the right content hash.

use std::fs;
use std::path::PathBuf;

use colqwen_index_ingest::colqwen2::HiddenStates;
use colqwen_index_ingest::embeddings::PageRecord;
use colqwen_index_ingest::encoder::Backbone;
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::data::PageId;
use colqwen_index_train::hidden::{HiddenWriter, Key, Kind};

use crate::Error;

pub(super) struct HiddenParts {
    folder: PathBuf,
    backbone: Backbone,
    last: u64,
    open: Option<HiddenWriter>,
}

impl HiddenParts {
    /// Writes after the parts that are there.
    pub fn open(folder: PathBuf, backbone: Backbone) -> Result<Self, Error> {
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "create it"))?;
        let last = parts_in(&folder)?.last().map_or(0, |(number, _)| *number);
        Ok(Self { folder, backbone, last, open: None })
    }

    /// Keeps the states of a page.
    pub fn page(&mut self, page: &PageRecord, states: HiddenStates) -> Result<(), Error> {
        let writer = match &mut self.open {
            Some(writer) => writer,
            none => {
                self.last += 1;
                let path = self.folder.join(format!("{:08}.parquet", self.last));
                let Backbone { fingerprint, hidden_size } = self.backbone;
                none.insert(
                    HiddenWriter::create(path, Kind::Pages, hidden_size, fingerprint).map_err(TrainError::from)?,
                )
            }
        };
        let key = Key::Page(PageId::new(page.doc_id.clone(), page.page));
        Ok(writer.write(&key, page.content_hash.as_deref(), states).map_err(TrainError::from)?)
    }

    /// Ends the part: its states are safe then.
    pub fn flush(&mut self) -> Result<(), Error> {
        if let Some(writer) = self.open.take() {
            writer.finish().map_err(TrainError::from)?;
        }
        Ok(())
    }
}

/// The parts in a folder, if there is one, by their numbers.
pub(crate) fn parts_in(folder: &std::path::Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io(folder, "list it"))?,
    };
    let mut parts = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io(folder, "list it"))?.path();
        let number = path.extension().filter(|extension| *extension == "parquet").and(path.file_stem());
        if let Some(number) = number.and_then(|number| number.to_str()).and_then(|number| number.parse().ok()) {
            parts.push((number, path));
        }
    }
    parts.sort_unstable();
    Ok(parts)
}
