//! The folder that a checkpoint's files lie in: on disk, or embedded in the program.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::encoder::EncoderError;
use crate::mapped::MappedFile;

/// Files by name.
#[derive(Clone, Debug)]
pub(crate) enum Folder {
    /// A folder of the file system.
    Disk(PathBuf),
    /// Names and contents that are part of the program.
    Embedded { name: &'static str, files: &'static [(&'static str, &'static [u8])] },
}

impl Folder {
    /// A folder of the file system.
    ///
    /// # Errors
    /// There is none at `dir`.
    pub(crate) fn disk(dir: &Path) -> Result<Self, EncoderError> {
        let metadata = std::fs::metadata(dir).map_err(EncoderError::io(dir))?;
        if !metadata.is_dir() {
            return Err(EncoderError::io(dir)(std::io::Error::new(
                std::io::ErrorKind::NotADirectory,
                "expected a checkpoint folder",
            )));
        }
        Ok(Self::Disk(dir.to_owned()))
    }

    pub(crate) fn dir(&self) -> &Path {
        match self {
            Self::Disk(dir) => dir,
            Self::Embedded { name, .. } => Path::new(name),
        }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir().join(file)
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        match self {
            Self::Disk(dir) => dir.join(file).is_file(),
            Self::Embedded { .. } => self.embedded(file).is_some(),
        }
    }

    /// The names of all files, in no order.
    pub(crate) fn names(&self) -> Result<Vec<String>, EncoderError> {
        match self {
            Self::Embedded { files, .. } => Ok(files.iter().map(|(name, _)| (*name).to_owned()).collect()),
            Self::Disk(dir) => {
                let entries = std::fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
                let entries = entries.map_err(EncoderError::io(dir))?.into_iter();
                let names = entries.filter(|entry| entry.path().is_file()).map(|entry| entry.file_name());
                Ok(names.filter_map(|name| name.into_string().ok()).collect())
            }
        }
    }

    fn embedded(&self, file: &str) -> Option<&'static [u8]> {
        match self {
            Self::Disk(_) => None,
            Self::Embedded { files, .. } => files.iter().find(|(name, _)| *name == file).map(|(_, bytes)| *bytes),
        }
    }

    /// The contents of a file.
    pub(crate) fn read(&self, file: &str) -> Result<Cow<'static, [u8]>, EncoderError> {
        match self.embedded(file) {
            Some(bytes) => Ok(Cow::Borrowed(bytes)),
            None if !self.has(file) => {
                Err(EncoderError::FileMissing { dir: self.dir().to_owned(), expected: file.to_owned() })
            }
            None => std::fs::read(self.path(file)).map(Cow::Owned).map_err(EncoderError::io(self.path(file))),
        }
    }

    /// Copies a file.
    pub(crate) fn copy(&self, file: &str, to: &Path) -> Result<(), EncoderError> {
        match self.embedded(file) {
            Some(bytes) => std::fs::write(to, bytes).map_err(EncoderError::io(to)),
            None => std::fs::copy(self.path(file), to).map(drop).map_err(EncoderError::io(self.path(file))),
        }
    }

    /// The contents of a JSON file.
    pub(crate) fn json(&self, file: &str) -> Result<Value, EncoderError> {
        serde_json::from_slice(&self.read(file)?).map_err(EncoderError::json(self.path(file)))
    }

    /// A file mapped into memory.
    pub(crate) fn map(&self, file: &str) -> Result<MappedFile, EncoderError> {
        match self.embedded(file) {
            Some(bytes) => Ok(MappedFile::embedded(&self.path(file), bytes)),
            None => MappedFile::open(&self.path(file)),
        }
    }
}
