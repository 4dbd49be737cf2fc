//! Pages of files: what the model sees of them, and their text.
//!
//! [`Document::open`] takes a PDF or a picture (told apart by content, not by name). A [`PageReader`] gives its
//! pages one by one, numbered from 1: an RGB picture at the size the model's [`PixelBudget`] allows and, for a
//! PDF, the [`TextLayer`] with the place of every word.
//!
//! ```no_run
//! use colqwen_index_ingest::page::{Document, PixelBudget};
//! # fn main() -> Result<(), colqwen_index_ingest::page::PageError> {
//! let document = Document::open("manual.pdf")?;
//! let mut reader = document.reader();
//! for number in 1..=document.page_count() {
//!     let page = reader.page(number, &PixelBudget::default())?;
//!     println!("{number}: {} x {} pixels", page.image.width(), page.image.height());
//! }
//! # Ok(())
//! # }
//! ```

mod budget;
mod error;
mod format;
mod image_file;
mod pdf;
mod pdf_images;
pub mod text;
mod tiff;

use std::path::{Path, PathBuf};

use image::RgbImage;

pub use budget::PixelBudget;
pub use error::PageError;
pub use format::Format;
pub use text::TextLayer;

/// An open file with at least one page.
///
/// It holds the file's bytes and belongs to one thread at a time; a worker thread may own one.
pub struct Document {
    path: PathBuf,
    content_hash: [u8; 32],
    format: Format,
    content: Content,
}

enum Content {
    Pdf(Box<pdf::PdfFile>),
    Image(image_file::ImageFile),
}

/// One page.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its number in the file, from 1.
    pub number: u32,
    /// A PDF page: rendered on white, upright, cut to its crop box, exactly at the size of
    /// [`PixelBudget::fill`]. A picture file: as it is, upright, transparency on white.
    pub image: RgbImage,
    /// The words of a PDF page, empty where it shows none; `None` for a picture file.
    pub text: Option<TextLayer>,
    /// Width and height of a PDF page as displayed, in points of 1/72 inch.
    pub size_points: Option<[f32; 2]>,
    /// What of the page could not be shown, for people; usually empty.
    pub warnings: Vec<&'static str>,
}

impl Document {
    /// Opens a file and reads its structure, not yet its pages.
    ///
    /// # Errors
    /// See [`PageError`]: unreadable, empty, of another format, encrypted, truncated, damaged or without pages.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PageError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| PageError::Io { path: path.to_owned(), source })?;
        Self::from_bytes(path, bytes)
    }

    /// Opens a file that is already in memory; `path` only names it in errors.
    ///
    /// # Errors
    /// As [`Document::open`].
    pub fn from_bytes(path: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self, PageError> {
        let path = path.into();
        if bytes.is_empty() {
            return Err(PageError::Empty { path });
        }
        let Some(format) = Format::of(&bytes) else {
            let found = format!("\"{}\"", bytes[..bytes.len().min(12)].escape_ascii());
            return Err(PageError::UnknownFormat { path, found });
        };
        let content_hash = *blake3::hash(&bytes).as_bytes();
        let content = match format {
            Format::Pdf => Content::Pdf(Box::new(pdf::PdfFile::new(&path, bytes)?)),
            _ => Content::Image(image_file::ImageFile::new(&path, format, bytes)?),
        };
        Ok(Self { path, content_hash, format, content })
    }

    /// The file's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's format, told from its content.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The number of pages, at least 1.
    pub fn page_count(&self) -> u32 {
        match &self.content {
            Content::Pdf(file) => file.page_count(),
            Content::Image(file) => file.page_count(),
        }
    }

    /// The BLAKE3 hash of the file's bytes.
    pub fn content_hash(&self) -> [u8; 32] {
        self.content_hash
    }

    /// A reader that keeps fonts and glyphs between pages; use one for all pages of a document.
    pub fn reader(&self) -> PageReader<'_> {
        let pdf = match &self.content {
            Content::Pdf(file) => Some(file.reader()),
            Content::Image(_) => None,
        };
        PageReader { document: self, pdf }
    }

    /// One page, by its number from 1. For more than one, [`Document::reader`] is faster.
    ///
    /// # Errors
    /// As [`PageReader::page`].
    pub fn page(&self, number: u32, budget: &PixelBudget) -> Result<Page, PageError> {
        self.reader().page(number, budget)
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Document")
            .field("path", &self.path)
            .field("format", &self.format)
            .field("page_count", &self.page_count())
            .finish_non_exhaustive()
    }
}

/// Reads pages of one [`Document`], in any order.
pub struct PageReader<'d> {
    document: &'d Document,
    pdf: Option<pdf::PdfReader<'d>>,
}

impl<'d> PageReader<'d> {
    /// One page, by its number from 1.
    ///
    /// # Errors
    /// [`PageError::PageOutOfRange`], and [`PageError::Image`] or [`PageError::Interpreter`] for a page that cannot
    /// be shown; the reader stays usable and other pages may be fine.
    pub fn page(&mut self, number: u32, budget: &PixelBudget) -> Result<Page, PageError> {
        let page_count = self.document.page_count();
        if number == 0 || number > page_count {
            let path = self.document.path.clone();
            return Err(PageError::PageOutOfRange { path, page: number, page_count });
        }
        match (&self.document.content, &mut self.pdf) {
            (Content::Image(file), _) => file.page(&self.document.path, number),
            (Content::Pdf(_), Some(reader)) => reader.page(&self.document.path, number, budget),
            (Content::Pdf(file), none) => none.insert(file.reader()).page(&self.document.path, number, budget),
        }
    }

    /// All pages in order, each read when asked for.
    pub fn pages(&mut self, budget: PixelBudget) -> impl Iterator<Item = Result<Page, PageError>> + use<'_, 'd> {
        (1..=self.document.page_count()).map(move |number| self.page(number, &budget))
    }
}
