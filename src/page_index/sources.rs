//! Pages encoded again from the files that they came from.

use std::path::Path;

use colqwen_index_field::PageVectors;
use colqwen_index_ingest::page::Document;
use colqwen_index_ingest::pooling::{PoolFactor, pool_page};
use image::RgbImage;

use super::next_generation::{EncodePages, PageToEncode};
use crate::Error;
use crate::model::Model;

/// Renders each page from its source again, checks that the file is as it was, encodes it with a model, and pools it as it was
/// pooled before.
pub struct SourcePages<'m> {
    model: &'m Model,
    /// The file that was rendered last.
    open: Option<(String, Document)>,
}

impl<'m> SourcePages<'m> {
    /// Pages encoded by `model`.
    pub fn new(model: &'m Model) -> Self {
        Self { model, open: None }
    }

    fn render(&mut self, page: &PageToEncode) -> Result<RgbImage, String> {
        let Some(source) = &page.source else {
            return Err("the index does not say which file it came from (it was imported)".to_owned());
        };
        if self.open.as_ref().is_none_or(|(open, _)| open != source) {
            let document = Document::open(Path::new(source)).map_err(|error| error.to_string())?;
            self.open = Some((source.clone(), document));
        }
        let Some((_, document)) = &self.open else { return Err(format!("{source:?} cannot be opened")) };
        let same = |hash: &Vec<u8>| pool_factor(page).content_hash(&document.content_hash()) == *hash;
        if !page.content_hash.as_ref().is_none_or(same) {
            return Err(format!("{source:?} has changed since it was indexed; index it again first"));
        }
        let rendered = document.page(page.page, &self.model.encoder.page_budget());
        rendered.map(|page| page.image).map_err(|error| error.to_string())
    }

    fn encode_images(&self, images: Vec<RgbImage>) -> Vec<Result<PageVectors, String>> {
        match self.model.encoder.encode_pages(&images) {
            Ok(vectors) => vectors.into_iter().map(Ok).collect(),
            // One page that the model refuses fails its batch; alone it fails by its name.
            Err(_) => images.into_iter().map(|image| self.encode_alone(image)).collect(),
        }
    }

    fn encode_alone(&self, image: RgbImage) -> Result<PageVectors, String> {
        let encoded = self.model.encoder.encode_pages(&[image]).map_err(|error| error.to_string())?;
        encoded.into_iter().next().ok_or_else(|| "the model gave no vectors".to_owned())
    }
}

fn pool_factor(page: &PageToEncode) -> PoolFactor {
    page.content_hash.as_deref().map_or(PoolFactor::NONE, PoolFactor::of_content_hash)
}

impl EncodePages for SourcePages<'_> {
    fn at_once(&self) -> usize {
        self.model.encoder.pages_at_once()
    }

    fn encode(&mut self, pages: &[PageToEncode]) -> Result<Vec<Result<PageVectors, String>>, Error> {
        let mut rendered: Vec<Result<RgbImage, String>> = pages.iter().map(|page| self.render(page)).collect();
        let images = rendered.iter_mut().filter_map(|image| image.as_mut().ok().map(std::mem::take)).collect();
        let mut encoded = self.encode_images(images).into_iter();
        let vectors = |(page, image): (&PageToEncode, Result<RgbImage, String>)| {
            image?;
            let vectors = encoded.next().unwrap_or_else(|| Err("the model gave no vectors".to_owned()))?;
            pool_page(vectors, pool_factor(page)).map_err(|error| error.to_string())
        };
        Ok(pages.iter().zip(rendered).map(vectors).collect())
    }
}
