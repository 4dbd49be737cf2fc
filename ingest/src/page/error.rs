//! What can be wrong with a file or a page.

use std::path::PathBuf;

/// A file or a page that cannot be read; every variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The file cannot be opened or read at all.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file has no bytes.
    #[error("{path}: the file is empty; expected a PDF, PNG, JPEG, WebP or TIFF", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file's first bytes belong to no format read here.
    #[error("{path}: expected a PDF, PNG, JPEG, WebP or TIFF, but the file starts with {found}", path = path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its first bytes, escaped.
        found: String,
    },
    /// The PDF needs a password.
    #[error("{path}: the PDF is encrypted and needs a password; save a copy without one", path = path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// The PDF is encrypted in a way that cannot be undone here.
    #[error("{path}: the PDF is encrypted and cannot be decrypted: {detail}", path = path.display())]
    Decryption {
        /// The file.
        path: PathBuf,
        /// What is wrong with its encryption.
        detail: &'static str,
    },
    /// The PDF ends before its end.
    #[error("{path}: the PDF is truncated: {detail}", path = path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// How it shows.
        detail: String,
    },
    /// The file begins like a PDF, but its structure cannot be read, nor repaired.
    #[error("{path}: the PDF is damaged: {detail}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What cannot be read.
        detail: String,
    },
    /// The PDF is in order and has no pages.
    #[error("{path}: the PDF has no pages", path = path.display())]
    NoPages {
        /// The file.
        path: PathBuf,
    },
    /// There is no such page.
    #[error("{path}: page {page} was asked for, but the pages are 1 to {page_count}", path = path.display())]
    PageOutOfRange {
        /// The file.
        path: PathBuf,
        /// The page asked for, from 1.
        page: u32,
        /// The number of pages.
        page_count: u32,
    },
    /// The picture cannot be decoded.
    #[error("{path}: page {page}: the picture cannot be decoded: {source}", path = path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// The page, from 1.
        page: u32,
        /// What the decoder said.
        source: image::ImageError,
    },
    /// The page made the PDF interpreter fail; other pages of the file may be fine.
    #[error("{path}: page {page}: the PDF interpreter failed: {message}", path = path.display())]
    Interpreter {
        /// The file.
        path: PathBuf,
        /// The page, from 1.
        page: u32,
        /// Its own words.
        message: String,
    },
}

impl PageError {
    /// The file the error is about.
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::Io { path, .. }
            | Self::Empty { path }
            | Self::UnknownFormat { path, .. }
            | Self::Encrypted { path }
            | Self::Decryption { path, .. }
            | Self::Truncated { path, .. }
            | Self::Damaged { path, .. }
            | Self::NoPages { path }
            | Self::PageOutOfRange { path, .. }
            | Self::Image { path, .. }
            | Self::Interpreter { path, .. } => path,
        }
    }
}
