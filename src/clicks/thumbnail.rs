//! Small pictures of pages, for reports.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use colqwen_index_ingest::page::{Document, PixelBudget};
use colqwen_index_train::data::PageId;
use image::ImageFormat;

use crate::{Error, PageIndex};

/// Pixels of the picture, about 180 x 230.
const PIXELS: u32 = 41_000;

/// Renders pages of an index from the files that it names; what cannot be rendered has no picture.
pub struct Thumbnails {
    sources: HashMap<PageId, PathBuf>,
    made: HashMap<PageId, Option<String>>,
}

impl Thumbnails {
    /// Pictures of the pages of `index`.
    pub fn of(index: &PageIndex) -> Result<Self, Error> {
        let searcher = index.searcher();
        let mut sources = HashMap::new();
        for page in index.texts(&searcher) {
            let page = page?;
            sources.extend(page.source.map(|source| (PageId::new(page.doc_id, page.page), source)));
        }
        Ok(Self { sources, made: HashMap::new() })
    }

    /// A page as a `data:` address.
    pub fn picture(&mut self, page: &PageId) -> Option<String> {
        if let Some(made) = self.made.get(page) {
            return made.clone();
        }
        let picture = self.render(page);
        self.made.insert(page.clone(), picture.clone());
        picture
    }

    fn render(&self, page: &PageId) -> Option<String> {
        let source = self.sources.get(page)?;
        let budget = PixelBudget { factor: 2, min_pixels: PIXELS / 2, max_pixels: PIXELS };
        let image = Document::open(source).ok()?.page(page.page, &budget).ok()?.image;
        let mut png = Cursor::new(Vec::new());
        image::imageops::grayscale(&image).write_to(&mut png, ImageFormat::Png).ok()?;
        Some(format!("data:image/png;base64,{}", STANDARD.encode(png.into_inner())))
    }
}
