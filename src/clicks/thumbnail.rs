//! Small pictures of pages, for reports.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use colqwen_index_ingest::page::{Document, PixelBudget};
use colqwen_index_train::data::PageId;
use image::ImageFormat;

use crate::PageIndex;

/// Pixels of the picture, about 180 x 230.
const PIXELS: u32 = 41_000;

/// Renders pages of an index from the files that it names; what cannot be rendered has no picture.
pub struct Thumbnails<'i> {
    index: &'i PageIndex,
    made: HashMap<PageId, Option<String>>,
}

impl<'i> Thumbnails<'i> {
    /// Pictures of the pages of `index`.
    pub fn of(index: &'i PageIndex) -> Self {
        Self { index, made: HashMap::new() }
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
        let (source, _) = self.index.sources_of(&page.doc_id).ok()?.remove(&page.page)?;
        let budget = PixelBudget { factor: 2, min_pixels: PIXELS / 2, max_pixels: PIXELS };
        let image = Document::open(Path::new(&source?)).ok()?.page(page.page, &budget).ok()?.image;
        let mut png = Cursor::new(Vec::new());
        image::imageops::grayscale(&image).write_to(&mut png, ImageFormat::Png).ok()?;
        Some(format!("data:image/png;base64,{}", STANDARD.encode(png.into_inner())))
    }
}
