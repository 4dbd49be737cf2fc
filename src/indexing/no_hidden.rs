//! In place of `hidden` in a build that cannot train, where hidden states are of no use.

use std::path::PathBuf;

use colqwen_index_ingest::colqwen2::HiddenStates;
use colqwen_index_ingest::embeddings::PageRecord;
use colqwen_index_ingest::encoder::Backbone;

use crate::Error;

/// There is none.
pub(super) enum HiddenParts {}

impl HiddenParts {
    pub fn open(_: PathBuf, _: Backbone) -> Result<Self, Error> {
        Err(Error::BuiltWithout { wanted: "hidden states", feature: "train" })
    }

    pub fn page(&mut self, _: &PageRecord, _: HiddenStates) -> Result<(), Error> {
        match *self {}
    }

    pub fn flush(&mut self) -> Result<(), Error> {
        match *self {}
    }
}
