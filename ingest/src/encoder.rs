//! What a page-and-query model offers to the rest of the program; one file per model implements it.

mod error;

pub use error::EncoderError;

use colqwen_index_field::{Fingerprint, PageVectors, QueryVectors};
use image::RgbImage;

/// A model that turns page images and query texts into multi-vectors that can be compared by MaxSim.
///
/// The dimension of the vectors is data ([`Encoder::dim`]), not a constant: models differ.
pub trait Encoder: Send + Sync {
    /// Values per token vector.
    fn dim(&self) -> usize;

    /// The identity of the pages this model makes; stored with every page.
    fn page_fingerprint(&self) -> Fingerprint;

    /// The identity of the queries this model makes: the same files as [`Encoder::page_fingerprint`], another domain.
    fn query_fingerprint(&self) -> Fingerprint;

    /// The page fingerprint of the pages that this model's queries are meant for: its own, unless the checkpoint was
    /// trained on the query side only and says whose pages it serves.
    fn serves_pages_of(&self) -> Fingerprint;

    /// The name of the form in which queries reach the model, recorded beside the vectors.
    fn query_format(&self) -> &str;

    /// The image sizes the model looks at, so that a renderer can choose a resolution.
    fn page_budget(&self) -> PageBudget;

    /// Whether the weights were ever trained. The ranking of an untrained model means nothing.
    fn is_trained(&self) -> bool {
        true
    }

    /// Encodes page images of any sizes, in order. A batch gives what single pages give. Every token the model saw is
    /// kept, prompt tokens included, and [`PageVectors::layout`] says which of them are patches.
    ///
    /// # Errors
    /// An image the model cannot take (a side of zero, an aspect ratio above 200), or a failure of the device.
    fn encode_pages(&self, pages: &[RgbImage]) -> Result<Vec<PageVectors>, EncoderError>;

    /// Encodes query texts, in order. A batch gives what single queries give.
    ///
    /// # Errors
    /// A query too long to be stored, or a failure of the device.
    fn encode_queries(&self, queries: &[&str]) -> Result<Vec<QueryVectors>, EncoderError>;
}

/// The sizes a page image is brought to before a model sees it: both sides a multiple of `factor`, the area between
/// `min_pixels` and `max_pixels`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageBudget {
    /// Pixels per side of one visual token.
    pub factor: u32,
    /// Smallest area, in pixels.
    pub min_pixels: u64,
    /// Largest area, in pixels: the largest number of visual tokens times `factor x factor`.
    pub max_pixels: u64,
}

impl PageBudget {
    /// The most visual tokens a page can take.
    pub fn max_visual_tokens(&self) -> u64 {
        self.max_pixels / (u64::from(self.factor) * u64::from(self.factor)).max(1)
    }
}
