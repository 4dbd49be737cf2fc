//! The one place with unsafe code in this crate: files mapped into memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::encoder::EncoderError;

/// A whole file as a slice of bytes, read by the system page by page as it is touched.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Mapped(memmap2::Mmap),
    Static(&'static [u8]),
}

impl MappedFile {
    /// Maps the file at `path`, read-only.
    ///
    /// # Errors
    /// The file cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Self, EncoderError> {
        let file = File::open(path).map_err(EncoderError::io(path))?;
        let length = file.metadata().map_err(EncoderError::io(path))?.len();
        if length == 0 {
            // Which cannot be mapped.
            return Ok(Self::embedded(path, &[]));
        }
        // SAFETY: the map is read-only, and nothing in this process writes to the file. Another process that truncates
        // it meanwhile can stop this one with SIGBUS, as with every mapped checkpoint; `ColQwen2::load` warns of that.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(EncoderError::io(path))?;
        Ok(Self { path: path.to_owned(), bytes: Bytes::Mapped(map) })
    }

    /// Bytes that are part of the program; `path` is what messages call them.
    pub fn embedded(path: &Path, bytes: &'static [u8]) -> Self {
        Self { path: path.to_owned(), bytes: Bytes::Static(bytes) }
    }

    /// The file that is mapped.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Static(bytes) => bytes,
        }
    }
}
